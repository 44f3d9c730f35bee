"""A client that cannot be served is told so in its own protocol, and real clients understand it: a temporary failure
with our text, never a wrong password, a broken server or a reset.
"""

import concurrent.futures
import contextlib
import imaplib
import os
import pathlib
import poplib
import smtplib
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

import bad_server
import mail_load
import processes
from mail_load import LoadServer
from poised import Poised, balanced, endpoint_text

TEXT = "Back at noon"
PROTOCOLS = ("smtp", "submission", "lmtp", "imap", "pop3", "managesieve", "smtps", "imaps", "pop3s")
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x50"


def nobody(**service):
    """Every protocol, no server anywhere."""
    pools = {name: (name, [bad_server.refusing_endpoint()]) for name in PROTOCOLS}
    return balanced(pools, service=service, shutdown={"drain": "1s"})


def read_all(client):
    got = b""
    while piece := client.recv(4096):
        got += piece
    return got


def open_from(source, endpoint):
    return socket.create_connection(endpoint, 10, source_address=(source, 0))


class RealClients(unittest.TestCase):
    """With no server."""

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.home = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory()))

    def run_client(self, *command):
        environment = {**os.environ, "HOME": str(self.home), "FETCHMAILHOME": str(self.home), "LC_ALL": "C"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, env=environment, stdin=subprocess.DEVNULL
        )
        return done.returncode, done.stdout + done.stderr

    def test_swaks(self):
        with Poised(nobody(refusal={"text": TEXT})) as poised:
            server = endpoint_text(poised.endpoint("smtp"))
            code, said = self.run_client("swaks", "--server", server, "--to", "a@x.test", "--from", "b@x.test")
        self.assertEqual(21, code)  # its manual: error reading the banner
        self.assertIn(f"<** 421 4.3.2 mx.poise.test {TEXT}", said)

    def test_curl(self):
        expected = {
            "smtp": (8, f"421 4.3.2 mx.poise.test {TEXT}"),  # 8: a reply it cannot go on after
            "imap": (8, f"* BYE [UNAVAILABLE] {TEXT}"),
            "pop3": (8, f"-ERR [SYS/TEMP] Service unavailable: {TEXT}"),
            "smtps": (35, "alert internal error"),  # 35: no TLS connection
            "imaps": (35, "alert internal error"),
            "pop3s": (35, "alert internal error"),
        }
        with Poised(nobody(refusal={"text": TEXT})) as poised:
            for protocol, (status, words) in expected.items():
                with self.subTest(protocol):
                    url = f"{protocol}://user:word@{endpoint_text(poised.endpoint(protocol))}"
                    code, said = self.run_client("curl", "-sSvk", url)
                    self.assertEqual(status, code, said)
                    self.assertIn(words, said)

    def test_python(self):
        expected = {
            "smtp": (smtplib.SMTP, smtplib.SMTPConnectError, f"4.3.2 mx.poise.test {TEXT}"),
            "submission": (smtplib.SMTP, smtplib.SMTPConnectError, f"4.3.2 mx.poise.test {TEXT}"),
            "lmtp": (smtplib.LMTP, smtplib.SMTPConnectError, f"4.3.2 mx.poise.test {TEXT}"),
            "imap": (imaplib.IMAP4, imaplib.IMAP4.error, f"* BYE [UNAVAILABLE] {TEXT}"),
            "pop3": (poplib.POP3, poplib.error_proto, f"-ERR [SYS/TEMP] Service unavailable: {TEXT}"),
            "smtps": (smtplib.SMTP_SSL, ssl.SSLError, "ALERT_INTERNAL_ERROR"),
            "imaps": (imaplib.IMAP4_SSL, ssl.SSLError, "ALERT_INTERNAL_ERROR"),
            "pop3s": (poplib.POP3_SSL, ssl.SSLError, "ALERT_INTERNAL_ERROR"),
        }
        with Poised(nobody(refusal={"text": TEXT})) as poised:
            for protocol, (client, error, words) in expected.items():
                with self.subTest(protocol):
                    with self.assertRaises(error) as caught:
                        client(*poised.endpoint(protocol))
                    self.assertIn(words, str(caught.exception))
                    if error is smtplib.SMTPConnectError:
                        self.assertEqual(421, caught.exception.smtp_code)

    def test_fetchmail(self):
        """It calls most greetings with -ERR a wrong password, and stops asking after some: not ours."""
        socket_error, server_busy = 2, 14
        for text in ("", TEXT):
            with self.subTest(text), Poised(nobody(refusal={"text": text})) as poised:
                for protocol, status in (("imap", socket_error), ("pop3", server_busy)):
                    host, port = poised.endpoint(protocol)
                    config = self.home / "fetchmailrc"
                    config.write_text(
                        f'poll {host} protocol {protocol} port {port} user "u" password "p" sslproto ""\n'
                    )
                    config.chmod(0o600)
                    code, said = self.run_client("fetchmail", "-v", "--nosyslog", "-f", str(config))
                    self.assertEqual(status, code, said)
                    self.assertIn(text or "Service temporarily unavailable", said)
                    self.assertIn("UNAVAILABLE" if protocol == "imap" else "SYS/TEMP", said)


