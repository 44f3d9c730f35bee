"""Three real Dovecot behind poised serve messages of up to 20 MiB over IMAP and POP3, and take one of that size by
APPEND: byte for byte what was stored.
"""

import contextlib
import hashlib
import imaplib
import itertools
import poplib
import random
import unittest

import mailpool
from poised import Poised, SCALE, balanced

MIB = 1 << 20
SIZES = [1, 2000, 64 << 10, MIB, int(20 * MIB * max(SCALE, 0.2))]
ROUNDS = 3  # a session on each server


def message(size, seed):
    """A message of about `size` bytes: CRLF lines, some beginning with a dot, so that stuffing shows."""
    rng = random.Random(seed)
    head = f"Subject: {size}\r\nMessage-ID: <{seed}@poise.test>\r\n\r\n".encode()
    lines = [(b"." if i % 7 == 0 else b"") + rng.randbytes(36).hex().encode() for i in range(997)]
    body = b"\r\n".join(lines) + b"\r\n"
    return head + (body * (size // len(body) + 1))[:size].rstrip(b"\r\n") + b"\r\n"


def digest(content):
    return len(content), hashlib.sha256(content).hexdigest()


class RealImapPop3(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with contextlib.ExitStack() as stack:
            cls.pool = stack.enter_context(mailpool.MailPool(3))
            cls.messages = [message(size, n) for n, size in enumerate(SIZES)]
            for server in cls.pool:
                for n, content in enumerate(cls.messages):
                    server.put("reader", f"{1000 + n}.poise", content)
            cls.addClassCleanup(stack.pop_all().close)

    def balanced_pool(self):
        return Poised(
            balanced(
                {name: (name, [s.endpoint(name) for s in self.pool]) for name in ("imap", "pop3")}
            )
        )

    def test_imap_fetches_are_equal_to_what_is_stored(self):
        with self.balanced_pool() as poised:
            for _ in range(ROUNDS):
                client = imaplib.IMAP4(*poised.endpoint("imap"), timeout=30)
                client.login("reader", mailpool.PASSWORD)
                _, (count,) = client.select("INBOX", readonly=True)
                self.assertEqual(len(self.messages), int(count))
                for n, content in enumerate(self.messages, 1):
                    _, ((_, fetched), _) = client.fetch(str(n), "(BODY.PEEK[])")
                    self.assertEqual(digest(content), digest(fetched))
                client.logout()
            self.assert_each_server_served(poised)

    def test_pop3_retrievals_are_equal_to_what_is_stored(self):
        with self.balanced_pool() as poised:
            for _ in range(ROUNDS):
                client = poplib.POP3(*poised.endpoint("pop3"), timeout=30)
                client.user("reader")
                client.pass_(mailpool.PASSWORD)
                self.assertEqual(len(self.messages), client.stat()[0])
                for n, content in enumerate(self.messages, 1):
                    _, lines, _ = client.retr(n)
                    self.assertEqual(digest(content), digest(b"\r\n".join(lines) + b"\r\n"))
                client.quit()
            self.assert_each_server_served(poised)

    def test_an_appended_message_arrives_as_it_was_sent(self):
        content = self.messages[-1]
        with self.balanced_pool() as poised:
            client = imaplib.IMAP4(*poised.endpoint("imap"), timeout=30)
            client.login("writer", mailpool.PASSWORD)
            self.assertEqual("OK", client.append("INBOX", "", None, content)[0])
            client.logout()
        stored = list(
            itertools.chain(
                *(s.messages("writer") for s in self.pool if s.maildir("writer").exists())
            )
        )
        self.assertEqual(1, len(stored))
        # A maildir keeps lines with LF.
        kept = stored[0].read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self.assertEqual(digest(content), digest(kept))

    def assert_each_server_served(self, poised):
        backends = [line["backend"] for line in poised.sessions(at_least=ROUNDS)]
        self.assertEqual(["be1", "be2", "be3"], sorted(backends))


if __name__ == "__main__":
    unittest.main()
