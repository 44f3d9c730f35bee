#!/usr/bin/env python3
"""Everybody logs in at once after a failover: connect_rate and the queue keep the servers from being trampled."""

import json
import os
import subprocess
import time
import unittest

import poised
import processes
from pair_lab import VIP, Lab

LOGINS = int(os.environ.get("POISE_PAIR_LOGINS", "5000"))
RATE = 200  # new connections a second to each of three servers


class Storm(unittest.TestCase):
    def test_logins_after_a_failover(self):
        """All are served, none is refused, and no faster than the servers are said to take."""
        lab = self.enterContext(Lab(protocol="imap", pool={
            "backend": {"connect_rate": f"{RATE}/s"}, "queue": {"length": 2 * LOGINS, "timeout": "2m"}}))
        one, two = lab.start_both(self.enterContext)
        one.process.kill()
        one.wait()
        begin = time.monotonic()
        processes.wait_until(lambda: lab.has_address("lb2"), within=20, what="lb2 has the address")
        done = subprocess.run(
            [*lab.inside("client"), str(poised.BIN / "poise-load"), "run", "--protocol", "imap", "--target",
             f"{VIP}:143", "--sessions", str(LOGINS), "--clients", str(LOGINS), "--connect-timeout", "60",
             "--greeting-timeout", "120", "--timeout", "120", "--json", str(lab.folder / "load.json")],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
        took = time.monotonic() - begin
        self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])
        report = json.loads((lab.folder / "load.json").read_text())
        backends = two.json("show", "backends")
        served = {b["name"]: b["sessions_total"] for b in backends}
        print(f"FIGURE {LOGINS} logins after a failover: all served after {took:.1f} s; {served}", flush=True)
        self.assertEqual(sum(served.values()), LOGINS, report)
        self.assertEqual(two.json("show", "services")[0]["refusals"], 0)
        self.assertGreater(took, 0.8 * LOGINS / (3 * RATE), "no faster than the servers take")
        self.assertEqual({b["state"] for b in backends}, {"up"})


if __name__ == "__main__":
    unittest.main()
