"""Health decides who gets new sessions: servers that are killed, frozen, busy, wrongly probed or moved in DNS."""

import collections
import contextlib
import os
import re
import signal
import socket
import tempfile
import threading
import time
import unittest

import bad_server
import ctl
import dns_server
import mailpool
import netns
import processes
import smtp_load
from poised import Poised, balanced
from smtp_server import SmtpServer

FAST = {"interval": "500ms", "fast_interval": "200ms", "down_interval": "500ms", "timeout": "2s"}
SETTLED = 0.2  # from the log line of a change to the last worker that knows it
SERVICE = {"timeouts": {"connect": "1s"}}
HTTP = {"socket": "off", "http": "127.0.0.1:0"}


def setUpModule():
    netns.enter()


def watched(backends, *, probe=None, protocol="smtp", **pool):
    pool = {"slow_start": "0s", "probe": {"type": protocol, **FAST, **(probe or {})}, **pool}
    return balanced(
        {protocol: (protocol, backends)}, service=SERVICE, pool=pool, shutdown={"drain": "1s"}
    )


class SwitchedServer(bad_server.BadServer):
    """Greets with `words`, which may change while it runs, and says yes to every command."""

    def __init__(self, words=b"220 switched ESMTP\r\n"):
        self.words = words
        super().__init__(self._converse)

    def _converse(self, connection):
        connection.sendall(self.words)
        while data := connection.recv(4096):
            if data.upper().startswith(b"QUIT"):
                connection.sendall(b"221 2.0.0 bye\r\n")
                return
            connection.sendall(b"250 ok\r\n")


class SlowServer(SwitchedServer):
    """Says 354 to SLOW, and takes four seconds to answer WORK."""

    def _converse(self, connection):
        connection.sendall(self.words)
        while data := connection.recv(4096):
            if data.startswith(b"WORK"):
                time.sleep(4)
                connection.sendall(b"250 done\r\n")
            else:
                connection.sendall(b"354 go on\r\n" if data.startswith(b"SLOW") else b"250 ok\r\n")


def greet(endpoint, source=None):
    """The greeting's first line as a client sees it; empty when none came."""
    with socket.create_connection(endpoint, 10, source and (source, 0)) as client:
        client.settimeout(10)
        line = b""
        while not line.endswith(b"\n"):
            chunk = client.recv(4096)
            if not chunk:
                break
            line += chunk
        with contextlib.suppress(OSError):
            client.sendall(b"QUIT\r\n")
        return line.decode().strip()


