#!/usr/bin/env python3
"""The deliberate bugs of tests/sim/mutants.py still fit the sources; running it shows whether each is caught.."""

import subprocess
import sys
import unittest

from sources import ROOT


class Mutants(unittest.TestCase):
    def test_each_text_is_in_the_sources_once(self):
        listed = subprocess.run([sys.executable, "-B", ROOT / "tests/sim/mutants.py", "--list"],
                                capture_output=True, text=True, timeout=60)
        self.assertEqual((0, ""), (listed.returncode, listed.stderr))
        self.assertGreater(len(listed.stdout.split()), 20)


if __name__ == "__main__":
    unittest.main()
