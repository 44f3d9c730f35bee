"""Servers that misbehave, each in one known way, probed with `poised --probe --json`: the exact outcome, the exact
words, the step where it ended, and that it took no longer than it had to.
"""

import base64
import concurrent.futures
import contextlib
import json
import pathlib
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

import bad_server
import poised
from bad_server import (
    accept_and_close,
    accept_and_reset,
    answer,
    busy,
    junk,
    say,
    silence,
    slowly,
    trickle,
)

TIMEOUT = 2.0  # of each probe; sanitizer builds start slowly, servers here never take that long


def certificate(directory, name, *, days, names):
    """A self-signed certificate and its key in one file. days < 0: expired."""
    pem = pathlib.Path(directory, name + ".pem")
    # x509 -days takes no negative number in every version; a CA may say both dates.
    key, request = pem.with_suffix(".key"), pem.with_suffix(".csr")
    run = lambda *a: subprocess.run(a, check=True, capture_output=True, cwd=directory)
    subject, alternative = f"/CN={names[0]}", ",".join(f"DNS:{n}" for n in names)
    if days > 0:
        run(
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(),
            *("-days", str(days), "-subj", subject, "-addext", f"subjectAltName={alternative}"),
            *("-keyout", key, "-out", pem),
        )
    else:
        config = pathlib.Path(directory, name + ".cnf")
        config.write_text(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={name}.db\nnew_certs_dir=.\nserial={name}.srl\n"
            f"default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
            f"[v]\nsubjectAltName={alternative}\n"
        )
        pathlib.Path(directory, name + ".db").touch()
        pathlib.Path(directory, name + ".srl").write_text("01")
        run(
            *"openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(),
            *("-subj", subject, "-keyout", key, "-out", request),
        )
        run(
            *f"openssl ca -batch -selfsign -config {name}.cnf -extensions v -notext".split(),
            *("-startdate", "20200101000000Z", "-enddate", "20200201000000Z"),
            *("-keyfile", key, "-in", request, "-out", pem),
        )
    with pem.open("ab") as file:
        file.write(key.read_bytes())
    return pem


def over_tls(pem, behaviour):
    def serve(connection):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        with context.wrap_socket(connection, server_side=True) as tls:
            behaviour(tls)

    return serve


def after_starttls(pem, *replies):
    """SMTP up to STARTTLS, then `replies` under TLS."""

    def serve(connection):
        answer(b"220 mx1 ESMTP\r\n", b"250-mx1\r\n250 STARTTLS\r\n", b"220 go\r\n", more=True)(
            connection
        )
        over_tls(pem, answer(*replies, greeting=False))(connection)

    return serve


def endless(words, piece):
    """`words`, then `piece` again and again until the other side is gone."""

    def serve(connection):
        connection.sendall(words)
        while True:
            connection.sendall(piece)

    return serve