class Transitions(unittest.TestCase):
    def test_a_killed_postfix_is_out_after_fall_and_back_after_rise(self):
        """Real Postfix. While it is down no client's session even tries it."""
        with mailpool.MailPool(2) as pool, Poised(
            watched([server.endpoint("smtp") for server in pool])
        ) as poised:
            time.sleep(1)
            pool[0].kill_smtp()
            line = poised.wait_for_text("backend smtp/be1 up -> down: 3 of 3 failed", within=10)
            self.assertIn("efused", line)
            time.sleep(SETTLED)
            before = len(poised.events("session"))
            for n in range(10):
                result = smtp_load.session(poised.endpoint("smtp"), f"{n}@poise.test")
                self.assertIsNone(result.error)
            lines = poised.sessions(at_least=before + 10)[before:]
            self.assertEqual({"be2:ok"}, {each["tries"] for each in lines})
            pool[0].start_smtp()
            poised.wait_for_text("backend smtp/be1 down -> up: 2 of 2 good", within=20)
            for n in range(10):
                smtp_load.session(poised.endpoint("smtp"), f"b{n}@poise.test")
            served = {each["backend"] for each in poised.sessions(at_least=before + 20)[before + 10 :]}
            self.assertEqual({"be1", "be2"}, served)

    def test_ready_comes_after_the_first_verdicts(self):
        """A dead server is never tried, not even by the first session."""
        with SmtpServer("good") as good, Poised(
            watched([bad_server.refusing_endpoint(), good.endpoint])
        ) as poised:
            events = [each["words"] for each in poised.events("backend")]
            self.assertTrue(any("be1 checking -> down: 1 of 1 failed" in each for each in events))
            for _ in range(4):
                self.assertEqual("220 good ESMTP", greet(poised.endpoint("smtp")))
            lines = poised.sessions(at_least=4)
            self.assertEqual({"be2:ok"}, {each["tries"] for each in lines})

    def test_a_silent_server_does_not_hold_up_the_start(self):
        with bad_server.BadServer(bad_server.silence) as silent, SmtpServer("good") as good:
            began = time.monotonic()
            with Poised(watched([silent.endpoint, good.endpoint], probe={"timeout": "20s"})):
                took = time.monotonic() - began
        self.assertGreater(took, 2.5)
        self.assertLess(took, 6)

    def test_a_frozen_server_is_out_within_the_configured_time_and_back(self):
        """SIGSTOP: it accepts and never greets. interval + fall x timeout is the bound."""
        with SmtpServer("frozen") as frozen, SmtpServer("good") as good:
            with Poised(watched([frozen.endpoint, good.endpoint])) as poised:
                os.kill(frozen._process.pid, signal.SIGSTOP)
                began = time.monotonic()
                try:
                    line = poised.wait_for_text("be1 up -> down: 3 of 3 failed", within=15)
                    self.assertLess(time.monotonic() - began, 0.75 + 3 * 2 + 2)
                    time.sleep(SETTLED)
                    self.assertEqual("220 good ESMTP", greet(poised.endpoint("smtp")))
                finally:
                    os.kill(frozen._process.pid, signal.SIGCONT)
                poised.wait_for_text("be1 down -> up: 2 of 2 good", within=10)

    def test_a_busy_server_gets_no_new_sessions_while_it_says_so(self):
        with SwitchedServer() as switched, SmtpServer("good") as good:
            with Poised(watched([switched.endpoint, good.endpoint])) as poised:
                switched.words = b"421 4.3.2 too many connections\r\n"
                poised.wait_for_text(
                    "backend smtp/be1 up: busy, no new sessions while it says so: "
                    "421 4.3.2 too many connections"
                )
                time.sleep(SETTLED)
                for _ in range(6):
                    self.assertEqual("220 good ESMTP", greet(poised.endpoint("smtp")))
                switched.words = b"220 switched ESMTP\r\n"
                poised.wait_for_text("backend smtp/be1 up: no longer busy")
                time.sleep(SETTLED)
                greetings = {greet(poised.endpoint("smtp")) for _ in range(6)}
                self.assertIn("220 switched ESMTP", greetings)

    def test_busy_can_mean_down(self):
        with SwitchedServer() as switched, SmtpServer("good") as good:
            config = watched([switched.endpoint, good.endpoint], probe={"busy": "down"})
            with Poised(config) as poised:
                switched.words = b"421 4.3.2 service shutting down\r\n"
                poised.wait_for_text(
                    "backend smtp/be1 up -> down: 3 of 3 failed, last: "
                    "421 4.3.2 service shutting down"
                )

    def test_clients_greetings_stand_in_for_probes(self):
        """Ten probes in five quiet seconds; next to none while clients are greeted all the time."""
        with SwitchedServer() as server:
            with Poised(watched([server.endpoint], probe={"deep": "off"})) as poised:
                before = server.accepted
                time.sleep(5)
                quiet = server.accepted - before
                greet(poised.endpoint("smtp"))
                time.sleep(SETTLED)
                before, clients, end = server.accepted, 0, time.monotonic() + 5
                while time.monotonic() < end:
                    greet(poised.endpoint("smtp"))
                    clients += 1
                    time.sleep(0.05)
                busy = server.accepted - before - clients
        self.assertGreaterEqual(quiet, 8)
        self.assertLessEqual(quiet, 12)
        self.assertLessEqual(busy, 2)

    def test_on_down_lets_go_of_sessions_but_not_of_one_that_is_owed_an_answer(self):
        """`close` lets go at once, `keep` not at all; who waits for the server's answer gets it first."""
        for on_down, freed in (("close", True), ("keep", False)):
            with self.subTest(on_down), SwitchedServer() as server, SlowServer() as other:
                pool = watched([server.endpoint, other.endpoint], on_down=on_down, when_all_down="try")
                with Poised(pool) as poised, contextlib.ExitStack() as clients:
                    time.sleep(1)
                    sessions = [clients.enter_context(socket.create_connection(poised.endpoint("smtp"), 10))
                                for _ in range(6)]
                    for session in sessions:
                        session.settimeout(10)
                        self.assertIn(b"220", session.recv(4096))
                    owed = next(s for s in sessions if self.says(s, b"SLOW\r\n", b"354"))
                    owed.sendall(b"WORK\r\n")  # answered after a while
                    server.words = other.words = b"554 closed\r\n"
                    poised.wait_for_text("backend smtp/be2 up -> down", within=10)
                    poised.wait_for_text("backend smtp/be1 up -> down", within=10)
                    ended = [s for s in sessions if s is not owed and self.ends(s, 2)]
                    self.assertEqual(5 if freed else 0, len(ended))
                    self.assertEqual(b"250 done\r\n", owed.recv(4096))

    @staticmethod
    def says(session, command, expected):
        session.sendall(command)
        return session.recv(4096).startswith(expected)

    @staticmethod
    def ends(session, within):
        session.settimeout(within)
        try:
            return session.recv(4096) == b""
        except TimeoutError:
            return False

    def test_all_busy_is_not_nobody(self):
        with SwitchedServer() as one, SwitchedServer() as two:
            with Poised(watched([one.endpoint, two.endpoint], when_all_down="refuse")) as poised:
                one.words = two.words = b"421 4.3.2 busy\r\n"
                for name in ("be1", "be2"):
                    poised.wait_for_text(f"backend smtp/{name} up: busy")
                one.words = two.words = b"220 now\r\n"
                self.assertEqual("220 now", greet(poised.endpoint("smtp")))

    def test_flapping_is_counted_and_does_not_fill_the_log(self):
        stop = threading.Event()
        probe = {"interval": "100ms", "fast_interval": "100ms", "down_interval": "100ms"}
        with SwitchedServer() as flapping, SmtpServer("good") as good:

            def flap():
                while not stop.wait(0.3):
                    flapping.words = (
                        b"554 no\r\n" if flapping.words.startswith(b"220") else b"220 yes\r\n"
                    )

            config = watched([flapping.endpoint, good.endpoint], probe={**probe, "rise": 1, "fall": 1})
            with Poised(config) as poised:
                thread = threading.Thread(target=flap)
                thread.start()
                time.sleep(8)
                stop.set()
                thread.join()
                lines = [e for e in poised.events("backend") if "smtp/be1" in e["words"]]
                self.assertEqual(6, len(lines))

    def test_a_returning_server_starts_slowly(self):
        """In its first second it gets a tenth of its weight, not half of the sessions."""
        with SwitchedServer() as returning, SmtpServer("good") as good:
            with Poised(watched([returning.endpoint, good.endpoint], slow_start="10s")) as poised:
                returning.words = b"554 5.3.2 closed\r\n"
                poised.wait_for_text("be1 up -> down")
                returning.words = b"220 switched ESMTP\r\n"
                poised.wait_for_text("be1 down -> recovering: 2 of 2 good")
                time.sleep(SETTLED)
                early = collections.Counter(greet(poised.endpoint("smtp")) for _ in range(44))
                poised.wait_for_text("be1 recovering -> up: slow start is over", within=15)
                time.sleep(SETTLED)
                late = collections.Counter(greet(poised.endpoint("smtp")) for _ in range(44))
        self.assertLessEqual(early["220 switched ESMTP"], 12)
        self.assertGreaterEqual(early["220 switched ESMTP"], 1)
        self.assertEqual(22, late["220 switched ESMTP"])


