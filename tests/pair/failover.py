#!/usr/bin/env python3
"""What happens when the active box of a pair fails in each of its ways: real keepalived, network namespaces, a client
that connects every 20 ms. Prints the time without a greeting; docs/pair.md has the figures."""

import os
import signal
import subprocess
import time
import unittest

import processes
from pair_lab import HeldSession, PairTest


class DefaultAdverts(PairTest):
    """One advert a second, as it is when nothing is said."""

    advert = "1s"

    def test_network_cut(self):
        self.fails("network cut, adverts of 1 s", lambda: self.lab.cable("lb1", "down"), limit=10)

    def test_daemon_frozen(self):
        self.addCleanup(os.kill, self.one.pid, signal.SIGCONT)
        self.fails("daemon frozen, adverts of 1 s", lambda: os.kill(self.one.pid, signal.SIGSTOP), limit=10)


class Failover(PairTest):
    def test_daemon_killed(self):
        """SIGKILL; then it is started again and the address stays where it is."""
        self.fails("daemon killed", self.one.process.kill)
        self.one.wait()
        with self.lab.box("lb1") as again:
            processes.wait_until(again.in_sync, within=30, what="in sync again")
            self.lab.one_has_it("lb2")
            self.assertNotEqual(again.backend("mx3")["admin"], "enabled")
            self.assertEqual(again.pair()["role"], "backup")

    def test_daemon_frozen(self):
        """SIGSTOP: the process is there, its port answers, and nobody is served."""
        self.addCleanup(os.kill, self.one.pid, signal.SIGCONT)
        self.fails("daemon frozen", lambda: os.kill(self.one.pid, signal.SIGSTOP))
        os.kill(self.one.pid, signal.SIGCONT)
        processes.wait_until(self.one.in_sync, within=30, what="in sync again")
        self.lab.one_has_it("lb2")

    def test_daemon_frozen_without_its_guard(self):
        """Somebody has killed the guard, too: keepalived's own question finds out, more slowly."""
        kids = subprocess.check_output(["pgrep", "--parent", str(self.one.pid)], text=True).split()
        self.assertEqual(len(kids), 1)
        os.kill(int(kids[0]), signal.SIGKILL)
        self.addCleanup(os.kill, self.one.pid, signal.SIGCONT)
        self.fails("daemon frozen, its guard killed", lambda: os.kill(self.one.pid, signal.SIGSTOP), limit=15)

    def test_vrrp_is_filtered(self):
        """VRRP's packets are lost and the link is whole: both have the address for a moment, then one gives way, until
        the packets come through again."""
        for name in ("lb1", "lb2"):
            nft = ["nft", "add table ip pair; add chain ip pair in { type filter hook input priority 0; }; "
                          "add rule ip pair in ip protocol 112 drop"]
            subprocess.run([*self.lab.inside(name), *nft], check=True, capture_output=True)
        processes.wait_until(lambda: len(self.lab.holders()) == 2, within=20, what="both have it")
        processes.wait_until(lambda: self.lab.holders() == ["lb1"], within=20, what="lb2 gives way")
        self.assertIn("has them too", " ".join(self.two.pair()["faults"]))
        time.sleep(2)
        self.lab.one_has_it("lb1")
        for name in ("lb1", "lb2"):
            subprocess.run([*self.lab.inside(name), "nft", "delete table ip pair"], check=True, capture_output=True)
        self.lab.one_has_it("lb1")

    def test_network_cut(self):
        """The active box's cable: both are master until it is in again, then one is."""
        self.fails("network cut", lambda: self.lab.cable("lb1", "down"))
        self.two.wait_for_text("the link is lost", within=10)
        self.assertEqual(self.two.metric("poise_pair_in_sync"), {"": 0.0})
        self.lab.cable("lb1", "up")
        processes.wait_until(lambda: len(self.lab.holders()) == 1, within=20, what="one of them")
        time.sleep(3)
        holders = self.lab.holders()
        self.assertEqual(len(holders), 1)
        self.lab.one_has_it(holders[0])
        processes.wait_until(lambda: self.one.in_sync() and self.two.in_sync(), within=30, what="in sync again")

    def test_keepalived_stopped(self):
        self.fails("keepalived stopped", lambda: self.lab.stop_keepalived("lb1"))
        self.lab.one_has_it("lb2")
        processes.wait_until(lambda: self.one.pair()["role"] == "unknown", what="lb1 knows that keepalived is gone")

    def test_daemon_stopped(self):
        """SIGTERM: the address leaves first, so that nobody is refused."""
        begin = time.monotonic()
        self.one.signal(signal.SIGTERM)
        self.assertEqual(self.one.wait(), 0)
        self.moves("daemon stopped (SIGTERM)", begin)
        refused = [a for a in self.watch.attempts() if a[2].startswith("421")]
        self.assertEqual(refused, [])
        self.lab.one_has_it("lb2")

    def test_sessions_of_a_lost_address_end(self):
        """No packet comes for them any more; after 30 s they give back their places."""
        self.enterContext(HeldSession(self.lab))
        self.one.done("pair", "switch")
        begin = time.monotonic()
        time.sleep(15)
        # One that the watch began in that moment may be cut off, too.
        self.assertIn(self.one.json("status")["sessions"], (1, 2))
        processes.wait_until(lambda: self.one.json("status")["sessions"] == 0, within=40, what="its end")
        self.assertGreater(time.monotonic() - begin, 25)
        processes.wait_until(lambda: [s for s in self.one.events("session") if s["close_reason"] == "client_gone"],
                             what="its line in the log")

    def test_switch(self):
        """An operator's: says what it costs, and back."""
        self.enterContext(HeldSession(self.lab))
        self.assertRegex(self.one.done("pair", "switch", "--dry-run"), r"[1-9]\d* proxied sessions end")
        self.assertEqual(self.lab.holders(), ["lb1"])
        refused = self.two.ctl("pair", "switch")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("has no addresses to give away", refused.stderr)
        begin = time.monotonic()
        self.assertIn("lb2 has the addresses", self.one.done("pair", "switch", "--reason", "test"))
        self.moves("pair switch", begin)
        self.lab.one_has_it("lb2")
        processes.wait_until(lambda: self.one.pair()["role"] == "backup", what="lb1 is backup")
        self.assertEqual(self.one.metric("poise_vrrp_state")['instance="mail",state="backup"'], 1.0)
        self.assertEqual(self.two.metric("poise_vrrp_state")['instance="mail",state="master"'], 1.0)
        self.assertEqual(self.two.metric("poise_pair_in_sync"), {"": 1.0})
        self.two.done("pair", "switch")
        self.lab.one_has_it("lb1")

    def test_all_servers_dead(self):
        """Nothing moves: one box has the address, and clients read a refusal there."""
        self.lab.stop_servers()
        processes.wait_until(lambda: (self.lab.session() or "").startswith("421"), within=30, what="a refusal")
        for _ in range(40):
            self.assertEqual(self.lab.holders(), ["lb1"])
            time.sleep(0.1)
        self.assertTrue(self.lab.session().startswith("421"))


if __name__ == "__main__":
    unittest.main()
