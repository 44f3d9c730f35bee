"""Crowds: more clients than the servers have processes, and more sources than any table holds."""

import concurrent.futures
import contextlib
import itertools
import smtplib
import socket
import struct
import time
import unittest

import mailpool
import netns
import processes
import smtp_load
from mail_load import LoadServer
from poised import SCALE, Poised, balanced

PROBE = {
    "type": "smtp",
    "interval": "1s",
    "fast_interval": "500ms",
    "timeout": "3s",
    "deep": "off",
}


class Full(unittest.TestCase):
    """Three Postfix with 20 processes each and 200 clients (9 and 90 when smaller): the kernel accepts for a server
    that is full, and nobody greets until a process is free. Clients wait and are served; probes wait as long, and take
    nobody out."""

    def test_full_servers_are_not_down(self):
        clients, processes_each = (200, 20) if SCALE == 1 else (90, 9)
        pool = mailpool.MailPool(count=3)
        for server in pool:
            server.postconf("-F", f"{server.smtp}/inet/process_limit={processes_each}")
        config = balanced(
            {"smtp": ("smtp", [server.endpoint("smtp") for server in pool])},
            workers=2,
            pool={"probe": PROBE, "passive": {"fall": 3, "window": "10s"}},
        )
        with pool, Poised(config) as poised:
            began = time.monotonic()

            def one(number):
                return [
                    smtp_load.session(
                        poised.endpoint("smtp"), f"{number}-{n}@poise.test", timeout=120, pause=0.8
                    )
                    for n in range(3)
                ]

            with concurrent.futures.ThreadPoolExecutor(clients) as threads:
                results = list(itertools.chain(*threads.map(one, range(clients))))
            took = time.monotonic() - began
            log = poised.tail(10_000)
            lines = poised.sessions(at_least=len(results))

        self.assertEqual([], [r.error for r in results if r.error])
        self.assertNotIn("-> down", log)
        waited = sum(float(line["greeting_s"]) > 0.5 for line in lines)
        self.assertGreater(waited, len(lines) // 4, "the servers were not full")
        print(f"{len(results)} sessions in {took:.1f} s, {waited} waited more than 0.5 s for a process")


    def test_one_whose_long_sessions_hold_every_process_is_not_down(self):
        """It greets nobody, but its sessions live: taken for down, they would be let go."""
        pool = mailpool.MailPool(count=1)
        server = pool[0]
        server.postconf("-F", f"{server.smtp}/inet/process_limit=3")
        probe = {**PROBE, "timeout": "1s", "fall": 2}
        config = balanced({"smtp": ("smtp", [server.endpoint("smtp")])}, pool={"probe": probe})
        with pool, Poised(config) as poised, contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(smtplib.SMTP(*poised.endpoint("smtp"), timeout=20))
                for _ in range(3)
            ]
            for _ in range(40):  # time for six probes
                for client in clients:
                    self.assertEqual(250, client.noop()[0])
                time.sleep(0.25)
            self.assertNotIn("-> down", poised.tail(10_000))
            processes.wait_until(
                lambda: "-> down" in poised.tail(10_000), within=20, what="silent sessions are no sign of life"
            )


class Flood(unittest.TestCase):
    """One connection each from 100,000 addresses, with every table that remembers sources in use."""

    SOURCES = max(8000, round(100_000 * SCALE))

    def flood(self, endpoint, numbers):
        """Some at a time: each reads what it is told and leaves without a trace."""
        failed = 0
        for number in numbers:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.settimeout(20)
                client.bind((f"127.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}", 0))
                try:
                    client.connect(endpoint)
                    failed += not client.recv(512)
                except OSError:
                    failed += 1
        return failed

    def test_memory_stays_flat_and_others_are_served(self):
        netns.enter()
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(LoadServer("smtp", name=f"s{n}")) for n in (1, 2)]
            config = balanced(
                {"smtp": ("smtp", [server.endpoint for server in servers])},
                service={"limits": {"sessions_per_source": 50, "rate_per_source": "100/s"}},
                pool={"sticky": {"entries": 10_000, "prefix_v4": 32}},
            )
            poised = stack.enter_context(Poised(config))
            endpoint = poised.endpoint("smtp")
            others = stack.enter_context(smtp_load.Load(endpoint, clients=4, name="other"))
            self.flood(endpoint, range(200))  # buffers, pages
            pid = poised.process.pid
            sizes = [processes.resident_bytes(pid)]
            failed = 0
            threads = stack.enter_context(concurrent.futures.ThreadPoolExecutor(8))
            for fifth in range(5):
                first = self.SOURCES * fifth // 5
                last = self.SOURCES * (fifth + 1) // 5
                failed += sum(
                    threads.map(
                        lambda n: self.flood(endpoint, range(first + n, last, 8)), range(8)
                    )
                )
                sizes.append(processes.resident_bytes(pid))
            served = len(others.results)
            others_failed = [r.error for r in others.results if r.error]
        grown = [(size - sizes[0]) / 1048576 for size in sizes]
        print(
            f"{self.SOURCES} sources: {failed} unserved, {served} sessions of others; MiB more: "
            + " ".join(f"{each:.1f}" for each in grown)
        )
        self.assertEqual([], others_failed)
        self.assertGreater(served, 20)
        self.assertEqual(0, failed)
        self.assertLess(grown[-1], 24 if SCALE == 1 else 400)
        if SCALE == 1:  # by then the tables are as large as they get
            self.assertLess(grown[-1] - grown[-2], 0.5)


if __name__ == "__main__":
    unittest.main()
