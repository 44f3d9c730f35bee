"""`poised --probe` against real servers with their stock limits: Postfix (smtpd, and postscreen with its greet wait and
multi-line teaser), Dovecot, Exim, OpenSMTPD; plain, STARTTLS, TLS, behind the PROXY protocol. All are good, and after a
thousand probes no server's log has a warning or an error, nor more lines than docs/health.md says.
"""

import concurrent.futures
import json
import math
import pathlib
import re
import socket
import time
import unittest

import addresses
import mailpool
import other_mta
import poised
from poised import ROOT, SCALE

# What must not be in a server's log because of a probe.
_COMPLAINT = re.compile(r"warning|error|fatal|panic|warn:|lost connection|protocol", re.IGNORECASE)

HOSTNAME = "lb.poise.test"


def probe(test, endpoint, *arguments, good=True):
    done = poised.run(
        *("--probe", poised.endpoint_text(endpoint), "--hostname", HOSTNAME, "--json"),
        *arguments,
        timeout=60,
    )
    test.assertIn(done.returncode, (0, 1), done.stderr)
    found = json.loads(done.stdout)
    test.assertEqual("", done.stderr)
    test.assertEqual(good, found["good"], json.dumps(found, indent=1))
    return found


def documented():
    """{server: lines per probe} of the table in docs/health.md."""
    text = (ROOT / "docs/health.md").read_text()
    return {
        row[1].strip(): int(row[2])
        for row in re.finditer(r"^\| ([^|]+) \| (\d+) \|", text, re.MULTILINE)
    }


