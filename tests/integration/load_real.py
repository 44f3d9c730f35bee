"""poise-load's clients with real Postfix and Dovecot, in clear, with STARTTLS and with TLS from the first byte.

What the tool says it did is held against the servers' own books: the Message-IDs that lie in the maildirs, and the
sessions in their logs. Breaks when the client speaks a protocol wrongly, counts wrongly, or does not encrypt.
"""

import json
import pathlib
import subprocess
import tempfile
import time
import unittest

import mailpool
from poised import BIN

LOAD = BIN / "poise-load"


def run(*words):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "report.json"
        done = subprocess.run(
            [LOAD, "run", "--json", path, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert path.exists(), done.stderr
        return done.returncode, json.loads(path.read_text()), done.stdout + done.stderr


def commands(report):
    return {c["name"]: c["count"] for c in report["blocks"][0]["commands"]}


class RealServers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = cls.enterClassContext(mailpool.MailPool(1))
        cls.server = cls.pool[0]

    def test_postfix_has_each_message_that_was_accepted(self):
        before = sum(self.server.stored().values())
        sent = 0
        for tls in ("none", "starttls"):
            for extra in ([], ["--pipelining"]):
                with self.subTest(tls=tls, extra=extra):
                    words = ["--protocol", "smtp", "--target", self.server.smtp, "--to", "user@lab.test"]
                    words += ["--sessions", 10, "--clients", 3, "--messages-per-session", 2, "--tls", tls]
                    status, report, text = run(*words, "--size", "1KiB-40KiB", *extra)
                    self.assertEqual(status, 0, text)
                    self.assertEqual(report["submits"], 20, text)
                    self.assertEqual(commands(report).get("tls", 0), 10 if tls == "starttls" else 0)
                    sent += 20
        self.pool_settles(before + sent)

    def pool_settles(self, count):
        end = time.monotonic() + 20
        while sum(self.server.stored().values()) < count and time.monotonic() < end:
            time.sleep(0.1)
        stored = self.server.stored()
        self.assertEqual(sum(stored.values()), count)
        self.assertEqual(set(stored.values()), {1})

    def test_mailboxes_of_dovecot(self):
        for number in range(3):
            text = f"Subject: {number}\r\nMessage-ID: <reader-{number}@lab.test>\r\n\r\n" + "line\r\n" * 2000
            self.server.put("reader", f"m{number}", text.encode())
        imap = "select,fetch*3,search,status,append,idle=50ms,noop,wait=10ms"
        pop3 = "stat,list,uidl,retr*2,noop"
        cases = [
            ("imap", self.server.imap, "none", imap, 3),
            ("imap", self.server.imap, "starttls", imap, 3),
            ("imaps", self.server.imaps, "implicit", imap, 3),
            ("pop3", self.server.pop3, "none", pop3, 2),
            ("pop3", self.server.pop3, "starttls", pop3, 2),
            ("pop3s", self.server.pop3s, "implicit", pop3, 2),
            ("managesieve", self.server.sieve, "none", "noop", 0),
            ("managesieve", self.server.sieve, "starttls", "noop", 0),
        ]
        for protocol, target, tls, do, fetches in cases:
            with self.subTest(protocol=protocol, tls=tls):
                words = ["--protocol", protocol, "--target", target, "--tls", tls, "--do", do]
                words += ["--user", "reader", "--password", mailpool.PASSWORD, "--sessions", 4, "--clients", 2]
                if protocol == "managesieve":
                    words.append("--auth")
                status, report, text = run(*words)
                self.assertEqual(status, 0, text)
                self.assertEqual(report["sessions"]["ok"], 4, text)
                self.assertEqual(report["fetches"], 4 * fetches, text)
                self.assertEqual(commands(report).get("tls", 0), 0 if tls == "none" else 4, text)

    def test_deleted_messages_are_gone(self):
        for number in range(4):
            self.server.put("taker", f"m{number}", b"Subject: x\r\n\r\nbody\r\n")
        words = ["--protocol", "pop3", "--target", self.server.pop3, "--user", "taker", "--sessions", 2]
        words += ["--password", mailpool.PASSWORD, "--clients", 1, "--do", "stat,retr,dele,retr,dele"]
        status, report, text = run(*words)
        self.assertEqual(status, 0, text)
        self.assertEqual(report["fetches"], 4)
        self.assertEqual(self.server.messages("taker"), [])

    def test_refusals_are_the_servers_own(self):
        words = ["--protocol", "smtp", "--target", self.server.smtp, "--sessions", 3, "--clients", 1]
        for recipient, kind, code in (("nosuch@lab.test", "permanent", "550"), ("defer@lab.test", "temporary", "450")):
            status, report, text = run(*words, "--to", recipient)
            self.assertEqual(status, 1, text)
            self.assertEqual(report["failures"][kind], 3, text)
            self.assertEqual(report["codes"], {code: 3})
            self.assertEqual(report["connection_errors"], 0)

    def test_certificate_nobody_signed_is_refused_when_asked(self):
        words = ["--protocol", "imaps", "--target", self.server.imaps, "--sessions", 1, "--tls-verify"]
        status, report, text = run(*words)
        self.assertEqual(status, 1)
        self.assertEqual(report["failures"]["tls_failed"], 1, text)


if __name__ == "__main__":
    unittest.main()
