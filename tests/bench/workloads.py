"""What is measured: each workload's load, size and unit."""

import dataclasses

GIB = 1024**3
MIB = 1024**2


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    kind: str  # sessions | bulk | ping | idle
    shape: str  # bench_load's word for it
    connections: int
    warmup: int
    count: int
    what: str
    rate: int = 0
    workers: int = 1

    @property
    def protocol(self):
        """poised's word for the service."""
        return "smtp" if self.kind in ("sessions", "idle") else "tcp"

    @property
    def needs_direct(self):
        """Whether the figure is a difference to no proxy at all."""
        return self.kind in ("ping", "idle")


def all_workloads(quick, workers, idle_sessions):
    """By name, in the order of the table."""
    scale = 1 if quick else 3
    w1 = "SMTP session with a 4 KiB message"
    w2 = "connect, greeting, QUIT"
    both = f"{workers} workers and all on {workers} CPUs"
    bulk_bytes = (384 if quick else 1024) * MIB
    workloads = [
        Workload("W1c64", "sessions", "smtp", 64, 800, 3000 * scale, f"{w1}, 64 at once"),
        Workload("W1c512", "sessions", "smtp", 512, 1500, 3000 * scale, f"{w1}, 512 at once"),
        Workload("W2c64", "sessions", "quit", 64, 1500, 5000 * scale, f"{w2}, 64 at once"),
        Workload("W2c512", "sessions", "quit", 512, 2000, 5000 * scale, f"{w2}, 512 at once"),
        Workload("W3down", "bulk", "bulk-down", 8, 64 * MIB, bulk_bytes, "bulk to 8 clients"),
        Workload("W3up", "bulk", "bulk-up", 8, 64 * MIB, bulk_bytes, "bulk from 8 clients"),
        Workload("W5c1", "ping", "ping", 1, 2000, 10000 * scale, "64-byte ping, one connection"),
        Workload("W5c1000", "ping", "ping", 1000, 2000, 5000 * scale,
                 "64-byte pings on 1,000 connections, 10,000 a second", rate=10000),
        Workload("W4idle", "idle", "idle", idle_sessions, 3200, 0,
                 f"{idle_sessions} idle SMTP sessions"),
        Workload(f"W1c512w{workers}", "sessions", "smtp", 512, 1500, 4000 * scale,
                 f"{w1}, 512 at once, {both}", workers=workers),
    ]
    return {workload.name: workload for workload in workloads}
