"""poise-balance: balance's command lines against servers."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import unittest

import addresses
import netns
import processes
from poised import BIN
from smtp_server import SmtpServer


def setUpModule():
    netns.enter()


class Balance:
    """poise-balance for the length of a with block; its log as text."""

    def __init__(self, *arguments):
        self._arguments = arguments
        self.lines = []

    def __enter__(self):
        self.process = processes.start(
            [str(BIN / "poise-balance"), *self._arguments], stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            processes.wait_until(
                lambda: " ready:" in self.log() or self.process.poll() is not None,
                what="ready", within=20,
            )
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.log()}")
        except BaseException:
            processes.kill_group(self.process)
            self.process.stderr.close()
            raise
        return self

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def log(self):
        return "".join(self.lines)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.code = self.process.wait(20)
        finally:
            processes.kill_group(self.process)
            self._reader.join(5)
            self.process.stderr.close()


def served(address, port, source="127.0.0.1"):
    """A whole session; the greeting."""
    with socket.create_connection((address, port), 10, (source, 0)) as client:
        client.settimeout(10)
        greeting = client.recv(4096)
        client.sendall(b"QUIT\r\n")
        with contextlib.suppress(ConnectionResetError):
            while client.recv(4096):
                pass
    return greeting


class CommandLine(unittest.TestCase):
    def setUp(self):
        with contextlib.ExitStack() as stack:
            self.servers = [stack.enter_context(SmtpServer(name)) for name in ("a", "b", "c")]
            self.addCleanup(stack.pop_all().close)
        self.hosts = ["%s:%d" % server.endpoint for server in self.servers]
        self.address = addresses.own_address()

    def greetings(self, count, source="127.0.0.1"):
        return [served(self.address, 25, source) for _ in range(count)]

    def test_round_robin_then_the_next_group(self):
        a, b, c = self.hosts
        with Balance("-b", self.address, "-f", "smtp", a, b, "!", c) as balance:
            first = self.greetings(6)
            self.assertEqual(2, len(set(first)), first)
            self.servers[0].die()
            self.servers[1].die()
            last = self.greetings(2)
            self.assertEqual(1, len(set(last)))
            self.assertNotIn(last[0], first)
            self.assertIn("commands: poisectl -s /run/poise/balance.25.", balance.log())
            path = f"/run/poise/balance.25.{self.address}.sock"
            shown = subprocess.run([str(BIN / "poisectl"), "-s", path, "show", "backends"],
                                   capture_output=True, text=True, timeout=20)
            self.assertEqual(0, shown.returncode, shown.stderr)
            self.assertIn("balance/g1c0", shown.stdout)
        self.assertEqual(0, balance.code, balance.log())
        self.assertFalse(os.path.exists(path))

    def test_a_hash_group_keeps_a_client(self):
        with Balance("-b", self.address, "25", *self.hosts, "%") as balance:
            for last in range(1, 6):
                self.assertEqual(1, len(set(self.greetings(3, f"127.0.1.{last}"))))
            many = {served(self.address, 25, f"127.0.2.{last}") for last in range(1, 40)}
            self.assertEqual(3, len(many))
        self.assertEqual(0, balance.code, balance.log())

    def test_maxc_spills_into_the_next_group(self):
        a, b, _ = self.hosts
        with Balance("-b", self.address, "25", f"{a}:1", "!", b):
            with socket.create_connection((self.address, 25), 10) as one:
                one.settimeout(10)
                first = one.recv(4096)
                self.assertNotEqual(first, served(self.address, 25))
                one.sendall(b"NOOP\r\n")
                self.assertTrue(one.recv(4096).startswith(b"250"))

    def test_what_is_wrong_is_said_and_exits_2(self):
        for arguments, words in (([], "usage"), (["25", "a", "b", "!", "c", "d", "%"], "one scheduler"),
                                 (["-c", "show", "25"], "poisectl"), (["25", "bad host"], "host")):
            with self.subTest(arguments):
                result = subprocess.run([str(BIN / "poise-balance"), *arguments], capture_output=True,
                                        text=True, timeout=20)
                self.assertEqual(2, result.returncode)
                self.assertIn(words, result.stderr)
        printed = subprocess.run([str(BIN / "poise-balance"), "--print-config", "imap2", "m1::16", "!", "m2"],
                                 capture_output=True, text=True, timeout=20)
        self.assertEqual(0, printed.returncode, printed.stderr)
        self.assertIn('"max_sessions": 16', printed.stdout)


if __name__ == "__main__":
    unittest.main()
