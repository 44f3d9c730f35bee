#!/usr/bin/env python3
"""Servers that a box of the pair doesn't reach: the address moves only when the other box does better, and not soon."""

import subprocess
import time
import unittest

import processes
from pair_lab import BOXES, Lab

BLIND_S = 45  # so long the other box must do better


class Site(Lab):
    """A pair, and what its boxes reach."""

    def start(self, enter):
        self.one, self.two = self.start_both(enter)
        processes.wait_until(lambda: (self.session() or "").startswith("220"), what="a session")

    def _nft(self, name, words):
        subprocess.run([*self.inside(name), "nft", words], check=True, capture_output=True)

    def blind(self, *names):
        for name in names:
            self._nft(name, "add table ip blind; add chain ip blind out { type filter hook output priority 0; }; "
                            "add rule ip blind out tcp dport 25 reject")

    def see(self, *names):
        for name in names:
            self._nft(name, "delete table ip blind")

    def words(self):
        return (self.session() or "nothing").split()[0]


class Blind(unittest.TestCase):
    def test_moves_only_where_it_helps(self):
        """Three pairs, as one would take three times as long. Of the first the active box alone reaches no server, of
        the second neither does, of the third the active one for a while, twice."""
        first, neither, brief = sites = [self.enterContext(Site(pool={"when_all_down": "refuse"})) for _ in range(3)]
        for site in sites:
            site.start(self.enterContext)
        begin = time.monotonic()
        first.blind("lb1")
        neither.blind(*BOXES)
        brief.blind("lb1")
        for site in sites:
            processes.wait_until(lambda site=site: site.words() == "421", within=20, what="a refusal")
        seen = brief
        while first.holders() != ["lb2"]:
            passed = time.monotonic() - begin
            self.assertLess(passed, BLIND_S + 20, "the address moves")
            for site in (neither, brief):
                self.assertEqual(site.holders(), ["lb1"])
            self.assertEqual(neither.words(), "421")
            if seen is brief and passed > BLIND_S / 2:
                seen = None
                brief.see("lb1")
                processes.wait_until(lambda: brief.one.backend("mx1")["state"] == "up", within=10, what="it sees")
                time.sleep(0.5)
                brief.blind("lb1")
            time.sleep(0.1)
        moved = time.monotonic() - begin
        print(f"FIGURE active box reaches no server: moved after {moved:.1f} s", flush=True)
        self.assertGreater(moved, BLIND_S)
        processes.wait_until(lambda: first.words() == "220", within=5, what="a session at the other box")
        first.one.wait_for_text("lb2 reaches pool mx and we don't")
        self.assertIsNone(seen, "the third one saw them in between")
        # Nor later, or back.
        end = time.monotonic() + 5
        while time.monotonic() < end:
            self.assertEqual([site.holders() for site in sites], [["lb2"], ["lb1"], ["lb1"]])
            self.assertEqual([neither.words(), brief.words()], ["421", "421"])
            time.sleep(0.2)
        self.assertEqual(first.words(), "220")
        # A box that is blind is no fault of it: it has the address when the other one is gone.
        self.assertEqual(first.one.pair()["faults"], [])
        processes.wait_until(lambda: first.one.pair()["role"] == "backup", what="the blind one is passive")


if __name__ == "__main__":
    unittest.main()