class Harmless(unittest.TestCase):
    """Health never causes the outage."""

    def test_a_wrong_probe_on_all_is_said_aloud_and_mail_still_flows(self):
        with SmtpServer("a") as a, SmtpServer("b") as b:
            with Poised(watched([a.endpoint, b.endpoint], probe={"type": "imap"})) as poised:
                line = poised.wait_for_text("pool smtp: all 2 backends are down")
                self.assertIn("220 a ESMTP", line)
                self.assertIn("Clients are still tried on them (when_all_down: try)", line)
                with smtp_load.Load(poised.endpoint("smtp"), clients=4) as load:
                    time.sleep(2)
                self.assertGreater(len(load.results), 50)
                self.assertEqual([], [r for r in load.results if r.error])

    def test_when_all_down_refuse_refuses(self):
        with SmtpServer("a") as a:
            config = watched([a.endpoint], probe={"type": "imap"}, when_all_down="refuse")
            with Poised(config) as poised:
                poised.wait_for_text("pool smtp: its only backend is down")
                time.sleep(SETTLED)
                self.assertNotIn("220", greet(poised.endpoint("smtp")))
                self.assertEqual("no_backend", poised.sessions(at_least=1)[0]["refusal"])

    def test_a_refused_login_latches_and_takes_nobody_out(self):
        """Real Dovecot counts failed logins: one is made, not one a probe."""
        with mailpool.MailPool(2) as pool, tempfile.NamedTemporaryFile("w") as secret:
            secret.write("wrong\n")
            secret.flush()
            deep = {"interval": "1s", "login": {"user": "reader", "password_file": secret.name}}
            config = watched(
                [server.endpoint("imap") for server in pool],
                protocol="imap",
                probe={"tls": "starttls", "deep": deep, "timeout": "8s"},
            )
            config["admin"] = HTTP
            with Poised(config) as poised:
                poised.wait_for_text("refuses the deep probe's login", within=20)
                samples = ctl.metrics(poised)
                self.assertEqual(1, ctl.value(samples, "poise_probe_login_refused", pool="imap"))
                self.assertEqual(0, ctl.value(samples, "poise_probe_suspect", pool="imap"))
                time.sleep(5)
                changes = [e["words"] for e in poised.events("backend")]
                self.assertEqual([], [each for each in changes if "down" in each])
                for line in poised.lines:
                    self.assertNotIn("wrong", line)
                self.assertTrue(greet(poised.endpoint("imap")).startswith("* OK"))
            failures = sum(
                len(re.findall(r"auth failed|Password mismatch", server.log("imap")))
                for server in pool
            )
            self.assertLessEqual(failures, 4)

    def test_a_deep_probe_that_fails_everywhere_marks_the_pool_and_nobody(self):
        """Real Postfix, a recipient no server knows."""
        deep = {"interval": "1s", "rcpt": f"nosuch@{mailpool.DOMAIN}"}
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(mailpool.MailPool(2))
            config = watched([s.endpoint("smtp") for s in pool], probe={"deep": deep, "timeout": "8s"})
            config["admin"] = HTTP
            poised = stack.enter_context(Poised(config))
            line = poised.wait_for_text("pool smtp: probe_suspect", within=20)
            samples = ctl.metrics(poised)
            self.assertEqual(1, ctl.value(samples, "poise_probe_suspect", pool="smtp"))
            self.assertEqual(0, ctl.value(samples, "poise_probe_login_refused", pool="smtp"))
            self.assertIn("on all 2 backends at once", line)
            self.assertIn("no such user", line)
            time.sleep(3)
            self.assertEqual([], [e for e in poised.events("backend") if "down" in e["words"]])

    def test_a_missing_password_file_is_an_error_at_the_start(self):
        deep = {"login": {"user": "reader", "password_file": "/nonexistent/secret"}}
        config = watched(
            [("127.0.0.1", 1)], protocol="imap", probe={"tls": "starttls", "deep": deep}
        )
        with Poised(config, wait_ready=False) as poised:
            self.assertEqual(1, poised.wait(within=10))
            self.assertIn("/nonexistent/secret", poised.tail())


