"""What servers think of clients reaches the clients they mean: postscreen's verdicts, the stock limits per client."""

import concurrent.futures
import contextlib
import re
import socket
import time
import unittest

import mailpool
import processes
from mail_load import LoadServer
from poised import SCALE, Poised, balanced

QUICK_PROBE = {"type": "smtp", "interval": "1s", "fast_interval": "200ms", "deep": "off"}


def read_all(client):
    got = b""
    while piece := client.recv(4096):
        got += piece
    return got


class Postscreen(unittest.TestCase):
    """Two postscreen that enforce, told of the clients' addresses by PROXY headers. 127.66.0.0/16 is on their list."""

    @classmethod
    def setUpClass(cls):
        cls.pool = mailpool.MailPool(count=2)
        for server in cls.pool:
            server.postconf(
                "-e",
                "postscreen_greet_action=enforce",
                "postscreen_greet_wait=2s",
                "postscreen_access_list=cidr:{{127.66.0.0/16 reject}}",
                "postscreen_denylist_action=drop",
            )
            server.postconf(
                "-P", f"{server.postscreen}/inet/postscreen_upstream_proxy_protocol=haproxy"
            )
        cls.enterClassContext(cls.pool)

    def start(self, **service):
        backends = [server.endpoint("postscreen") for server in self.pool]
        config = balanced(
            {"smtp": ("smtp", backends)},
            workers=2,
            service=service,
            pool={"send_proxy": "v2", "probe": QUICK_PROBE},
        )
        poised = Poised(config)
        self.addCleanup(poised.__exit__, None, None, None)
        return poised.__enter__()

    def log(self):
        return "".join(server.log("smtp") for server in self.pool)

    def talk(self, poised, source, early):
        """All that a client reads whose first words come early, or after the greeting."""
        with socket.create_connection(
            poised.endpoint("smtp"), 15, source_address=(source, 0)
        ) as client:
            greeting = b""
            while not early and b"\n220 " not in greeting and (piece := client.recv(4096)):
                greeting += piece
            client.sendall(b"EHLO talker.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<u@lab.test>\r\nQUIT\r\n")
            return greeting + read_all(client)

    def test_an_early_talker_is_postscreens_to_judge(self):
        """Whether its words come before the teaser or cross it: they are passed on at once."""
        poised = self.start()
        sources = [f"127.67.0.{number + 1}" for number in range(8)]
        with concurrent.futures.ThreadPoolExecutor(8) as many:
            said = list(many.map(lambda source: self.talk(poised, source, early=True), sources))
            nice = self.talk(poised, "127.67.1.1", early=False)
        log = processes.wait_until(
            lambda: (log := self.log()).count("PREGREET") >= len(sources) and log, within=5
        )
        for source, words in zip(sources, said):
            self.assertRegex(log, rf"PREGREET \d+ after 0\.?\d* from \[{re.escape(source)}\]")
            self.assertNotIn(f"PASS NEW [{source}]", log)
            self.assertIn(b"550 5.5.1 Protocol error", words)  # to RCPT
        self.assertIn("PASS NEW [127.67.1.1]", log)
        self.assertTrue(nice.startswith(b"220-"))
        lines = poised.sessions(at_least=len(sources) + 1)
        self.assertEqual({1}, {line["tries"].count(":") for line in lines})

    def test_the_teaser_is_not_held_back(self):
        """Who holds the 220- back until the greeting is whole hides early talkers from postscreen."""
        poised = self.start()
        begun = time.monotonic()
        with socket.create_connection(
            poised.endpoint("smtp"), 10, source_address=("127.67.2.1", 0)
        ) as client:
            self.assertTrue(client.recv(4096).startswith(b"220-"))
            self.assertLess(time.monotonic() - begun, 1)

    def test_a_thousand_listed_clients_change_nothing(self):
        """Each reads its 521, from one server; nobody is tried twice, paused or taken out."""
        poised = self.start()
        count = max(50, round(1000 * SCALE))

        def refused(number):
            source = f"127.66.{number // 200}.{number % 200 + 1}"
            with socket.create_connection(
                poised.endpoint("smtp"), 20, source_address=(source, 0)
            ) as client:
                with contextlib.suppress(ConnectionResetError):  # postscreen ends with one
                    return client.recv(4096)
                return b""

        with concurrent.futures.ThreadPoolExecutor(32) as many:
            said = list(many.map(refused, range(count)))
        self.assertEqual({b"521"}, {words[:3] for words in said})
        self.assertEqual({b"\r\n"}, {words[-2:] for words in said})
        lines = poised.sessions(at_least=count, within=20)
        self.assertEqual({1}, {line["tries"].count(":") for line in lines})
        connected = re.findall(r"CONNECT from \[127\.66\.\d+\.\d+\]", self.log())
        self.assertEqual(count, len(connected))
        self.assertNotIn("gets no new sessions", poised.tail(10_000))
        self.assertNotIn("-> down", poised.tail(10_000))


