"""Services that are to be the kernel's where poised can't have ip_vs: a clear error, or the proxy if asked for.

On a kernel that has ip_vs poised may not use it, for want of CAP_NET_ADMIN."""

import os
import unittest
from smtplib import SMTP

import netns
from ctl import Ctl
from poised import Poised, balanced
from smtp_server import SmtpServer

UNPRIVILEGED = ["setpriv", "--bounding-set", "-net_admin"]
WHY = "poised needs CAP_NET_ADMIN" if os.path.exists("/proc/net/ip_vs") else "this kernel has no ip_vs"


def setUpModule():
    netns.enter()


class WithoutIpVs(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(SmtpServer())
        self.ctl = self.enterContext(Ctl())

    def config(self, **service):
        return balanced(
            {"smtp": ("smtp", [self.server.endpoint])},
            listen="127.0.0.1:2525",
            service=service,
            admin=self.ctl.admin(),
        )

    def poised(self, config, **more):
        return Poised(config, wrap=UNPRIVILEGED, **more)

    def session(self):
        with SMTP("127.0.0.1", 2525, timeout=20) as session:
            self.assertEqual(session.noop()[0], 250)

    def test_start_fails_and_says_why(self):
        with self.poised(self.config(forwarding="ipvs-nat"), wait_ready=False) as lb:
            self.assertEqual(lb.wait(), 1)
            line = lb.wait_for_text("not started: service smtp: ")
            self.assertIn(WHY, line)

    def test_proxy_is_the_fallback(self):
        config = self.config(forwarding="ipvs-nat", forwarding_fallback="proxy")
        with self.poised(config) as lb:
            self.assertIn(WHY, lb.wait_for_text("service smtp is proxied instead: "))
            self.session()
            (smtp,) = self.ctl.json("show", "services")
            self.assertEqual((smtp["forwarding"], smtp["listen"]), ("proxy", ["127.0.0.1:2525"]))
            self.assertIsNone(smtp["sessions_per_s"])
            self.assertIn('service smtp is proxied, though "forwarding" says ipvs-nat', self.ctl.run("doctor").stdout)

    def test_reload_changes_nothing_and_says_why(self):
        with self.poised(self.config()) as lb:
            self.assertIn("1 errors, nothing changed", lb.reload(self.config(forwarding="ipvs-nat")))
            self.assertIn(WHY, lb.wait_for_text("reload: service smtp: "))
            self.session()
            lb.reload(self.config(forwarding="ipvs-nat", forwarding_fallback="proxy"))
            lb.wait_for_text("service smtp is proxied instead: ")
            self.session()


if __name__ == "__main__":
    unittest.main()
