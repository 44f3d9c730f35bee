"""tests/bench/run against a stored run: what counts as worse. Pure, no benchmark runs.

Worse is what lies beyond all rounds of the stored run with all of its own; rounds that overlap are noise.
"""

import json
import pathlib
import sys
import unittest

BENCH = pathlib.Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import report  # noqa: E402


def spread(low, middle, high):
    return {"min": low, "median": middle, "max": high}


def entry(workload, **figures):
    where = {"workload": workload, "mode": "same", "logging": "off", "peer": "poised"}
    return {**where, "errors": 0, "failed_runs": 0, **figures}


class Stored(unittest.TestCase):
    def setUp(self):
        summary = [entry("W1", ratio=spread(0.75, 0.8, 0.82)), entry("W2", per_second_ratio=spread(1.05, 1.1, 1.2))]
        self.stored = report.to_store({"kernel": "6.1"}, summary, "poised")

    def worse(self, ratio, per_second_ratio):
        summary = [entry("W1", ratio=spread(*ratio)), entry("W2", per_second_ratio=spread(*per_second_ratio))]
        found, compared = report.regressions(self.stored, summary, "poised")
        self.assertEqual(compared, 2)
        return [sentence.split(",")[0] for sentence in found]

    def test_what_lies_apart_is_worse(self):
        self.assertEqual(["W1 same", "W2 same"], self.worse((0.88, 0.9, 0.95), (0.8, 0.9, 0.95)))

    def test_what_overlaps_or_is_better_is_not(self):
        self.assertEqual([], self.worse((0.8, 0.9, 1.0), (0.9, 1.0, 1.06)))
        self.assertEqual([], self.worse((0.5, 0.5, 0.5), (2.0, 2.0, 2.0)))

    def test_runs_with_errors_are_not_stored(self):
        bad = {**entry("W1", ratio=spread(1, 1, 1)), "errors": 1}
        self.assertEqual([], report.to_store({}, [bad], "poised")["figures"])

    def test_the_stored_run_is_one(self):
        stored = json.loads((BENCH / "stored.json").read_text())
        self.assertEqual({"time", "kernel", "peers"}, {"time", "kernel", "peers"} & set(stored["about"]))
        self.assertGreaterEqual(len(stored["figures"]), 5)


if __name__ == "__main__":
    unittest.main()