class EarlyTalk(unittest.TestCase):
    """A server that takes 0.3 s to greet, and clients that speak at once."""

    def talk(self, early_talk):
        words = b"EHLO talker.test\r\nQUIT\r\n"
        with LoadServer(faults=["delay=300"]) as server:
            config = balanced({"smtp": ("smtp", [server.endpoint])}, service={"early_talk": early_talk})
            with Poised(config) as poised:
                with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                    client.sendall(words)
                    said = read_all(client)
                line = poised.sessions(at_least=1)[0]
        self.assertEqual("1", line["early"])
        return said, line

    def test_hold(self):
        said, line = self.talk("hold")
        self.assertRegex(said, rb"(?s)^220 .*\n250[ -].*\n221 ")
        self.assertGreater(float(line["greeting_s"]), 0.25)

    def test_pass(self):
        said, line = self.talk("pass")
        self.assertRegex(said, rb"(?s)^220 .*\n250[ -].*\n221 ")
        self.assertLess(float(line["greeting_s"]), 0.25)  # nobody else was tried from the first word on

    def test_refuse(self):
        said, line = self.talk("refuse")
        self.assertRegex(said, rb"^554 5\.5\.1 mx\.poise\.test ")
        self.assertEqual("early_talker", line["refusal"])


class StockLimits(unittest.TestCase):
    """Fifty sessions a client at Postfix, ten of a user from an address at Dovecot: to servers that see only us,
    everybody is one client."""

    @classmethod
    def setUpClass(cls):
        cls.pool = mailpool.MailPool(count=2, stock=True)
        for server in cls.pool:
            # Loopback is exempt as it comes; a balancer on another machine is not.
            server.postconf("-e", "smtpd_client_event_limit_exceptions=")
        cls.enterClassContext(cls.pool)

    def start(self, protocol, port, **pool):
        backends = [server.endpoint(port) for server in self.pool]
        return Poised(balanced({protocol: (protocol, backends)}, pool=pool, shutdown={"drain": "0s"}))

    def hold(self, poised, count, stack):
        """What that many clients, each from an address of its own, are greeted with; they stay."""
        said = []
        for number in range(count):
            client = stack.enter_context(
                socket.create_connection(
                    poised.endpoint("smtp"), 20, source_address=(f"127.68.0.{number + 1}", 0)
                )
            )
            said.append(client.recv(4096))
        return said

    def test_postfix_without_proxy_is_full_for_us(self):
        """Its 421 is not the client's: the other server is tried; when both are full the client reads what they say."""
        with self.start("smtp", "smtp") as poised, contextlib.ExitStack() as stack:
            said = self.hold(poised, 104, stack)
            served = sum(words.startswith(b"220") for words in said)
            self.assertEqual(100, served)
            for words in said[100:]:
                self.assertRegex(words, rb"^421 4\.7\.0 be\d\.lab\.test Error: too many connections from 127\.0\.0\.1")

    def test_postfix_with_proxy_sees_each_client(self):
        with self.start("smtp", "smtp_proxy", send_proxy="v2") as poised, contextlib.ExitStack() as stack:
            said = self.hold(poised, 110, stack)
            self.assertEqual(110, sum(words.startswith(b"220") for words in said))

    def test_postfix_with_proxy_refuses_the_one_that_has_too_many(self):
        """Then its 421 is a verdict on the client, passed on and not tried elsewhere."""
        with self.start("smtp", "smtp_proxy", send_proxy="v1") as poised, contextlib.ExitStack() as stack:
            greedy = []
            for _ in range(102):
                client = stack.enter_context(
                    socket.create_connection(
                        poised.endpoint("smtp"), 20, source_address=("127.69.0.1", 0)
                    )
                )
                greedy.append(client.recv(4096))
            for words in greedy[100:]:
                self.assertRegex(words, rb"^421 4\.7\.0 .* too many connections from 127\.69\.0\.1")
            other = stack.enter_context(
                socket.create_connection(poised.endpoint("smtp"), 20, source_address=("127.69.0.2", 0))
            )
            self.assertTrue(other.recv(4096).startswith(b"220"))

    def test_dovecot_counts_a_users_connections_by_what_it_sees(self):
        """A user with eleven connections from eleven places: refused without PROXY, welcome with it."""

        def logins(poised, count):
            with contextlib.ExitStack() as stack:
                for number in range(count):
                    client = stack.enter_context(
                        socket.create_connection(
                            poised.endpoint("imap"), 20, source_address=(f"127.68.1.{number + 1}", 0)
                        )
                    )
                    client.recv(4096)
                    client.sendall(b"a LOGIN same secret\r\n")
                    if b"a OK" not in client.recv(4096):
                        return number
                    client.sendall(b"b SELECT INBOX\r\n")  # a refusal may come behind the OK
                    said = b""
                    while b"b OK" not in said:
                        if not (piece := client.recv(4096)):
                            return number
                        said += piece
                return count

        for port, proxy, expected in (("imap", "off", 10), ("imap_proxy", "v2", 14)):
            config = balanced(
                {"imap": ("imap", [self.pool[0].endpoint(port)])},
                pool={"send_proxy": proxy},
            )
            with self.subTest(proxy), Poised(config) as poised:
                self.assertEqual(expected, logins(poised, 14))
        self.assertIn("Maximum number of connections from user+IP exceeded", self.pool[0].log("imap"))


if __name__ == "__main__":
    unittest.main()
