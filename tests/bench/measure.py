"""One run: a fresh network namespace, the load, a proxy in its cgroup, and the figures of both."""

import ctypes
import fcntl
import functools
import json
import os
import socket
import struct
import subprocess
import time

import peers
from workloads import GIB

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

# The kernel's choice of ports: wide, for 10,000 sessions come in a second, and above all listeners.
PORT_RANGE = (10000, 65535)


def enter_namespace(congestion):
    """Moves this process, and what it starts from now on, to a network namespace of its own: ports,
    settings and TIME_WAITs of the last run stay behind; a namespace ends with its last process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise SystemExit(
            f"no network namespace: {os.strerror(number)}. Run as root (or with CAP_SYS_ADMIN)."
        )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = bytearray(struct.pack("16sH14x", b"lo", 0))
        fcntl.ioctl(handle, SIOCGIFFLAGS, request)
        flags = struct.unpack("16sH14x", request)[1] | IFF_UP
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))
    _sysctl("net/ipv4/ip_local_port_range", "{} {}".format(*PORT_RANGE))
    if congestion:
        _sysctl("net/ipv4/tcp_congestion_control", congestion)


def _sysctl(name, value):
    with open(f"/proc/sys/{name}", "w") as file:
        file.write(value)


def read_line(path):
    with open(path) as file:
        return file.readline().strip()


class Load:
    """bench_load as a child: stages() yields what it reaches, and sets `result` in the end."""

    def __init__(self, program, workload, target_ports, cpus, accounting):
        def addresses(ports):
            return ",".join(f"127.0.0.1:{port}" for port in ports)

        command = [
            program,
            f"--shape={workload.shape}",
            f"--target={addresses(target_ports)}",
            f"--servers={addresses(peers.SERVER_PORTS)}",
            f"--connections={workload.connections}",
            f"--warmup={workload.warmup}",
            f"--count={workload.count}",
            f"--rate={workload.rate}",
            "--limit=60",
        ]
        self.result = None
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=functools.partial(peers.prepare_child, accounting, cpus),
        )

    def stages(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.result = json.loads(line)
                return
            yield line.strip()
            try:
                self.process.stdin.write("\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                return

    def stop(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def _busy_seconds(cpus):
    """CPU seconds that anybody used on these CPUs, and those the hypervisor took."""
    busy = stolen = 0
    with open("/proc/stat") as file:
        for line in file:
            fields = line.split()
            if fields[0][:3] == "cpu" and fields[0][3:].isdigit() and int(fields[0][3:]) in cpus:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
                busy += user + nice + system + irq + softirq
                stolen += steal
    ticks = os.sysconf("SC_CLK_TCK")
    return busy / ticks, stolen / ticks


def _kernel_bytes():
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("SUnreclaim:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no SUnreclaim in /proc/meminfo")


class Sample:
    """What the accounting says at one moment."""

    def __init__(self, proxy, cpus):
        self.at = time.monotonic()
        self.cpu = proxy.cpu_seconds() if proxy else 0.0
        self.user, self.system = proxy.user_and_system_seconds() if proxy else (0.0, 0.0)
        self.rss = proxy.rss_bytes() if proxy else 0
        self.kernel = _kernel_bytes()
        self.own_kernel = proxy.kernel_bytes() if proxy else None
        self.busy, self.stolen = _busy_seconds(cpus)


def placement(mode, workload, cpus):
    """(the proxy's CPUs, the load's CPUs)."""
    if workload.workers > 1:
        return set(cpus[: workload.workers]), set(cpus[: workload.workers])
    return ({cpus[0]}, {cpus[0]}) if mode == "same" else ({cpus[1]}, {cpus[0]})


UNSTEADY = 0.06


def run_steady(settings, peer, workload, mode, logging, files):
    """run_once, repeated while the machine changes its speed meanwhile (the probes differ): such a
    run can't be scaled. Of all tries the steadiest is kept, whatever it measured."""
    tries = []
    while len(tries) < (1 if workload.kind == "idle" else settings.tries_max):
        record = run_once(settings, peer, workload, mode, logging, f"{files}-{len(tries)}")
        tries.append(record)
        if "error" in record or record["errors"] > 0:
            return record  # an error is a result, and never retried away
        if _unsteadiness(record) <= UNSTEADY:
            break
    best = min(tries, key=_unsteadiness)
    best["tries"] = len(tries)
    return best