class Passive(unittest.TestCase):
    PASSIVE = {"fall": 3, "window": "5s", "max_ejected": 0.5}

    def test_what_two_networks_meet_ejects_and_the_verdict_expires(self):
        """No probe: clients' refused connects are all there is to go by."""
        with SmtpServer("dying") as dying, SmtpServer("good") as good:
            config = balanced(
                {"smtp": ("smtp", [dying.endpoint, good.endpoint])},
                service=SERVICE,
                pool={"slow_start": "0s", "passive": self.PASSIVE},
            )
            with Poised(config) as poised:
                dying.die()
                for _ in range(10):  # one network alone
                    self.assertEqual("220 good ESMTP", greet(poised.endpoint("smtp"), "127.7.1.1"))
                time.sleep(0.3)
                self.assertEqual([], [e for e in poised.events("backend") if "down" in e["words"]])
                for n in range(10):
                    greet(poised.endpoint("smtp"), f"127.7.{n}.1")
                poised.wait_for_text("smtp/be1 up -> down: 3 clients' connects failed within 5 s")
                time.sleep(SETTLED)
                count = len(poised.events("session"))
                for _ in range(6):
                    greet(poised.endpoint("smtp"))
                lines = poised.sessions(at_least=count + 6)[count:]
                self.assertEqual({"be2:ok"}, {each["tries"] for each in lines})
                poised.wait_for_text("smtp/be1 down -> up: tried again", within=15)

    def test_the_last_one_is_never_ejected(self):
        with SmtpServer("only") as only:
            config = balanced(
                {"smtp": ("smtp", [only.endpoint])},
                service=SERVICE,
                pool={"slow_start": "0s", "passive": self.PASSIVE},
            )
            with Poised(config) as poised:
                only.die()
                for n in range(10):
                    greet(poised.endpoint("smtp"), f"127.7.{n}.1")
                time.sleep(0.5)
                self.assertEqual([], [e for e in poised.events("backend") if "down" in e["words"]])


