#!/usr/bin/env python3
"""One worker of the active box hangs while the rest of poised goes on: its share of the clients waits in vain."""

import time
import unittest

import processes
from pair_lab import PairTest
from stuck import StuckThread


class StuckWorker(PairTest):
    edit = staticmethod(lambda config: config.update(workers=2))

    def test_moves_the_address(self):
        with StuckThread(self.one.pid, "worker-1"):
            # Asked every 3 s, and given as long to answer.
            self.moves("a worker hangs", time.monotonic(), limit=9)
            self.assertEqual(self.one.pair()["faults"], ["a worker does not answer"])
            self.assertEqual(self.one.pair()["role"], "fault")
            self.lab.one_has_it("lb2")
        # It goes on: the box is good again, and stays passive.
        processes.wait_until(lambda: self.one.pair()["faults"] == [], what="the fault is over")
        self.one.wait_for_text("worker 1 answers again")
        processes.wait_until(lambda: self.one.pair()["role"] == "backup", what="lb1 is backup")
        self.lab.one_has_it("lb2")


if __name__ == "__main__":
    unittest.main()