def _unsteadiness(record):
    before, after = record["probe_before_us"], record["probe_after_us"]
    return abs(before - after) / min(before, after)


def run_once(settings, peer, workload, mode, logging, files):
    """A record of one run. "error" is in it when it failed as a whole; "errors" counts sessions."""
    proxy_cpus, load_cpus = placement(mode, workload, settings.cpus)
    record = {"peer": peer.name, "workload": workload.name, "mode": mode, "logging": logging}
    enter_namespace(settings.congestion)
    target = peers.SERVER_PORTS if peer.program is None else (peers.LISTEN_PORT,)
    load = Load(settings.load, workload, target, load_cpus, settings.accounting)
    proxy = None
    samples = {}
    try:
        for stage in load.stages():
            if stage == "listening" and peer.program is not None:
                proxy = peers.Running(
                    peer, workload, logging == "on", proxy_cpus, settings.accounting, files
                )
                proxy.wait_until_listening()
                time.sleep(settings.rest_s)
            samples[stage] = Sample(proxy, proxy_cpus | load_cpus)
            if stage == "held":
                # Without a proxy only the kernel's memory is asked for.
                time.sleep(settings.idle_settle_s if proxy else 1.0)
                samples["rest"] = Sample(proxy, proxy_cpus | load_cpus)
                time.sleep(settings.idle_hold_s if proxy else 0.1)
                samples["rested"] = Sample(proxy, proxy_cpus | load_cpus)
        result = load.result or {"error": "the load ended without a result"}
        if proxy and not proxy.alive():
            result["error"] = f"{peer.name} ended with status {proxy.process.returncode}"
        if "error" in result and proxy:
            said = proxy.said().strip()
            result["error"] += f"; {peer.name} said:\n{said[-2000:]}" if said else ""
    except peers.StartFailed as error:
        result = {"error": str(error)}
    finally:
        load.stop()
        if proxy:
            proxy.stop()
    record.update(result)
    if "error" in record:
        return record
    record["probe_us"] = (record["probe_before_us"] + record["probe_after_us"]) / 2
    if workload.kind == "idle":
        _add_idle(record, workload, samples)
    else:
        _add_cost(record, workload, samples["begin"], samples["end"])
    return record


def _add_cost(record, workload, begin, end):
    operations = max(1, record["operations"])
    cpu = end.cpu - begin.cpu
    units = operations / GIB if workload.kind == "bulk" else operations / 1e6
    record["cost_raw"] = cpu / units  # seconds per GiB, or microseconds per session or ping
    record["load_cost_raw"] = record["own_cpu_seconds"] / units
    amount = operations / GIB if workload.kind == "bulk" else operations
    record["per_second"] = amount / record["seconds"]
    record["rss_bytes"] = end.rss
    user, system = end.user - begin.user, end.system - begin.system
    record["user_share"] = user / (user + system) if user + system > 0 else 0.0
    span = end.at - begin.at
    foreign = end.busy - begin.busy - cpu - record["own_cpu_seconds"]
    record["foreign_cpu"] = max(0.0, foreign / span)
    record["stolen_cpu"] = (end.stolen - begin.stolen) / span


def _add_idle(record, workload, samples):
    base, rest, rested = samples["base"], samples["rest"], samples["rested"]
    record["rss_base_bytes"] = base.rss
    record["rss_bytes"] = rested.rss
    record["user_bytes"] = (rested.rss - base.rss) / workload.connections
    record["kernel_bytes"] = (rested.kernel - base.kernel) / workload.connections
    if rested.own_kernel is not None:
        record["own_kernel_bytes"] = (rested.own_kernel - base.own_kernel) / workload.connections
    record["idle_cpu_percent"] = 100 * (rested.cpu - rest.cpu) / (rested.at - rest.at)
