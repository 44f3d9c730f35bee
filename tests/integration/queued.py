"""The queue: when every server is full clients wait in order, whichever worker they came to, no longer than told."""

import concurrent.futures
import contextlib
import select
import socket
import time
import unittest

import mail_load
import processes
from mail_load import LoadServer
from poised import Poised, balanced


class Queue(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def start(self, backends, *, length=100, timeout="20s", **pool):
        """`backends` is [more keys for each]; two workers."""
        servers = [self.stack.enter_context(LoadServer(name=f"be{n}")) for n, _ in enumerate(backends, 1)]
        config = balanced(
            {"smtp": ("smtp", [server.endpoint for server in servers])},
            workers=2,
            pool={"queue": {"length": length, "timeout": timeout}, **pool},
            shutdown={"drain": "1s"},
        )
        for backend, keys in zip(config["pools"][0]["backends"], backends):
            backend.update(keys)
        self.poised = self.stack.enter_context(Poised(config))

    def client(self):
        client = self.stack.enter_context(socket.create_connection(self.poised.endpoint("smtp"), 10))
        client.settimeout(10)
        return client

    def greeted(self, count):
        """That many clients inside."""
        clients = [self.client() for _ in range(count)]
        for client in clients:
            self.assertTrue(client.recv(4096).startswith(b"220"))
        return clients

    def in_line(self, count):
        """That many clients that wait, the first come first."""
        clients = []
        for _ in range(count):
            clients.append(self.client())
            time.sleep(0.03)  # so that the order is no matter of which worker was quicker
        self.assertEqual([], select.select(clients, [], [], 0.1)[0])
        return clients

    def test_clients_are_served_in_the_order_they_came(self):
        self.start([{"max_sessions": 1}, {"max_sessions": 1}])
        inside = self.greeted(2)
        waiting = self.in_line(30)
        for turn in range(len(waiting)):
            inside.pop(0).close()
            self.assertTrue(waiting[turn].recv(4096).startswith(b"220"))
            self.assertEqual([], select.select(waiting[turn + 1 :], [], [], 0.02)[0])
            inside.append(waiting[turn])

    def test_limits_hold_and_everybody_is_served_under_load(self):
        self.start([{"max_sessions": 3}, {"max_sessions": 2}], timeout="60s", length=1000)
        report = mail_load.run("smtp", self.poised.endpoint("smtp"), clients=100, sessions=1500)
        self.assertEqual({}, mail_load.failures(report))
        waited = [line for line in self.poised.sessions(at_least=1500) if float(line["queue_s"]) > 0]
        self.assertGreater(len(waited), 500)

    def test_too_long_a_wait_is_refused_with_words(self):
        self.start([{"max_sessions": 1}], timeout="1s")
        self.greeted(1)
        begun = time.monotonic()
        client = self.client()
        self.assertRegex(client.recv(4096), rb"^421 4\.3\.2 mx\.poise\.test ")
        self.assertLess(0.95, time.monotonic() - begun)
        self.assertLess(time.monotonic() - begun, 3)
        client.close()
        line = self.poised.sessions(at_least=1)[0]
        self.assertEqual("queue_timeout", line["refusal"])
        self.assertGreater(float(line["queue_s"]), 0.9)

    def test_beyond_its_length_clients_are_refused_at_once(self):
        self.start([{"max_sessions": 1}], length=3)
        (inside,) = self.greeted(1)
        waiting = self.in_line(3)
        client = self.client()
        self.assertRegex(client.recv(4096), rb"^421 4\.3\.2 ")
        client.close()
        self.assertEqual("queue_full", self.poised.sessions(at_least=1)[0]["refusal"])
        inside.close()
        self.assertTrue(waiting[0].recv(4096).startswith(b"220"))

    def test_who_gives_up_leaves_the_line(self):
        self.start([{"max_sessions": 1}], length=3)
        (inside,) = self.greeted(1)
        first, second, third = self.in_line(3)
        first.close()
        third.close()
        self.poised.sessions(at_least=2)  # both are gone
        (fourth, fifth) = self.in_line(2)  # and so there is room
        inside.close()
        self.assertTrue(second.recv(4096).startswith(b"220"))
        second.close()
        self.assertTrue(fourth.recv(4096).startswith(b"220"))
        fourth.close()
        self.assertTrue(fifth.recv(4096).startswith(b"220"))
        lines = [line for line in self.poised.sessions() if line["close_reason"] == "client_gone"]
        self.assertEqual(2, len(lines))

    def test_connect_rate(self):
        """Two servers, five a second each: thirty clients are all served, and not at once."""
        self.start([{"connect_rate": "5/s"}, {"connect_rate": "5/s"}])
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(30) as many:
            inside = list(many.map(lambda _: self.greeted(1), range(30)))
        self.assertEqual(30, len(inside))
        self.assertLess(1.5, time.monotonic() - begun)  # each may give its first second's share at once
        self.assertLess(time.monotonic() - begun, 6)

    def test_overflow_to_the_next_tier(self):
        self.start([{"max_sessions": 2}, {"tier": 1, "max_sessions": 2}], overflow="next_tier")
        inside = self.greeted(4)
        (waits,) = self.in_line(1)
        for client in inside:
            client.close()
        self.assertTrue(waits.recv(4096).startswith(b"220"))
        where = [line["backend"] for line in self.poised.sessions(at_least=4)]
        self.assertEqual(2, where.count("be2"))

    def test_overflow_queue_leaves_the_next_tier_alone(self):
        self.start([{"max_sessions": 2}, {"tier": 1}], overflow="queue")
        inside = self.greeted(2)
        waiting = self.in_line(2)
        for client in inside:
            client.close()
        for client in waiting:
            self.assertTrue(client.recv(4096).startswith(b"220"))
            client.close()
        where = {line["backend"] for line in self.poised.sessions(at_least=4)}
        self.assertEqual({"be1"}, where)

    def test_no_place_is_lost_when_everybody_leaves_at_once(self):
        self.start([{"max_sessions": 2}], timeout="30s")
        for _ in range(5):
            inside = self.greeted(2)
            waiting = self.in_line(4)
            for client in [*inside, *waiting]:
                client.close()
        processes.wait_until(lambda: len(self.poised.events("session")) >= 30)
        self.greeted(2)


if __name__ == "__main__":
    unittest.main()