class Words(unittest.TestCase):
    def test_exact_bytes(self):
        expected = {
            "smtp": b"421 4.3.2 mx.poise.test Back at noon\r\n",
            "imap": b"* BYE [UNAVAILABLE] Back at noon\r\n",
            "managesieve": b'BYE (TRYLATER) "Back at noon"\r\n',
            "smtps": TLS_ALERT,
            "pop3s": TLS_ALERT,
        }
        with Poised(nobody(refusal={"text": TEXT})) as poised:
            for protocol, words in expected.items():
                with self.subTest(protocol), socket.create_connection(
                    poised.endpoint(protocol), 10
                ) as client:
                    self.assertEqual(words, read_all(client))
            lines = poised.sessions(at_least=len(expected))
            self.assertEqual({"all_failed"}, {line["refusal"] for line in lines})

    def test_what_the_client_says_meanwhile_does_not_reset_the_text_away(self):
        with Poised(nobody(early_talk="hold")) as poised:
            for _ in range(50):
                with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                    with contextlib.suppress(BrokenPipeError):
                        for _ in range(20):
                            client.sendall(b"EHLO early.test\r\n" * 50)
                    self.assertRegex(read_all(client), rb"^421 4\.3\.2 mx\.poise\.test [^\r\n]+\r\n$")

    def test_delay(self):
        with Poised(nobody(refusal={"delay": "700ms"})) as poised:
            begun = time.monotonic()
            with socket.create_connection(poised.endpoint("imap"), 10) as client:
                self.assertTrue(read_all(client).startswith(b"* BYE [UNAVAILABLE] "))
            self.assertGreaterEqual(time.monotonic() - begun, 0.69)

    def test_a_client_that_never_leaves_is_let_go(self):
        """After the text and the FIN five seconds are its share."""
        with Poised(nobody()) as poised, socket.create_connection(poised.endpoint("smtp"), 10) as client:
            read_all(client)
            self.assertEqual([], poised.events("session"))
            line = poised.sessions(at_least=1, within=8)[0]
            self.assertEqual("refused", line["close_reason"])
            self.assertLess(4.5, float(line["total_s"]))


