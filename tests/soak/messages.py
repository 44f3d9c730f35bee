"""116 messages a second for ten minutes, ten million a day, through poised to three real Postfix: each message that a
client was told is accepted lies in one maildir once. Prints its figures.
"""

import collections
import json
import os
import pathlib
import tempfile
import time
import unittest

import mail_load
import mailpool
import netns
from poised import Poised, balanced

SECONDS = float(os.environ.get("POISE_SOAK_SECONDS", "600"))
RATE = float(os.environ.get("POISE_SOAK_RATE", "116"))


def setUpModule():
    netns.enter(net_ipv4_ip_local_port_range="1024 65535")


def stored_on(servers):
    """As the ledger has them: without the domain."""
    return collections.Counter(name.partition("@")[0] for name in servers.stored().elements())


class Messages(unittest.TestCase):
    def test_each_accepted_message_arrives_once(self):
        with mailpool.MailPool(3) as servers, tempfile.TemporaryDirectory(prefix="poise-soak-") as folder:
            ledger = pathlib.Path(folder, "sent")
            config = balanced({"smtp": ("smtp", [server.endpoint("smtp") for server in servers])}, workers=2,
                              pool={"scheduler": "least_conn", "probe": {}})
            with Poised(config) as poised:
                report = mail_load.run("smtp", poised.endpoint("smtp"), "--to", f"user@{mailpool.DOMAIN}", "--size",
                                       "lognormal:4KiB:1.0", ledger=ledger, rate=RATE, duration=SECONDS, patience=60,
                                       timeout=SECONDS + 300)
                lines = poised.sessions(at_least=report["sessions"]["started"])
            accepted = collections.Counter(ledger.read_text().split())
            end = time.monotonic() + 120  # the queue runs
            while sum((stored := stored_on(servers)).values()) < sum(accepted.values()) and time.monotonic() < end:
                time.sleep(1)
            lost, twice = accepted - stored, stored - accepted
            by_server = collections.Counter(line["backend"] for line in lines)
            figures = {
                "seconds": SECONDS, "rate": RATE, "sessions": report["sessions"],
                "failures": mail_load.failures(report), "accepted": sum(accepted.values()),
                "stored": sum(stored.values()), "lost": sum(lost.values()), "twice": sum(twice.values()),
                "greeting": report["blocks"][0].get("greeting", {}), "by_server": dict(by_server),
            }  # fmt: skip
            print(json.dumps(figures, indent=1))
            self.assertEqual({}, mail_load.failures(report))
            self.assertGreater(sum(accepted.values()), 0.9 * SECONDS * RATE)
            self.assertEqual((0, 0), (figures["lost"], figures["twice"]))
            self.assertEqual(3, len(by_server))


if __name__ == "__main__":
    unittest.main()
