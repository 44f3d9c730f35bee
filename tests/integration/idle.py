"""Thousands of sessions that say nothing cost no CPU and little memory, and all of them still work afterwards."""

import contextlib
import resource
import socket
import time
import unittest

import processes
from poised import SCALE, Poised, balanced
from smtp_server import SmtpServer

WANTED = 4000 if SCALE == 1 else 300
SECONDS = 4


class Idle(unittest.TestCase):
    def test_idle_sessions_cost_no_cpu_and_still_work(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        count = min(WANTED, (hard - 600) // 2)
        self.assertGreater(count, 100, f"the fd limit, {hard}, is too low to show anything")

        with SmtpServer() as server, Poised(
            balanced({"smtp": ("smtp", [server.endpoint])}, shutdown={"drain": "5s"})
        ) as poised, contextlib.ExitStack() as stack:
            base = processes.resident_bytes(poised.pid)
            clients = []
            for _ in range(count):
                client = stack.enter_context(socket.create_connection(poised.endpoint("smtp"), 20))
                self.assertTrue(client.recv(4096).startswith(b"220"))
                clients.append(client)

            time.sleep(
                8 * min(1, SCALE * 10)
            )  # put to rest 5 s after their last word: a little work, once
            before = processes.cpu_seconds(poised.pid)
            time.sleep(SECONDS)
            spent = processes.cpu_seconds(poised.pid) - before
            grown = processes.resident_bytes(poised.pid) - base
            print(
                f"{count} idle sessions: {spent:.2f} s CPU in {SECONDS} s, "
                f"{grown / count:.0f} bytes resident each"
            )
            if SCALE == 1:
                self.assertLessEqual(spent, 0.02)
                self.assertLess(grown / count, 2048)

            for client in clients:
                client.sendall(b"NOOP\r\n")
            for client in clients:
                self.assertTrue(client.recv(4096).startswith(b"250"))
            for client in clients:
                client.close()
            reasons = {line["close_reason"] for line in poised.sessions(at_least=count, within=20)}
            self.assertEqual({"client_closed"}, reasons)


if __name__ == "__main__":
    unittest.main()