class Denied(unittest.TestCase):
    def flow(self, stack, **service):
        """A service that does not like 127.0.0.9, and its endpoint."""
        server = stack.enter_context(LoadServer())
        service = {"deny": ["127.0.0.9/32"], **service}
        config = balanced({"smtp": ("smtp", [server.endpoint])}, service=service)
        self.poised = stack.enter_context(Poised(config))
        return self.poised.endpoint("smtp")

    def test_554_then_503_then_221(self):
        with contextlib.ExitStack() as stack:
            endpoint = self.flow(stack)
            with open_from("127.0.0.9", endpoint) as client:
                file = client.makefile("rb")
                self.assertRegex(file.readline(), rb"^554 5\.7\.1 mx\.poise\.test ")
                for word in (b"EHLO me.test", b"MAIL FROM:<a@b>", b"quit please"):
                    client.sendall(word + b"\r\n")
                    self.assertRegex(file.readline(), rb"^503 5\.5\.1 ")
                client.sendall(b"QUIT\r\n")
                self.assertRegex(file.read(), rb"^221 2\.0\.0 mx\.poise\.test [^\r\n]*\r\n$")
            with open_from("127.0.0.9", endpoint) as client:
                client.sendall(b"NOOP\r\n" * 30)
                self.assertRegex(read_all(client), rb"(?s)^554 (.*\r\n503 ){10}.*\r\n421 4\.7\.0 [^\n]*\n$")
            with open_from("127.0.0.1", endpoint) as client:
                self.assertTrue(client.recv(4096).startswith(b"220"))
            lines = self.poised.sessions(at_least=3)
            self.assertEqual(2, [line.get("refusal") for line in lines].count("denied"))

    def test_smtplib_takes_it_for_good(self):
        with contextlib.ExitStack() as stack:
            endpoint = self.flow(stack)
            with self.assertRaises(smtplib.SMTPConnectError) as caught:
                smtplib.SMTP(*endpoint, timeout=10, source_address=("127.0.0.9", 0))
            self.assertEqual(554, caught.exception.smtp_code)

    def test_421(self):
        with contextlib.ExitStack() as stack:
            with open_from("127.0.0.9", self.flow(stack, deny_reply="421")) as client:
                self.assertRegex(read_all(client), rb"^421 4\.7\.1 mx\.poise\.test [^\r\n]*\r\n$")

    def test_drop(self):
        with contextlib.ExitStack() as stack:
            with open_from("127.0.0.9", self.flow(stack, deny_reply="drop")) as client:
                self.assertEqual(b"", read_all(client))

    def test_whom_allow_does_not_name(self):
        with contextlib.ExitStack() as stack:
            endpoint = self.flow(stack, deny=[], allow=["127.0.0.1/32"])
            with open_from("127.0.0.2", endpoint) as client:
                self.assertTrue(client.recv(4096).startswith(b"554 5.7.1"))
            with open_from("127.0.0.1", endpoint) as client:
                self.assertTrue(client.recv(4096).startswith(b"220"))


