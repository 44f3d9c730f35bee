"""More clients than there is room for: they are told so, nothing spins, and all is well when they leave."""

import contextlib
import resource
import socket
import time
import unittest

import poised as program
import processes
from poised import Poised, balanced
from smtp_server import SmtpServer

NOFILE = 1100
USABLE = (NOFILE - 512) // 2
TO_BE_TOLD = 100  # at once; there is room for 128 beyond the limit
QUICK = {"shutdown": {"drain": "2s"}}


class Exhaustion(unittest.TestCase):
    def test_clients_beyond_the_limit_are_told_so_and_served_later(self):
        with SmtpServer() as server, Poised(
            balanced({"smtp": ("smtp", [server.endpoint])}, **QUICK), nofile=NOFILE
        ) as poised, contextlib.ExitStack() as stack:
            clients = [self.client(poised, stack) for _ in range(USABLE + TO_BE_TOLD)]
            answers = [client.recv(4096) for client in clients]
            self.assertEqual(USABLE, sum(answer.startswith(b"220 ") for answer in answers))
            told = [answer.startswith(b"421 4.3.2 mx.poise.test ") for answer in answers]
            self.assertEqual(TO_BE_TOLD, sum(told))
            for client in (c for c, was_told in zip(clients, told) if was_told):
                self.assertEqual(b"", client.recv(4096))  # an EOF, not a reset
            self.assert_idle(poised)
            self.assert_recovers(poised, clients)
            self.assert_said(poised)

    def test_running_out_of_fds_for_real_neither_spins_nor_wedges_the_listener(self):
        """The limit is lowered under a running process, so that accept() itself fails."""
        with SmtpServer() as server, Poised(
            balanced({"smtp": ("smtp", [server.endpoint])}, **QUICK)
        ) as poised, contextlib.ExitStack() as stack:
            room = processes.open_fds(poised.pid) + 101
            _, hard = resource.prlimit(poised.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(poised.pid, resource.RLIMIT_NOFILE, (room, hard))
            # One after the other: 50 pairs fit. Those beyond are told so, from the spare descriptors.
            clients, served, told = [], [], 0
            for _ in range(70):
                client = self.client(poised, stack)
                clients.append(client)
                answer = self.answer(client)
                if answer.startswith(b"220"):
                    served.append(client)
                told += answer.startswith(b"421 4.3.2 ")
            self.assertGreaterEqual(len(served), 45)
            self.assertLess(len(served), 55)
            self.assertGreaterEqual(told, 4)
            self.assert_idle(poised)
            self.assert_said(poised)
            for client in served:  # those inside still work
                client.sendall(b"NOOP\r\n")
                self.assertTrue(client.recv(4096).startswith(b"250"))
            self.assert_recovers(poised, clients)

    @staticmethod
    def client(poised, stack):
        client = stack.enter_context(socket.socket())
        client.settimeout(20)
        client.connect(poised.endpoint("smtp"))
        return client

    @staticmethod
    def answer(client):
        """What comes within 0.3 s."""
        client.settimeout(0.3)
        try:
            return client.recv(4096)
        except (TimeoutError, ConnectionResetError):
            return b""
        finally:
            client.settimeout(20)

    def assert_said(self, poised):
        """The log says that clients are let go for want of room, and not once for each of them."""
        lines = [f for f in map(program.parsed, poised.lines) if f]
        warnings = [
            f for f in lines if f["level"] == "warning" and "running as root" not in f["words"]
        ]
        self.assertTrue(warnings, "clients were let go and the log does not say so")
        self.assertLess(len(warnings), 10, "one warning for each client")

    def assert_idle(self, poised):
        """Full, and nothing to do: two seconds cost next to nothing."""
        before = processes.cpu_seconds(poised.pid)
        time.sleep(2)
        self.assertLess(processes.cpu_seconds(poised.pid) - before, 0.3)

    def assert_recovers(self, poised, clients):
        for client in clients:
            client.close()
        processes.wait_until(
            lambda: self.greeting(poised).startswith(b"220"),
            within=20,
            what="a new client is greeted",
        )
        for _ in range(20):
            self.assertTrue(self.greeting(poised).startswith(b"220"))
        poised.assert_clean()

    @staticmethod
    def greeting(poised):
        with socket.create_connection(poised.endpoint("smtp"), 10) as client:
            with contextlib.suppress(ConnectionResetError):
                return client.recv(4096)
        return b""


if __name__ == "__main__":
    unittest.main()
