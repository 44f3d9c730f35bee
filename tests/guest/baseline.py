#!/usr/bin/env python3
"""The proxy on kernel 6.1, the oldest it is for: tests of tests/integration once more, run inside the uml guest.

Chosen by time (a guest has one processor and 25 to 85 us a system call; all of them would take half an hour) so that
each io_uring operation the proxy uses is in: `lifecycle` (listeners, signals, drain), `relay` (receive, send, splice,
half-close, reset; of a fiftieth of its bytes), parts of `refusals` (answers, timers), `real_smtp` (Postfix).
"""

import os
import pathlib
import platform
import sys
import time
import unittest

CHOSEN = ("lifecycle", "relay", "refusals.Words", "refusals.Denied", "real_smtp")
SHARE = "0.02"
INTEGRATION = pathlib.Path(__file__).parents[1] / "integration"


def main():
    if not platform.release().startswith("6.1."):
        raise SystemExit(f"this is for kernel 6.1, not {platform.release()}")
    os.environ["POISE_TEST_SCALE"] = SHARE
    sys.path.insert(0, str(INTEGRATION))
    bad = 0
    for name in CHOSEN:
        began = time.monotonic()
        suite = unittest.defaultTestLoader.loadTestsFromName(name)
        result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(suite)
        print(f"-- {name}: {result.testsRun} tests in {time.monotonic() - began:.0f} s", flush=True)
        bad += not result.wasSuccessful() or result.testsRun == 0
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