class Limits(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.clients = []

    def start(self, **limits):
        server = self.stack.enter_context(LoadServer())
        config = balanced(
            {"smtp": ("smtp", [server.endpoint])},
            workers=2,
            service={"limits": limits},
            shutdown={"drain": "1s"},
        )
        self.poised = self.stack.enter_context(Poised(config))
        return self.poised.endpoint("smtp")

    def open(self, endpoint, source="127.0.0.1"):
        """A client that stays, and what it was told."""
        client = self.stack.enter_context(open_from(source, endpoint))
        self.clients.append((client, client.recv(4096)))
        return self.clients[-1]

    def replies(self, endpoint, count, source="127.0.0.1"):
        """(served, [what the others read])."""
        heard = [self.open(endpoint, source)[1] for _ in range(count)]
        served = sum(words.startswith(b"220") for words in heard)
        return served, [words for words in heard if not words.startswith(b"220")]

    def demand(self, heard, count, pattern):
        self.assertEqual(count, len(heard))
        for words in heard:
            self.assertRegex(words, pattern)

    def demand_reason(self, reason, count):
        """`count` sessions ended refused, all for that reason."""
        for client, words in self.clients:
            if not words.startswith(b"220"):
                client.close()
        lines = self.poised.sessions(at_least=count, within=15)
        self.assertEqual([reason] * count, [line["refusal"] for line in lines if "refusal" in line])

    def test_sessions(self):
        endpoint = self.start(sessions=10)
        clients = [self.open(endpoint) for _ in range(15)]
        told = [words for _, words in clients if not words.startswith(b"220")]
        self.demand(told, 5, rb"^421 4\.3\.2 mx\.poise\.test Too many sessions, ")
        for client, _ in clients:
            client.close()
        processes.wait_until(
            lambda: self.open(endpoint)[1].startswith(b"220"), within=10, what="there is room again"
        )

    def test_sessions_per_source_and_its_prefix(self):
        endpoint = self.start(sessions_per_source=3, source_prefix_v4=24)
        served, told = self.replies(endpoint, 3, "127.0.7.1")
        self.assertEqual(3, served)
        served, told = self.replies(endpoint, 4, "127.0.7.2")  # the same /24
        self.assertEqual(0, served)
        self.demand(told, 4, rb"^421 4\.7\.0 mx\.poise\.test Too many sessions from your address")
        self.assertEqual(3, self.replies(endpoint, 3, "127.0.8.1")[0])  # another
        self.demand_reason("source_sessions", 4)

    def test_rate_per_source(self):
        endpoint = self.start(rate_per_source="4/s")
        served, told = self.replies(endpoint, 40, "127.0.7.1")
        self.assertLessEqual(4, served)
        self.assertLess(served, 20)
        self.demand(told, 40 - served, rb"^421 4\.7\.0 mx\.poise\.test Too many new sessions")
        self.assertEqual(1, self.replies(endpoint, 1, "127.0.8.1")[0])
        processes.wait_until(
            lambda: self.replies(endpoint, 1, "127.0.7.1")[0] == 1, within=5, what="its turn again"
        )

    def test_rate(self):
        """Two workers, one rate."""
        endpoint = self.start(rate="20/s")
        with concurrent.futures.ThreadPoolExecutor(8) as many:
            begun = time.monotonic()
            sources = [f"127.0.{number}.1" for number in range(200)]
            heard = list(many.map(lambda source: self.open(endpoint, source)[1], sources))
            took = time.monotonic() - begun
        served = sum(words.startswith(b"220") for words in heard)
        self.assertLessEqual(served, 20 * (took + 1) + 2)
        self.assertGreaterEqual(served, 20)
        self.demand([w for w in heard if not w.startswith(b"220")], 200 - served, rb"^421 4\.3\.2 ")

    def test_except(self):
        endpoint = self.start(sessions_per_source=1, rate="1/s", **{"except": ["127.0.7.0/24"]})
        self.assertEqual(20, self.replies(endpoint, 20, "127.0.7.1")[0])
        self.assertLessEqual(self.replies(endpoint, 5, "127.0.8.1")[0], 1)

    def test_mode_log_serves_and_says_what_it_would_do(self):
        endpoint = self.start(sessions_per_source=2, mode="log")
        self.assertEqual(10, self.replies(endpoint, 10, "127.0.7.1")[0])
        self.poised.wait_for_text("127.0.7.1 would be refused: source_sessions")

    def test_a_refused_client_costs_nobody_else_anything(self):
        """A flood of one source over its limit beside a load of others."""
        endpoint = self.start(sessions_per_source=2)
        self.replies(endpoint, 2, "127.0.7.1")
        with concurrent.futures.ThreadPoolExecutor(1) as one:
            flood = one.submit(
                mail_load.run, "smtp", endpoint, "--source", "127.0.7.1", rate=200, duration=2
            )
            sources = [word for n in range(50) for word in ("--source", f"127.0.{n + 10}.1")]
            report = mail_load.run("smtp", endpoint, *sources, rate=100, duration=2)
            self.assertEqual({}, mail_load.failures(report))
            flooded = flood.result()
        self.assertEqual(0, flooded["sessions"]["ok"])
        self.assertEqual({"greeting_421"}, set(mail_load.failures(flooded)))


if __name__ == "__main__":
    unittest.main()
