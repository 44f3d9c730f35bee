"""Metrics equal to the truth: sessions of known kinds are made, so many of each, and the counters say exactly that, for
every close reason, retry reason, refusal reason and greeting class that can be provoked from outside."""

import contextlib
import socket
import threading
import unittest

import bad_server
import ctl
import netns
import processes
from bad_server import BadServer
from ctl import Ctl
from poised import Poised, endpoint_text
from smtp_server import SmtpServer

N = 3  # of each kind


def setUpModule():
    netns.enter()


def connected(endpoint, source="127.0.0.1"):
    client = socket.create_connection(endpoint, 20, (source, 0))
    client.settimeout(30)
    return client


def greeted(endpoint, source="127.0.0.1"):
    client = connected(endpoint, source)
    line = client.recv(4096)
    assert line.startswith(b"220"), line
    return client


def read_to_end(client):
    """All there is to read; b"" when the other side reset."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while block := client.recv(4096):
            said += block
    return said


def whole_session(endpoint, source="127.0.0.1"):
    with connected(endpoint, source) as client:
        line = client.recv(4096)
        client.sendall(b"QUIT\r\n")
        read_to_end(client)
    return line


def greet_then_reset(connection):
    """A reset in the middle of a session."""
    connection.sendall(b"220 short ESMTP\r\n")
    connection.recv(4096)
    bad_server.reset(connection)


greets = bad_server.say(b"220 silent ESMTP\r\n")  # and answers nothing


class Counted(unittest.TestCase):
    """Services with a pool each; what they are for is their name."""

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.ctl = self.stack.enter_context(Ctl())
        self.good = self.stack.enter_context(SmtpServer())
        self.services, self.pools = [], []

    def add(self, name, *backends, service=None, pool=None, protocol="smtp"):
        """The first backend is tier 0, the next ones are asked only when it failed."""
        endpoints = [getattr(each, "endpoint", each) for each in backends or (self.good,)]
        self.services.append({"name": name, "listen": ["127.0.0.1:0"], "protocol": protocol, "pool": name,
                              **(service or {})})
        self.pools.append({"name": name, "probe": "off", "passive": "off", "overflow": "queue", **(pool or {}),
                           "backends": [{"name": f"be{tier + 1}", "address": endpoint_text(endpoint), "tier": tier,
                                         **(pool or {}).get("each", {})} for tier, endpoint in enumerate(endpoints)]})
        self.pools[-1].pop("each", None)

    def bad(self, behaviour):
        return self.stack.enter_context(BadServer(behaviour))

    def start(self, **more):
        config = {"version": 1, "hostname": "mx.poise.test", "workers": 2, "admin": self.ctl.admin(),
                  "services": self.services, "pools": self.pools, **more}
        self.poised = self.stack.enter_context(Poised(config))
        return self.poised

    def endpoint(self, name):
        return self.poised.endpoint(name)

    def settled(self, count):
        """So many sessions have ended; the counters then."""
        self.poised.sessions(at_least=count, within=60)
        return ctl.metrics(self.poised)

    def assert_only(self, samples, metric, label, expected):
        """Of each service in `expected` there are just these series of `metric`, summed over its backends."""
        for service, wanted in expected.items():
            found = {}
            for (name, labels), value in samples.items():
                labels = dict(labels)
                if name == metric and labels["service"] == service and value:
                    found[labels[label]] = found.get(labels[label], 0) + value
            with self.subTest(metric=metric, service=service):
                self.assertEqual(wanted, found)


class CloseReasons(Counted):
    def test_each_counts_its_own_sessions(self):
        quick = {"timeouts": {"idle": "1s", "owed": "1s", "half_closed": "1s"}}
        self.add("backend_closed")
        self.add("client_closed", self.bad(lambda c: (greets(c), c.close())))
        self.add("client_reset")
        self.add("backend_reset", self.bad(greet_then_reset))
        self.add("idle_timeout", self.bad(greets), service=quick)
        self.add("owed_timeout", self.bad(greets), service=quick)
        self.add("half_closed_timeout", self.bad(never_ends), service=quick)
        self.add("client_gone", self.bad(bad_server.silence))
        self.add("refused", bad_server.refusing_endpoint())
        self.add("drained")
        self.add("kicked")
        door = threading.Event()
        self.add("backend_down", self.bad(lambda c: None if door.is_set() else greets(c)),
                 pool={"probe": {"interval": "200ms", "fast_interval": "200ms", "timeout": "5s", "fall": 1,
                                 "deep": "off"}, "on_down": "close"})
        self.start()
        at = self.endpoint
        for _ in range(N):
            whole_session(at("backend_closed"))
            with greeted(at("client_closed")) as client:
                client.shutdown(socket.SHUT_WR)
                read_to_end(client)
            bad_server.reset(greeted(at("client_reset")))
            with greeted(at("backend_reset")) as client:
                client.sendall(b"NOOP\r\n")
                read_to_end(client)
            with connected(at("refused")) as client:
                read_to_end(client)
        idle = [greeted(at("idle_timeout")) for _ in range(N)]
        owed = [greeted(at("owed_timeout")) for _ in range(N)]
        half = [greeted(at("half_closed_timeout")) for _ in range(N)]
        for client in owed:
            client.sendall(b"NOOP\r\n")
        for client in half:
            client.shutdown(socket.SHUT_WR)
        gone = [connected(at("client_gone")) for _ in range(N)]
        processes.wait_until(lambda: self.ctl.json("show", "sessions", "--service", "client_gone")["matching"] == N,
                             what="clients that wait for a greeting")
        for client in gone:
            client.close()
        drained = [greeted(at("drained")) for _ in range(N)]
        self.ctl.done("drain", "drained/be1", "--over", "1s")
        kicked = [greeted(at("kicked")) for _ in range(N)]
        self.ctl.done("kick", "--service", "kicked")
        down = [greeted(at("backend_down")) for _ in range(N)]
        door.set()
        for client in (*idle, *owed, *half, *drained, *kicked, *down):
            read_to_end(client)
            client.close()
        samples = self.settled(N * 12)
        self.assert_only(samples, "poise_sessions_total", "close_reason",
                         {service["name"]: {service["name"]: N} for service in self.services})
        self.assertEqual(12 * N, ctl.value(samples, "poise_sessions_total"))
        self.assertEqual(12 * N, ctl.value(samples, "poise_session_duration_seconds_count"))
        self.assertEqual(0, ctl.value(samples, "poise_sessions_active"))
        # The log and the pages say the same.
        self.assertEqual(sorted(service["name"] for service in self.services for _ in range(N)),
                         sorted(line["close_reason"] for line in self.poised.sessions()))
        for view in self.ctl.json("show", "services"):
            self.assertEqual((N, 0), (view["sessions_total"], view["sessions"]), view["name"])

    def test_what_a_stop_cuts_is_said(self):
        self.add("shutdown")
        self.start(shutdown={"drain": "1s"})
        clients = [greeted(self.endpoint("shutdown")) for _ in range(N)]
        self.assertEqual(0, self.poised.stop())
        for client in clients:
            client.close()
        self.assertEqual(["shutdown"] * N, [line["close_reason"] for line in self.poised.sessions()])
        self.poised.wait_for_text(f"{N} sessions served, 0 without a backend, {N} cut")


def never_ends(connection):
    """Greets, and does not care that the client has finished."""
    connection.sendall(b"220 stubborn ESMTP\r\n")
    with contextlib.suppress(OSError):
        while True:
            if not connection.recv(4096):
                connection.settimeout(30)
                threading.Event().wait(4)
                return


class RetryReasons(Counted):
    def test_each_counts_its_own_tries(self):
        self.add("refused", bad_server.refusing_endpoint(), self.good)
        self.add("unreachable", "192.0.2.1:25", self.good)
        hole = self.stack.enter_context(bad_server.black_hole())
        self.add("timeout", hole, self.good, service={"timeouts": {"connect": "200ms"}})
        self.add("reset", self.bad(bad_server.accept_and_reset), self.good)
        self.add("closed", self.bad(bad_server.accept_and_close), self.good)
        self.add("silent", self.bad(bad_server.silence), self.good, service={"greeting": {"timeout": "300ms"}})
        self.add("busy", self.bad(bad_server.busy), self.good)
        self.add("rejected", self.bad(bad_server.say(b"554 5.7.1 not you\r\n")), self.good,
                 service={"greeting": {"retry_5xx": True}})
        self.add("garbage", self.bad(bad_server.junk), self.good)
        self.add("local", self.good, self.good, pool={"source_address": "192.0.2.99"})
        self.start()
        for service in self.services:
            for _ in range(N):
                whole_session(self.endpoint(service["name"]))
        samples = self.settled(N * len(self.services))
        tries = {service["name"]: {service["name"]: N} for service in self.services}
        self.assert_only(samples, "poise_retries_total", "reason", tries)
        for service in tries:
            # From an address that is not ours no backend can be reached: the second try is no retry but a refusal.
            served_by = "be2" if service != "local" else ""
            self.assertEqual(N, ctl.value(samples, "poise_sessions_total", service=service, backend=served_by), service)
            self.assertEqual(N, ctl.value(samples, "poise_retries_total", service=service, backend="be1"), service)
        classes = {"busy": {"4yz": N, "good": N}, "rejected": {"5yz": N, "good": N}, "garbage": {"junk": N, "good": N},
                   "refused": {"good": N}}
        self.assert_only(samples, "poise_greetings_total", "class", classes)
        self.assertEqual(N, ctl.value(samples, "poise_refusals_total"))
        retries = {b["pool"]: b["retries"] for b in self.ctl.json("show", "backends") if b["name"] == "be1"}
        self.assertEqual({name: N for name in tries}, {name: retries[name] for name in tries})


class Greetings(Counted):
    def test_verdicts_pass_and_are_counted_by_class(self):
        self.add("5yz", self.bad(bad_server.say(b"554 5.7.1 not you\r\n")))
        self.add("421_policy", self.bad(bad_server.say(b"421 4.7.0 too many from you\r\n")))
        self.add("bye", self.bad(bad_server.say(b"* BYE full\r\n")), protocol="imap")
        self.start()
        for service in self.services:
            for _ in range(N):
                with connected(self.endpoint(service["name"])) as client:
                    client.recv(4096)
        samples = self.settled(3 * N)
        self.assert_only(samples, "poise_greetings_total", "class",
                         {service["name"]: {service["name"]: N} for service in self.services})


class RefusalReasons(Counted):
    def test_each_counts_its_own_clients(self):
        one = {"each": {"max_sessions": 1}}
        self.add("no_backend")
        self.add("all_failed", bad_server.refusing_endpoint())
        self.add("queue_full", pool={**one, "queue": "off"})
        self.add("queue_timeout", pool={**one, "queue": {"length": 10, "timeout": "300ms"}})
        self.add("denied", service={"deny": ["127.0.0.1"]})
        self.add("banned")
        self.add("sessions", service={"limits": {"sessions": 1}})
        self.add("source_sessions", service={"limits": {"sessions_per_source": 1}})
        self.add("source_rate", service={"limits": {"rate_per_source": "1/h"}})
        self.add("early_talker", self.bad(bad_server.slowly(b"", b"220 late\r\n", pause=2)),
                 service={"early_talk": "refuse"})
        self.add("proxy_header", service={"accept_proxy": True, "trusted_proxies": ["127.0.0.1/32"]})
        self.start()
        self.ctl.done("disable", "no_backend")
        self.ctl.done("ban", "add", "127.0.7.7")
        # One is inside, the others find the place taken.
        full = ("queue_full", "queue_timeout", "sessions", "source_sessions")
        inside = [greeted(self.endpoint(name)) for name in full]
        self.assertTrue(whole_session(self.endpoint("source_rate")).startswith(b"220"))
        for service in self.services:
            name = service["name"]
            for _ in range(N):
                with connected(self.endpoint(name), "127.0.7.7" if name == "banned" else "127.0.0.1") as client:
                    if name == "early_talker":
                        client.sendall(b"EHLO early\r\n")
                    if name == "proxy_header":
                        client.sendall(b"PROXY TCP4 nonsense\r\n")
                    said = client.recv(4096)  # whoever is told 554 may still say QUIT: the end comes later
                    self.assertFalse(said.startswith(b"220"), (name, said))
        for client in inside:
            client.sendall(b"QUIT\r\n")
            read_to_end(client)
            client.close()
        samples = self.settled(N * len(self.services) + len(full) + 1)
        self.assert_only(samples, "poise_refusals_total", "reason",
                         {service["name"]: {service["name"]: N} for service in self.services})
        self.assertEqual(N, ctl.value(samples, "poise_early_talkers_total", service="early_talker"))
        self.assertEqual(N * len(self.services), ctl.value(samples, "poise_sessions_total", close_reason="refused"))
        views = {view["name"]: view["refusals"] for view in self.ctl.json("show", "services")}
        self.assertEqual({service["name"]: N for service in self.services}, views)
        queue = "poise_queue_wait_seconds_count"
        self.assertEqual(N, ctl.value(samples, queue, pool="queue_timeout"))


if __name__ == "__main__":
    unittest.main()