class Names(unittest.TestCase):
    """Backends given by name, a DNS server that changes its mind."""

    @contextlib.contextmanager
    def named(self, dns, endpoint, **pool):
        config = watched([f"mx.poise.test:{endpoint[1]}"], **pool)
        os.environ["POISE_DNS_SERVERS"] = dns.text
        try:
            with Poised(config) as poised:
                yield poised
        finally:
            del os.environ["POISE_DNS_SERVERS"]

    @staticmethod
    def server_at(address, port, name):
        words = f"220 {name} ESMTP\r\n".encode()
        server = SwitchedServer(words)
        server._listener.close()
        server._listener = socket.socket()
        server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server._listener.bind((address, port))
        server._listener.listen()
        server.endpoint = server._listener.getsockname()
        return server

    def test_a_name_that_moves_is_followed_and_failing_dns_changes_nothing(self):
        with self.server_at("127.9.0.1", 0, "old") as old, dns_server.DnsServer() as dns:
            with self.server_at("127.9.0.2", old.endpoint[1], "new"):
                dns.zone["mx.poise.test"] = ["127.9.0.1"]
                with self.named(dns, old.endpoint) as poised:
                    self.assertEqual("220 old ESMTP", greet(poised.endpoint("smtp")))
                    dns.mode = "servfail"
                    poised.wait_for_text("staying with 127.9.0.1", within=15)
                    self.assertEqual("220 old ESMTP", greet(poised.endpoint("smtp")))
                    dns.zone["mx.poise.test"] = ["127.9.0.2"]
                    dns.mode = "answer"
                    poised.wait_for_text("name mx.poise.test: 127.9.0.1 -> 127.9.0.2", within=20)
                    processes.wait_until(
                        lambda: greet(poised.endpoint("smtp")) == "220 new ESMTP", within=5
                    )
                    self.assertEqual([], [e for e in poised.events("backend") if "down" in e["words"]])

    def test_a_name_with_several_addresses_is_several_backends(self):
        with self.server_at("127.9.0.1", 0, "one") as one, dns_server.DnsServer() as dns:
            with self.server_at("127.9.0.2", one.endpoint[1], "two"):
                dns.zone["mx.poise.test"] = ["127.9.0.2", "127.9.0.1"]
                with self.named(dns, one.endpoint) as poised:
                    greetings = collections.Counter(
                        greet(poised.endpoint("smtp")) for _ in range(10)
                    )
                    lines = poised.sessions(at_least=10)
        self.assertEqual({"220 one ESMTP": 5, "220 two ESMTP": 5}, dict(greetings))
        self.assertEqual({"be1", "be1@127.9.0.2"}, {each["backend"] for each in lines})

    def test_a_name_without_an_address_is_down_until_it_has_one(self):
        with self.server_at("127.9.0.1", 0, "late") as late, dns_server.DnsServer() as dns:
            with self.named(dns, late.endpoint) as poised:
                poised.wait_for_text("name mx.poise.test: no address")
                poised.wait_for_text(
                    "be1 checking -> down: 1 of 1 failed, last: [its name has no address]"
                )
                self.assertNotIn("220", greet(poised.endpoint("smtp")))
                dns.zone["mx.poise.test"] = ["127.9.0.1"]
                processes.wait_until(
                    lambda: greet(poised.endpoint("smtp")) == "220 late ESMTP", within=20
                )


if __name__ == "__main__":
    unittest.main()
