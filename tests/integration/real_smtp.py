"""Three real Postfix behind poised take 300 messages: each accepted exactly once, 100 on each server.

The ledger is what the clients were told ("250 queued") against what lies in the maildirs that each Postfix's own
Dovecot delivered to.
"""

import collections
import concurrent.futures
import unittest

import mailpool
import processes
import smtp_load
from poised import Poised, SCALE, balanced

SESSIONS = max(30, int(300 * SCALE) // 3 * 3)
CONCURRENT = 12


class RealSmtp(unittest.TestCase):
    def test_every_message_is_accepted_exactly_once_and_spread_evenly(self):
        with mailpool.MailPool(3) as pool:
            expected = collections.Counter()
            for workers in (1, 2):
                with self.subTest(workers=workers):
                    self.one_run(pool, workers, expected)

    def one_run(self, pool, workers, expected):
        config = balanced(
            {"smtp": ("smtp", [server.endpoint("smtp") for server in pool])}, workers=workers
        )
        with Poised(config) as poised:
            identities = [f"message-{workers}-{n}@poise.test" for n in range(SESSIONS)]
            with concurrent.futures.ThreadPoolExecutor(CONCURRENT) as threads:
                endpoint = poised.endpoint("smtp")
                for result in threads.map(lambda i: smtp_load.session(endpoint, i), identities):
                    self.assertIsNone(result.error, result)
            expected.update(identities)
            lines = poised.sessions(at_least=SESSIONS)

        self.assertEqual(SESSIONS, len(lines))
        by_backend = collections.Counter(line["backend"] for line in lines)
        third = SESSIONS // 3
        self.assertEqual({"be1": third, "be2": third, "be3": third}, by_backend)
        reasons = {line["close_reason"] for line in lines}
        self.assertLessEqual(reasons, {"client_closed", "backend_closed"})

        stored = processes.wait_until(
            lambda: (found := pool.stored()) and found.total() >= expected.total() and found,
            within=40,
            what=f"{expected.total()} messages in the maildirs",
        )
        self.assertEqual(expected, stored)
        for server in pool:
            self.assertEqual(
                third * workers,
                len(server.messages()),
                f"messages on {server.name} after {workers} runs",
            )


if __name__ == "__main__":
    unittest.main()
