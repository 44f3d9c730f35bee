"""loadgen/study/run in small: one server and poised, all well and one that answers 421; it writes what it found.

The study itself takes minutes and is run by hand; this shows that it runs, judges and reports.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from poised import BIN

STUDY = pathlib.Path(__file__).resolve().parents[2] / "loadgen/study/run"


class Study(unittest.TestCase):
    def test_rows_judgement_and_page(self):
        with tempfile.TemporaryDirectory(prefix="poise-study-test-") as folder:
            words = ["--quick", "--only", "single,poised", "--conditions", "well,busy", "--out", folder]
            done = subprocess.run(
                [STUDY, *words], capture_output=True, text=True, timeout=240, env=dict(os.environ, POISE_BIN_DIR=BIN)
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            rows = json.loads(pathlib.Path(folder, "results.json").read_text())
            page = pathlib.Path(folder, "report.html").read_text()
        found = [(row["way"], row["servers"], row["condition"]) for row in rows]
        self.assertEqual(
            found, [("single", 1, "well"), ("poised", 2, "well"), ("poised", 3, "well"), ("poised", 3, "busy")]
        )
        for row in rows:
            self.assertEqual((row["no_server"], row["lost"]), (0, 0), row)
            self.assertGreater(row["submits_per_second"], 0, row)
        self.assertIn("poised: 0 sessions found no server in 3 rows", done.stdout)
        self.assertIn("| none, best of ten tunings | 1 | 49.0 | 0.0 % |", done.stdout)
        self.assertIn("<svg", page)
        self.assertIn("holds</span>: poised: 0 sessions found no server", page)


if __name__ == "__main__":
    unittest.main()
