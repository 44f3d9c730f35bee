#!/usr/bin/env python3
"""What the passive box knows of the servers, and what it does with it when it becomes the active one."""

import subprocess
import time
import unittest

import processes
from pair_lab import SOURCES, Lab

PROBE_TIMEOUT_S = 8


def edit(config):
    config["pair"]["pace"] = "1h"
    config["pools"][0]["probe"]["timeout"] = f"{PROBE_TIMEOUT_S}s"


class Promotion(unittest.TestCase):
    def setUp(self):
        self.lab = self.enterContext(Lab(edit=edit))
        self.one, self.two = self.lab.start_both(self.enterContext)

    def probes(self, box):
        return sum(box.metric("poise_probes_total").values())

    def probed_within(self, seconds):
        """How many probes each box makes meanwhile."""
        before = [self.probes(box) for box in (self.one, self.two)]
        time.sleep(seconds)
        return [self.probes(box) - was for box, was in zip((self.one, self.two), before)]

    def states(self, box):
        return [box.backend(name)["state"] for name in ("mx1", "mx2", "mx3")]

    def test_pace(self):
        """The passive box probes seldom, the active one as its pool says; a switch swaps them."""
        # What one has begun before it learned its role has come to its end.
        processes.wait_until(lambda: self.states(self.two) == ["up"] * 3, what="first verdicts")
        active, passive = self.probed_within(5)
        print(f"FIGURE probes in 5 s, active and passive box: {active:.0f}, {passive:.0f}", flush=True)
        self.assertGreaterEqual(active, 9)
        self.assertEqual(passive, 0)
        self.one.done("pair", "switch")
        processes.wait_until(lambda: self.one.pair()["role"] == "backup", what="lb1 is backup")
        passive, active = self.probed_within(5)
        self.assertGreaterEqual(active, 9)
        self.assertEqual(passive, 0)

    def test_first_verdicts_are_the_peers(self):
        """One server is silent, which our own probes find out late, and one only the other box didn't reach: the first
        gets nobody from the beginning, the second is served to as soon as a probe of our own was good."""
        landed = self.lab.servers_of(SOURCES[:6])
        of_silent = [source for source in landed if landed[source] == "mx1"]
        self.assertTrue(of_silent)
        processes.wait_until(lambda: len(self.two.json("show", "sticky")["entries"]) >= len(landed),
                             what="the sticky table is known to lb2")
        subprocess.run([*self.lab.inside("lb1"), "nft", "add table ip t; add chain ip t out "
                        "{ type filter hook output priority 0; }; add rule ip t out ip daddr 10.77.0.7 reject"],
                       check=True, capture_output=True)
        self.lab.cable("mx1", "down")
        processes.wait_until(lambda: self.states(self.one) == ["down", "up", "down"], within=40, what="lb1 finds out")
        self.assertEqual(self.states(self.two), ["up"] * 3, "lb2 can't know yet")
        self.one.done("pair", "switch")
        begin = time.monotonic()
        self.assertEqual(self.states(self.two)[0], "up")
        waited = []
        # Those that were on the silent one before, then clients that are new.
        for source in [*of_silent, *SOURCES[6:], *SOURCES[6:]]:
            if self.states(self.two)[0] == "down":
                break
            before = time.monotonic()
            self.assertRegex(self.lab.session(source) or "nothing", "^220 mx[23]")
            waited.append(time.monotonic() - before)
            time.sleep(1)
        self.assertEqual(self.states(self.two)[0], "down", "our own verdict")
        own = time.monotonic() - begin
        self.assertGreater(own, PROBE_TIMEOUT_S, "the probes' timeouts")
        self.assertEqual(sum(self.two.metric("poise_retries_total").values()), 0, "nobody was tried there in vain")
        print(f"FIGURE silent server after a switch: own verdict after {own:.1f} s; until then {len(waited)} sessions, "
              f"the slowest greeted in {max(waited):.2f} s", flush=True)
        self.assertGreater(self.two.backend("mx3")["sessions_total"], 0, "a hint ends with a good probe of our own")


if __name__ == "__main__":
    unittest.main()
