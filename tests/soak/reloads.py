"""A reload every second for five minutes under load: weights, backends, limits and listeners alternate.

Ledger exact, no session cut that the new configuration still allows (long ones are held open all the time), memory and
descriptors flat, no process left. Prints its figures.
"""

import collections
import contextlib
import json
import os
import pathlib
import socket
import statistics
import tempfile
import threading
import time
import unittest

import addresses
import mail_load
import netns
import processes
from ctl import Ctl
from poised import Poised, balanced

SECONDS = float(os.environ.get("POISE_SOAK_SECONDS", "300"))
RATE = 50  # sessions a second
HELD = 40  # sessions that stay open from the beginning to the end


def setUpModule():
    netns.enter()


class Held:
    """SMTP sessions that say NOOP every now and then."""

    def __init__(self, endpoint, count):
        self.failed = []
        self.noops = 0
        self._clients = []
        for _ in range(count):
            client = socket.create_connection(endpoint, 10)
            client.settimeout(20)
            assert client.recv(4096).startswith(b"220")
            self._clients.append(client)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()
        for client in self._clients:
            client.close()

    def _run(self):
        while not self._stopping.wait(1):
            for client in self._clients:
                try:
                    client.sendall(b"NOOP\r\n")
                    if not client.recv(4096).startswith(b"250"):
                        raise OSError("no 250")
                    self.noops += 1
                except OSError as error:
                    self.failed.append(str(error))
                    return


def variants(servers, admin, host):
    """Configurations that differ from one to the next in all that a reload can change."""
    made = []
    for number in range(8):
        config = balanced({"smtp": ("smtp", [server.endpoint for server in servers])}, workers=2, admin=admin)
        service, pool = config["services"][0], config["pools"][0]
        service["listen"] = [f"{host}:2541"] + ([f"{host}:2542"] if number % 2 else [])
        service["limits"] = {"sessions": 5000 + number}
        pool["scheduler"] = ("round_robin", "least_conn")[number // 4]
        backends = pool["backends"]
        backends[number % 3]["weight"] = 1 + number
        backends[(number + 1) % 3]["max_sessions"] = 0 if number % 2 else 1000
        if number % 3 == 2:
            del backends[number % 3]
        if number % 4 == 1:
            config["services"].append({**service, "name": "second", "listen": [f"{host}:2543"]})
        made.append(config)
    return made


def descriptors_and_threads(pid):
    return processes.open_fds(pid), len(os.listdir(f"/proc/{pid}/task"))


def children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


class Reloads(unittest.TestCase):
    def test_a_reload_a_second_is_no_event_for_anybody(self):
        host = addresses.own_address()
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(mail_load.LoadServer(name=name)) for name in ("a", "b", "c")]
            control = stack.enter_context(Ctl())
            configs = variants(servers, control.admin(), host)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="poise-soak-"))
            ledger = pathlib.Path(folder, "sent")
            poised = stack.enter_context(Poised(configs[0]))
            held = stack.enter_context(Held((host, 2541), HELD))
            report = {}

            def load():
                report.update(mail_load.run("smtp", (host, 2541), ledger=ledger, rate=RATE, duration=SECONDS + 2,
                                            timeout=SECONDS + 120))

            sender = threading.Thread(target=load)
            sender.start()
            memory, took, descriptors, cut = [], [], [], 0
            end = time.monotonic() + SECONDS
            number = 0
            while time.monotonic() < end:
                number += 1
                poised.rewrite(configs[number % len(configs)])
                begun = time.monotonic()
                view = control.json("reload")
                took.append(time.monotonic() - begun)
                self.assertTrue(view["done"], view)
                cut += view["cut"]
                memory.append(processes.resident_bytes(poised.pid))
                descriptors.append(descriptors_and_threads(poised.pid))
                self.assertEqual([], children(poised.pid))
                time.sleep(max(0, begun + 1 - time.monotonic()))
            sender.join()
            poised.rewrite(configs[0])
            control.json("reload")
            books = mail_load.compare(ledger, servers)
            lines = poised.events("session")
            quarter = len(memory) // 4
            early, late = statistics.median(memory[quarter : 2 * quarter]), statistics.median(memory[-quarter:])
            reasons = collections.Counter(line["close_reason"] for line in lines)
            figures = {
                "seconds": SECONDS, "reloads": number, "reload_seconds_median": statistics.median(took),
                "reload_seconds_max": max(took), "sessions": report["sessions"], "failures": mail_load.failures(report),
                "ledger": books, "held_sessions": HELD, "noops_on_held_sessions": held.noops,
                "held_sessions_lost": len(held.failed), "sessions_cut": cut, "close_reasons": dict(reasons),
                "resident_mib_second_quarter": early / 2**20, "resident_mib_last_quarter": late / 2**20,
                "resident_mib_max": max(memory) / 2**20, "descriptors_max": max(d for d, _ in descriptors),
                "threads": sorted({t for _, t in descriptors}),
            }  # fmt: skip
            print(json.dumps(figures, indent=1))
            self.assertGreater(number, SECONDS * 0.5)
            self.assertEqual({}, mail_load.failures(report))
            self.assertEqual((0, 0), (books["lost"], books["duplicated"]))
            self.assertEqual(books["accepted"], books["received"])
            self.assertEqual([], held.failed)
            self.assertEqual(0, cut)
            self.assertLessEqual(set(reasons), {"client_closed", "backend_closed"}, reasons)
            self.assertLess(late - early, 4 << 20, "memory grows with reloads")
            self.assertEqual(1, len(figures["threads"]))
            pid = poised.pid
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists(), "it is still there")


if __name__ == "__main__":
    unittest.main()