def wants_header(connection):
    """As Dovecot: without a PROXY header nothing is said, and after a while the connection closed."""
    connection.settimeout(0.3)
    with contextlib.suppress(socket.timeout):
        if connection.recv(65536).startswith((b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")):
            connection.settimeout(None)
            return answer(b"220 mx1 ESMTP\r\n", b"221 bye\r\n")(connection)
    connection.close()


GREETING = b"220 mx1 ESMTP\r\n"
OFFER = b"250-mx1\r\n250 STARTTLS\r\n"
IMAP_CAPS = b"* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN SASL-IR\r\n"
SMTP, IMAP, POP3, SIEVE = (("--type", t) for t in ("smtp", "imap", "pop3", "managesieve"))
DEEP = ("--deep",)
STARTTLS = ("--tls", "starttls")
IMPLICIT = ("--tls", "implicit")
RCPT = (*DEEP, "--rcpt", "probe@lab.test")
V1, V2 = ("--send-proxy", "v1"), ("--send-proxy", "v2")
NOTHING = f"[nothing in {TIMEOUT:g} s]"
CLOSED, RESET = "[closed by the server]", "[reset by the server]"


def cases(good, expired):
    """(name, behaviour, arguments, outcome, words, step); words that end in ... are a beginning."""
    return [
        # What a greeting may be
        ("one line", answer(GREETING, b"221 bye\r\n"), SMTP, "good", "220 mx1 ESMTP", "done"),
        ("a pause between the lines", slowly(b"220-mx1 wait\r\n", b"220 mx1 ESMTP\r\n", pause=0.7),
         SMTP, "good", "220 mx1 wait mx1 ESMTP", "done"),
        ("byte by byte", trickle(GREETING, 0.03), SMTP, "good", "220 mx1 ESMTP", "done"),
        ("bare LF", answer(b"220 mx1 ESMTP\n", b"221 bye\n"), SMTP, "good", "220 mx1 ESMTP", "done"),
        ("closes on QUIT", answer(GREETING, b""), SMTP, "good", "220 mx1 ESMTP", "done"),
        ("never answers QUIT", say(GREETING), SMTP, "good", "220 mx1 ESMTP", "done"),
        ("421", busy, SMTP, "busy", "421 4.3.2 Service currently unavailable", "greeting"),
        ("421 and closed", answer(b"421 4.3.2 too many\r\n", b"", hang_up=True), SMTP, "busy",
         "421 4.3.2 too many", "greeting"),
        ("450", say(b"450 4.3.2 soon\r\n"), SMTP, "busy", "450 4.3.2 soon", "greeting"),
        ("554", say(b"554 5.7.1 no service for you\r\n"), SMTP, "rejected",
         "554 5.7.1 no service for you", "greeting"),
        ("521 and a reset", bad_server.reply_and_reset(b"521 5.3.2 denylisted\r\n"), SMTP,
         "rejected", "521 5.3.2 denylisted", "greeting"),
        ("* BYE", say(b"* BYE [UNAVAILABLE] later\r\n"), IMAP, "bye", "* BYE [UNAVAILABLE] later",
         "greeting"),
        ("* PREAUTH", answer(b"* PREAUTH hello\r\n", b"* BYE\r\nzz OK\r\n"), IMAP, "good",
         "* PREAUTH hello", "done"),
        ("-ERR", say(b"-ERR [SYS/TEMP] later\r\n"), POP3, "bye", "-ERR [SYS/TEMP] later", "greeting"),
        ("sieve BYE", say(b'BYE "try again"\r\n'), SIEVE, "bye", 'BYE "try again"', "greeting"),
        ("sieve greeting", answer(b'"SIEVE" "x"\r\nOK "ready"\r\n', b"OK\r\n"), SIEVE, "good",
         'OK "ready"', "done"),
        # What is none
        ("junk", junk, SMTP, "garbage", r"\x16\x03\x01 what is this", "greeting"),
        ("a web server", say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), SMTP, "garbage",
         "HTTP/1.1 400 Bad Request", "greeting"),
        ("SMTP where IMAP is due", say(GREETING), IMAP, "garbage", "220 mx1 ESMTP", "greeting"),
        ("the code changes", say(b"220-mx1\r\n250 mx1\r\n"), SMTP, "garbage", "250 mx1", "greeting"),
        ("terminal codes", say(b"554 \x1b[2J\x07evil\r\n"), SMTP, "rejected",
         r"554 \x1b[2J\x07evil", "greeting"),
        ("a line of 10 MB", endless(b"220 ", b"x" * 65536), SMTP, "garbage",
         "[a line of more than 8192 bytes]", "greeting"),
        ("a greeting without an end", endless(b"", b"220-more\r\n"), SMTP, "garbage",
         "220-more", "greeting"),
        ("no line end", say(b"220 mx1 ESMTP"), SMTP, "silent",
         f"220 mx1 ESMTP [nothing more in {TIMEOUT:g} s]", "greeting"),
        ("a teaser and no more", say(b"220-mx1 wait\r\n"), SMTP, "silent",
         f"220-mx1 wait [nothing more in {TIMEOUT:g} s]", "greeting"),
        ("silence", silence, SMTP, "silent", NOTHING, "greeting"),
        ("silence, imap", silence, IMAP, "silent", NOTHING, "greeting"),
        ("closed after accept", accept_and_close, SMTP, "closed", CLOSED, "greeting"),
        ("closed in the greeting", answer(b"220-mx1\r\n220 ", b"", hang_up=True), SMTP, "closed",
         f"220  {CLOSED}", "greeting"),
        ("reset after accept", accept_and_reset, SMTP, "reset", RESET, "greeting"),
        # Later steps
        ("EHLO rejected, HELO fine",
         answer(GREETING, b"502 what\r\n", b"250 mx1\r\n", b"221 bye\r\n"), SMTP + DEEP, "good",
         "220 mx1 ESMTP", "done"),
        ("EHLO and HELO rejected", answer(GREETING, b"502 what\r\n", b"502 no\r\n"), SMTP + DEEP,
         "step_failed", "502 no", "helo"),
        ("421 to EHLO", answer(GREETING, b"421 4.3.2 shutting down\r\n"), SMTP + DEEP, "busy",
         "421 4.3.2 shutting down", "ehlo"),
        ("silent after EHLO", answer(GREETING), SMTP + DEEP, "timeout",
         f"[nothing more in {TIMEOUT:g} s]", "ehlo"),
        ("closed after EHLO", answer(GREETING, b""), SMTP + DEEP, "closed", CLOSED, "ehlo"),
        ("EHLO without an end", endless(GREETING, b"250-X\r\n"), SMTP + DEEP, "garbage", "250-X",
         "ehlo"),
        ("RCPT greylisted",
         answer(GREETING, b"250 mx1\r\n", b"250 ok\r\n", b"451 4.7.1 later\r\n", b"250 ok\r\n",
                b"221 bye\r\n"), SMTP + RCPT, "good", "451 4.7.1 later", "done"),
        ("RCPT refused", answer(GREETING, b"250 mx1\r\n", b"250 ok\r\n", b"550 5.1.1 nobody\r\n"),
         SMTP + RCPT, "step_failed", "550 5.1.1 nobody", "rcpt"),
        ("MAIL refused: disk full", answer(GREETING, b"250 mx1\r\n", b"452 4.3.1 disk full\r\n"),
         SMTP + RCPT, "step_failed", "452 4.3.1 disk full", "mail"),
        ("endless capability list", endless(b"* OK ready\r\n", b"* CAPABILITY X\r\n"), IMAP + DEEP,
         "garbage", "[a reply of more than 512 lines]", "capability"),
        ("a literal of 4 GB", answer(b"* OK\r\n", b"* X {4294967296}\r\n"), IMAP + DEEP, "garbage",
         "* X {4294967296}", "capability"),
        ("* BYE after CAPABILITY", answer(b"* OK\r\n", b"* BYE shutting down\r\n"), IMAP + DEEP,
         "bye", "* BYE shutting down", "capability"),
        ("NO to NOOP", answer(b"* OK\r\n", IMAP_CAPS + b"a1 OK\r\n", b"a2 NO broken\r\n"),
         IMAP + DEEP, "step_failed", "a2 NO broken", "noop"),
        ("endless CAPA", endless(b"+OK\r\n+OK list\r\n", b"X\r\n"), POP3 + DEEP, "garbage",
         "[a reply of more than 512 lines]", "capa"),
        # TLS
        ("TLS", over_tls(good, answer(GREETING, b"221 bye\r\n")), SMTP + IMPLICIT, "good",
         "220 mx1 ESMTP", "done"),
        ("STARTTLS", after_starttls(good, b"250 mx1\r\n", b"221 bye\r\n"), SMTP + STARTTLS, "good",
         "220 mx1 ESMTP", "done"),
        ("STARTTLS refused", answer(GREETING, OFFER, b"454 4.7.0 TLS not available\r\n"),
         SMTP + STARTTLS, "tls_failed", "454 4.7.0 TLS not available", "starttls"),
        ("STARTTLS not offered", answer(GREETING, b"250 mx1\r\n"), SMTP + STARTTLS, "tls_failed",
         "[STARTTLS is not offered]", "starttls"),
        ("STARTTLS with injected plaintext",
         answer(GREETING, OFFER, b"220 go\r\n250 injected\r\n"), SMTP + STARTTLS, "tls_failed",
         "[plaintext after STARTTLS was accepted: 250 injected]", "starttls"),
        ("STARTTLS, plaintext a moment later",
         answer(GREETING, OFFER, b"220 go\r\n", b"250 injected\r\n"), SMTP + STARTTLS, "tls_failed",
         "[plaintext instead of a TLS handshake: 250 injected]", "tls"),
        ("STARTTLS accepted, then closed", answer(GREETING, OFFER, b"220 go\r\n", b""),
         SMTP + STARTTLS, "tls_failed", "[closed by the server during the TLS handshake]", "tls"),
        ("STARTTLS accepted, then silence", answer(GREETING, OFFER, b"220 go\r\n"), SMTP + STARTTLS,
         "timeout", f"[no answer to the TLS handshake in {TIMEOUT:g} s]", "starttls"),
        ("plaintext on a TLS port", say(GREETING), SMTP + IMPLICIT, "tls_failed",
         "[plaintext instead of a TLS handshake: 220 mx1 ESMTP]", "tls"),
        ("TLS garbage", say(b"\x16\x03\x03\x00\x04abcd"), SMTP + IMPLICIT, "tls_failed",
         "[TLS handshake: ...", "tls"),
        ("a TLS alert", say(b"\x15\x03\x03\x00\x02\x02\x28"), SMTP + IMPLICIT, "tls_failed",
         "[TLS handshake: sslv3 alert handshake failure]", "tls"),
        ("a TLS port that is silent", silence, SMTP + IMPLICIT, "silent",
         f"[no answer to the TLS handshake in {TIMEOUT:g} s]", "greeting"),
        ("closed during the handshake", accept_and_close, SMTP + IMPLICIT, "tls_failed",
         "...by the server during the TLS handshake]", "tls"),
        ("expired certificate", over_tls(expired, answer(GREETING, b"221 bye\r\n")),
         (*SMTP, *IMPLICIT, "--verify", "--ca-file", expired, "--sni", "mail.lab.test"),
         "certificate",
         "[certificate has expired: CN=mail.lab.test, for mail.lab.test, not after 2020-02-01]",
         "greeting"),
        ("self-signed certificate", after_starttls(good, b"250 mx1\r\n", b"221 bye\r\n"),
         (*SMTP, *STARTTLS, "--verify", "--sni", "mail.lab.test"), "certificate",
         "[self-signed certificate: CN=mail.lab.test, for mail.lab.test alt.lab.test, ...", "starttls"),
        ("wrong name", over_tls(good, answer(GREETING, b"221 bye\r\n")),
         (*SMTP, *IMPLICIT, "--verify", "--ca-file", good, "--sni", "other.lab.test"),
         "certificate", "[hostname mismatch: CN=mail.lab.test, for mail.lab.test alt.lab.test, ...",
         "greeting"),
        ("trusted certificate", over_tls(good, answer(GREETING, b"221 bye\r\n")),
         (*SMTP, *IMPLICIT, "--verify", "--ca-file", good, "--sni", "alt.lab.test"), "good",
         "220 mx1 ESMTP", "done"),
        ("expired, and nobody asked", over_tls(expired, answer(GREETING, b"221 bye\r\n")),
         SMTP + IMPLICIT, "good", "220 mx1 ESMTP", "done"),
        # PROXY
        ("PROXY required and missing", wants_header, SMTP, "closed", CLOSED, "greeting"),
        ("PROXY required, v1 sent", wants_header, SMTP + V1, "good", "220 mx1 ESMTP", "done"),
        ("PROXY required, v2 sent", wants_header, SMTP + V2, "good", "220 mx1 ESMTP", "done"),
        ("PROXY sent to a plain port", answer(GREETING, b"500 5.5.2 bad syntax\r\n", unasked=True),
         SMTP + V2, "proxy", "500 5.5.2 bad syntax", "goodbye"),
        ("closed on a PROXY header", accept_and_close, SMTP + V2, "proxy",
         "...by the server, after the PROXY header]", "greeting"),
    ]  # fmt: skip


class BadServers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="poise-")
        cls.addClassCleanup(cls.directory.cleanup)
        cls.good = certificate(
            cls.directory.name, "good", days=30, names=["mail.lab.test", "alt.lab.test"]
        )
        cls.expired = certificate(cls.directory.name, "expired", days=-1, names=["mail.lab.test"])

    def probe(self, endpoint, *arguments):
        began = time.monotonic()
        done = poised.run(
            *("--probe", poised.endpoint_text(endpoint), "--hostname", "probe.test", "--json"),
            *("--timeout", f"{int(TIMEOUT * 1000)}ms", *map(str, arguments)),
        )
        try:
            found = json.loads(done.stdout)
        except json.JSONDecodeError:
            self.fail(f"exit {done.returncode}: {done.stdout!r} {done.stderr!r}")
        self.assertEqual(0 if found["good"] else 1, done.returncode, found)
        self.assertEqual("", done.stderr)
        return found, time.monotonic() - began

    def test_each_has_its_outcome_and_its_words(self):
        table = cases(self.good, self.expired)
        self.assertGreaterEqual(len(table), 30)

        def one(case):
            name, behaviour, arguments, *_ = case
            with bad_server.BadServer(behaviour) as server:
                return self.probe(server.endpoint, *arguments)

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            for case, (found, took) in zip(table, threads.map(one, table)):
                name, _, _, outcome, words, step = case
                with self.subTest(name):
                    self.assertEqual(outcome, found["outcome"], found)
                    if words.endswith("..."):
                        self.assertEqual(words[:-3], found["reply"][: len(words) - 3])
                    elif words.startswith("..."):
                        self.assertEqual(words[3:], found["reply"][-len(words) + 3 :])
                    else:
                        self.assertEqual(words, found["reply"])
                    self.assertEqual(step, found["step"])
                    self.assertEqual(outcome == "good", found["good"])
                    self.assertLess(found["duration_seconds"], TIMEOUT + 0.5, found)

    def test_no_connection(self):
        found, _ = self.probe(bad_server.refusing_endpoint(), *SMTP)
        self.assertEqual(
            ("refused", "[connect: Connection refused]", "connect"),
            (found["outcome"], found["reply"], found["step"]),
        )
        with bad_server.black_hole() as endpoint:
            found, _ = self.probe(endpoint, *SMTP)
        self.assertEqual(
            ("timeout", f"[no connection in {TIMEOUT:g} s]", "connect"),
            (found["outcome"], found["reply"], found["step"]),
        )
        found, _ = self.probe("nobody.invalid:25", *SMTP)
        self.assertEqual(("dns", "dns"), (found["outcome"], found["step"]))

    def test_facts_of_the_certificate(self):
        with bad_server.BadServer(over_tls(self.good, answer(GREETING, b"221 bye\r\n"))) as server:
            found, _ = self.probe(server.endpoint, *SMTP, *IMPLICIT)
        facts = found["tls"]
        self.assertEqual("CN=mail.lab.test", facts["subject"])
        self.assertEqual(facts["subject"], facts["issuer"])
        self.assertEqual(["mail.lab.test", "alt.lab.test"], facts["names"])
        self.assertEqual(1, facts["chain_length"])
        self.assertEqual("self-signed certificate", facts["verify_result"])
        self.assertFalse(facts["verified"])
        self.assertIn(facts["protocol"], ("TLSv1.2", "TLSv1.3"))
        self.assertAlmostEqual(30 * 86400, facts["not_after"] - time.time(), delta=3600)
        printed = subprocess.run(
            ["openssl", "x509", "-in", self.good, "-noout", "-fingerprint", "-sha256"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        self.assertEqual(
            printed.strip().split("=")[1].replace(":", "").lower(), facts["fingerprint"]
        )

    def test_a_server_hears_one_command_a_reply_and_a_goodbye(self):
        """What goes over the wire, with pauses between a reply's parts: nothing is said into them."""
        heard = []

        def attentive(connection):
            replies = [b"220 mx1\r\n", b"250-mx1\r\n250 X\r\n", b"250 a\r\n", b"250 b\r\n", b"250 c\r\n",
                       b"221 bye\r\n"]  # fmt: skip
            for reply in replies:
                for part in reply.splitlines(keepends=True):
                    connection.settimeout(0.15)
                    with contextlib.suppress(socket.timeout):
                        heard.append((b"early", connection.recv(65536)))
                    connection.settimeout(5)
                    connection.sendall(part)
                heard.append(connection.recv(65536))
            heard.append(connection.recv(65536))

        with bad_server.BadServer(attentive) as server:
            self.probe(server.endpoint, *SMTP, *RCPT)
        self.assertEqual(
            [
                b"EHLO probe.test\r\n",
                b"MAIL FROM:<>\r\n",
                b"RCPT TO:<probe@lab.test>\r\n",
                b"RSET\r\n",
                b"QUIT\r\n",
            ],
            heard[:5],
        )
        self.assertEqual(b"", heard[5], "the end is a FIN, not a reset")

    def test_passwords_stay_secret(self):
        password = "hunter2-hunter2"
        path = pathlib.Path(self.directory.name, "password")
        path.write_text(password + "\n")
        offer = b"250-mx1\r\n250 AUTH PLAIN\r\n"
        with bad_server.BadServer(answer(GREETING, offer, b"535 5.7.8 no\r\n")) as server:
            login = ("--login", "user", "--password-file", str(path), "--allow-plain-login")
            arguments = ["--probe", poised.endpoint_text(server.endpoint), "--type", "submission"]
            for json_too in ([], ["--json"]):
                done = poised.run(*arguments, "--deep", *login, *json_too)
                self.assertEqual(1, done.returncode)
                self.assertIn("AUTH PLAIN ****", done.stdout)
                self.assertNotIn("hunter2", done.stdout + done.stderr)
                for shift in range(3):  # however the secret falls on base64's groups of three
                    secret = base64.b64encode(b"\0" * shift + password.encode())[4:-4].decode()
                    self.assertNotIn(secret, done.stdout)
            done = poised.run(*arguments, "--deep", *login[:-1])
            self.assertEqual(2, done.returncode)
            self.assertIn("--login without TLS", done.stderr)

    def test_wrong_arguments_say_what_to_do(self):
        table = [
            (["--probe", "127.0.0.1:25"], "say what the server speaks"),
            (["--probe", "127.0.0.1", "--type", "smtp"], "port"),
            (["--probe", "127.0.0.1:25", "--type", "gopher"], "gopher"),
            (["--probe", "127.0.0.1:25", "--type", "smtp", "--timeout", "5"], "--timeout 5"),
            (["--probe", "127.0.0.1:25", "--type", "tcp", *STARTTLS], "has no STARTTLS"),
            (["--probe", "127.0.0.1:25", "--type", "smtp", "--verify"], "need --tls"),
            (["--probe", "127.0.0.1:25", "--type", "smtp", "--rcpt", "a@b.c"], "goes with --deep"),
            (["--probe", "127.0.0.1:25", "--type", "imap", "--rcpt", "a@b.c"], "--rcpt is for"),
            (["--probe", "127.0.0.1:25", "--type", "imap", "--deep", "--login", "u"], "together"),
            (["--probe", "127.0.0.1:25", "--type", "script"], "go together"),
            (["--probe", "127.0.0.1:25", "--type", "script", "--script", "x"], "send:TEXT"),
            (["--probe", "127.0.0.1:25", "--type", "imap", "--relay-test"], "speaks SMTP"),
            (
                ["--probe", "127.0.0.1:25", "--type", "smtp", "--relay-test", "--proxy-doctor"],
                "one at a time",
            ),
            (["--probe", "127.0.0.1:25", "--type", "smtp", "--sned-proxy", "v1"], "--sned-proxy"),
            (["--type", "smtp"], "--probe"),
        ]
        for arguments, words in table:
            with self.subTest(" ".join(arguments)):
                done = poised.run(*arguments)
                self.assertEqual(2, done.returncode, done.stderr)
                self.assertIn(words, done.stderr)
                self.assertEqual("", done.stdout)

    def test_script(self):
        pong = answer(b"hello\r\n", b"+PONG\r\n")
        script = ["--type", "script", "--script", r"expect:hello\r\n", r"send:PING\r\n"]
        with bad_server.BadServer(pong) as server:
            found, _ = self.probe(server.endpoint, *script, "expect:+PONG")
            self.assertEqual(("good", "+PONG"), (found["outcome"], found["reply"]))
            found, _ = self.probe(server.endpoint, *script, "expect:-PONG")
            self.assertEqual(("silent", "expect"), (found["outcome"], found["step"]))
            self.assertIn("+PONG", found["reply"])

    def test_many_at_once(self):
        with bad_server.BadServer(answer(GREETING, b"221 bye\r\n")) as server:
            found, _ = self.probe(server.endpoint, *SMTP, "--count", "100")
            self.assertEqual({"good": 100}, found["outcomes"])
            self.assertEqual(100, server.accepted)


if __name__ == "__main__":
    unittest.main()