class RealServers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = cls.enterClassContext(mailpool.MailPool(1, stock=True))
        cls.server = cls.pool[0]
        cls.password = pathlib.Path(cls.pool.directory, "password")
        cls.password.write_text(mailpool.PASSWORD + "\n")

    def login(self):
        return ("--login", "user", "--password-file", str(self.password))

    def quietly(self, log, action):
        """Runs action() and returns the log's new lines, which hold no complaint."""
        before = len(log())
        action()
        time.sleep(0.3)  # the last lines are on their way
        lines = log()[before:].splitlines()
        complaints = [line for line in lines if _COMPLAINT.search(line)]
        self.assertEqual([], complaints)
        return lines

    def both_logs(self):
        return self.server.log("smtp") + self.server.log("imap")

    def test_cheap_and_deep_of_every_kind(self):
        at = self.server.endpoint
        rcpt = ("--rcpt", f"user@{mailpool.DOMAIN}")
        table = [
            ("smtp", "smtp", ()),
            ("smtp", "smtp", ("--deep", *rcpt)),
            ("smtp", "smtp", ("--tls", "starttls")),
            ("smtp", "smtp", ("--tls", "starttls", "--deep", *rcpt)),
            ("smtp", "smtp", ("--deep", "--rcpt", f"defer@{mailpool.DOMAIN}")),
            ("smtps", "smtp", ("--tls", "implicit", "--deep", *rcpt)),
            ("smtp_proxy", "smtp", ("--send-proxy", "v1")),
            ("smtp_proxy", "smtp", ("--send-proxy", "v2")),
            ("smtp_proxy", "smtp", ("--send-proxy", "v2", "--tls", "starttls", "--deep")),
            ("submission", "submission", ("--deep", "--allow-plain-login", *self.login())),
            ("submission", "submission", ("--deep", "--tls", "starttls", *self.login())),
            ("lmtp", "lmtp", ()),
            ("lmtp", "lmtp", ("--deep", *rcpt)),
            ("lmtp", "lmtp", ("--tls", "starttls")),
            ("lmtp_proxy", "lmtp", ("--send-proxy", "v2", "--deep", *rcpt)),
            ("imap", "imap", ()),
            ("imap", "imap", ("--deep",)),
            ("imap", "imap", ("--tls", "starttls", "--deep", *self.login())),
            ("imap", "imap", ("--deep", "--allow-plain-login", *self.login())),
            ("imaps", "imap", ("--tls", "implicit", "--deep", *self.login())),
            ("imap_proxy", "imap", ("--send-proxy", "v1")),
            ("imap_proxy", "imap", ("--send-proxy", "v2", "--deep")),
            ("imaps_proxy", "imap", ("--send-proxy", "v2", "--tls", "implicit")),
            ("pop3", "pop3", ()),
            ("pop3", "pop3", ("--deep",)),
            ("pop3", "pop3", ("--tls", "starttls", "--deep", *self.login())),
            ("pop3s", "pop3", ("--tls", "implicit", "--deep", *self.login())),
            ("pop3_proxy", "pop3", ("--send-proxy", "v2")),
            ("sieve", "managesieve", ()),
            ("sieve", "managesieve", ("--deep",)),
            ("sieve", "managesieve", ("--tls", "starttls", "--deep", *self.login())),
            ("sieve_proxy", "managesieve", ("--send-proxy", "v1", "--deep")),
            ("imap", "tcp", ()),
        ]

        def all_of_them():
            for service, kind, arguments in table:
                with self.subTest(f"{service} {' '.join(arguments)}"):
                    found = probe(self, at(service), "--type", kind, *arguments)
                    self.assertEqual("done", found["step"])
                    self.assertEqual("implicit" in arguments or "starttls" in arguments, found["tls"] is not None)

        lines = self.quietly(self.both_logs, all_of_them)
        self.assertGreater(len(lines), len(table))

    def test_the_certificate_is_verified_by_name(self):
        ca = ("--ca-file", str(self.pool.directory / "certificate.pem.crt"))
        for service, tls in (("smtp", "starttls"), ("imaps", "implicit")):
            kind = "smtp" if service == "smtp" else "imap"
            arguments = ("--type", kind, "--tls", tls, "--verify", *ca, "--sni")
            found = probe(self, self.server.endpoint(service), *arguments, f"mail.{mailpool.DOMAIN}")
            self.assertTrue(found["tls"]["verified"])
            found = probe(self, self.server.endpoint(service), *arguments, "other.test", good=False)
            self.assertEqual("certificate", found["outcome"])
            self.assertIn("hostname mismatch", found["reply"])

    def test_a_wrong_password_is_no_ill_health_but_said(self):
        wrong = pathlib.Path(self.pool.directory, "wrong")
        wrong.write_text("not the password\n")
        login = ("--deep", "--login", "user", "--password-file", str(wrong))
        found = probe(
            self, self.server.endpoint("imaps"), "--type", "imap", "--tls", "implicit", *login, good=False
        )  # fmt: skip
        self.assertEqual(("step_failed", "login"), (found["outcome"], found["step"]))
        self.assertTrue(found["auth_failed"] and found["deep_step_failed"])
        self.assertIn("AUTHENTICATIONFAILED", found["reply"])

    def test_postscreen(self):
        """Its greet wait of six seconds, its teaser, and a client that waits for both."""
        source = addresses.own_address()  # not one of mynetworks, which need not wait
        found = {}

        def once():
            found.update(
                probe(
                    self, self.server.endpoint("postscreen"), "--type", "smtp", "--source", source,
                    "--timeout", "15s", "--deep",
                )  # fmt: skip
            )

        lines = self.quietly(lambda: self.server.log("smtp"), once)
        self.assertGreater(found["greeting_seconds"], 5.5)
        said = [line["text"] for line in found["transcript"] if line["from"] == "server"]
        self.assertTrue(said[0].startswith("220-"), said)
        self.assertTrue(said[1].startswith("220 "), said)
        log = "\n".join(lines)
        self.assertIn(f"PASS NEW [{source}]", log)
        self.assertNotRegex(log, "PREGREET|HANGUP|NON-SMTP|BARE NEWLINE|PIPELINING")

    def test_a_thousand_probes_leave_no_complaint_and_the_documented_lines(self):
        at = self.server.endpoint
        postfix, dovecot = lambda: self.server.log("smtp"), lambda: self.server.log("imap")
        exim = self.enterContext(other_mta.Exim())
        opensmtpd = self.enterContext(other_mta.OpenSmtpd())
        tls, starttls = ("--tls", "implicit"), ("--tls", "starttls")
        v1, v2 = ("--send-proxy", "v1"), ("--send-proxy", "v2")
        # The first of a source has to wait; test_postscreen has shown that.
        source = addresses.own_address()
        known = ("--source", source, "--timeout", "15s")
        probe(self, at("postscreen"), "--type", "smtp", *known)
        table = [
            ("Postfix smtpd", postfix, at("smtp"), "smtp", (), 200),
            ("Postfix smtpd, STARTTLS", postfix, at("smtp"), "smtp", starttls, 50),
            ("Postfix smtpd, TLS", postfix, at("smtps"), "smtp", tls, 50),
            ("Postfix smtpd, PROXY v1", postfix, at("smtp_proxy"), "smtp", v1, 50),
            ("Postfix smtpd, PROXY v2", postfix, at("smtp_proxy"), "smtp", v2, 50),
            ("Postfix postscreen", postfix, at("postscreen"), "smtp", known, 100),
            ("Dovecot LMTP", dovecot, at("lmtp"), "lmtp", (), 100),
            ("Dovecot IMAP", dovecot, at("imap"), "imap", (), 100),
            ("Dovecot IMAP, TLS", dovecot, at("imaps"), "imap", tls, 50),
            ("Dovecot IMAP, PROXY v2", dovecot, at("imap_proxy"), "imap", v2, 50),
            ("Dovecot POP3", dovecot, at("pop3"), "pop3", (), 100),
            ("Dovecot ManageSieve", dovecot, at("sieve"), "managesieve", (), 50),
            ("Exim", exim.log, exim.endpoint, "smtp", (), 50),
            ("Exim, STARTTLS", exim.log, exim.endpoint, "smtp", starttls, 20),
            ("OpenSMTPD", opensmtpd.log, opensmtpd.endpoint, "smtp", (), 50),
        ]
        self.assertGreaterEqual(sum(row[-1] for row in table), 1000)
        expected = documented()
        counted = {}
        for name, log, endpoint, kind, arguments, full in table:
            count = max(10, int(full * SCALE))

            def many():
                found = probe(self, endpoint, "--type", kind, "--count", str(count), *arguments)
                self.assertEqual({"good": count}, found["outcomes"])

            with self.subTest(name):
                lines = self.quietly(log, many)
                # anvil counts for itself; postscreen leaves out a line now and then.
                own = [line for line in lines if "/anvil[" not in line]
                counted[name] = math.ceil(len(own) / count - 0.05)
        for name, lines in counted.items():
            print(f"| {name} | {lines} |")
        self.assertEqual({name: expected.get(name) for name in counted}, counted)

    def test_relay_test(self):
        """Who may relay here: 127.0.0.1 is one of mynetworks, another address is not."""
        open_to_us = probe(self, self.server.endpoint("smtp"), "--relay-test", good=False)
        self.assertTrue(open_to_us["sentence"].startswith("OPEN RELAY through this path"), open_to_us)
        self.assertIn("our own address, no header", open_to_us["sentence"])
        stranger = ("--source", addresses.own_address())
        closed = probe(self, self.server.endpoint("smtp"), "--relay-test", *stranger)
        self.assertTrue(closed["sentence"].startswith("No relay"), closed)
        self.assertGreaterEqual(closed["paths"][0]["rcpt_code"], 400)

        # Behind the PROXY protocol the client counts: ours is trusted, the stranger's is not.
        proxied = probe(self, self.server.endpoint("smtp_proxy"), "--relay-test", good=False)
        by_path = {path["path"]: path["rcpt_code"] for path in proxied["paths"]}
        self.assertEqual(250, by_path["our own address, PROXY v2"])
        self.assertGreaterEqual(by_path["PROXY v2 as 192.0.2.1"], 400)

        # Nothing of a message was ever sent.
        for found in (open_to_us, closed, proxied):
            for path in found["paths"]:
                said = [line["text"] for line in path["transcript"] if line["from"] == "us"]
                self.assertNotIn("DATA", said)
        self.assertEqual([], self.server.messages())

    def test_proxy_doctor(self):
        table = [
            ("smtp", "smtp", "without a PROXY header and no other: leave"),
            ("smtp_proxy", "smtp", 'PROXY header only: set "send_proxy": "v2"'),
            ("imap", "imap", "without a PROXY header and no other: leave"),
            ("imap_proxy", "imap", 'PROXY header only: set "send_proxy": "v2"'),
            ("pop3_proxy", "pop3", 'PROXY header only: set "send_proxy": "v2"'),
            ("lmtp_proxy", "lmtp", 'PROXY header only: set "send_proxy": "v2"'),
            ("sieve", "managesieve", "without a PROXY header and no other: leave"),
        ]

        def ask(row):
            return probe(self, self.server.endpoint(row[0]), "--type", row[1], "--proxy-doctor")

        with concurrent.futures.ThreadPoolExecutor(len(table)) as threads:
            for (service, _, sentence), found in zip(table, threads.map(ask, table)):
                with self.subTest(service):
                    self.assertIn(sentence, found["sentence"], found)
                    self.assertEqual(6, len(found["paths"]))
        with socket.socket() as nobody:
            nobody.bind((addresses.own_address(), 0))
            found = probe(
                self, nobody.getsockname(), "--type", "smtp", "--proxy-doctor", good=False
            )
            self.assertIn("cannot be connected", found["sentence"])


if __name__ == "__main__":
    unittest.main()
