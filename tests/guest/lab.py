#!/usr/bin/env python3
"""The guests do what tests rely on: output and exit code come back whole, nothing written stays, ip_vs is there, and a
command that does not end is ended, with a message."""

import os
import pathlib
import subprocess
import tempfile
import unittest

GUEST = pathlib.Path(__file__).with_name("guest")
KERNELS = ("qemu", "uml")


def run(kernel, script, *options):
    return subprocess.run(
        [GUEST, "--kernel", kernel, *options, "--", "bash", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
    )


class Guests(unittest.TestCase):
    def for_each_kernel(self, script, *options):
        for kernel in KERNELS:
            with self.subTest(kernel=kernel):
                yield kernel, run(kernel, script, *options)

    def test_output_and_exit_code_come_back(self):
        lines = "".join(f"line {i}\n" for i in range(1, 5001))
        for _, done in self.for_each_kernel(
            "for i in $(seq 5000); do echo line $i; done; printf end; exit 7"
        ):
            self.assertEqual(done.returncode, 7, done.stderr)
            self.assertEqual(done.stdout, lines + "end")

    def test_kernels_are_the_two_and_have_ip_vs(self):
        releases = {"qemu": "6.12.", "uml": "6.1."}
        for kernel, done in self.for_each_kernel("uname -r; cat /proc/net/ip_vs"):
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(done.stdout.startswith(releases[kernel]), done.stdout)
            self.assertIn("IP Virtual Server", done.stdout)

    def test_only_writable_directories_keep_what_is_written(self):
        with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as lost:
            os.chmod(kept, 0o777)
            for kernel, done in self.for_each_kernel(
                f"touch {lost}/file && echo $POISE_GUEST > {kept}/$POISE_GUEST", "--writable", kept
            ):
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertEqual(pathlib.Path(kept, kernel).read_text(), kernel + "\n")
                self.assertEqual(os.listdir(lost), [])

    def test_command_that_does_not_end_is_ended(self):
        for _, done in self.for_each_kernel("echo begun; sleep 1000", "--timeout", "40"):
            self.assertEqual(done.returncode, 124)
            self.assertEqual(done.stdout, "begun\n")
            self.assertIn("not done in 40", done.stderr)

    def test_guest_that_dies_says_so(self):
        for _, done in self.for_each_kernel("echo begun; sleep 0.2; echo c > /proc/sysrq-trigger; sleep 100"):
            self.assertEqual(done.returncode, 125, done.stdout)
            self.assertIn("the guest died", done.stderr)


if __name__ == "__main__":
    unittest.main()
