"""NAT, direct routing and tunnels with real Postfix and Dovecot: client, director and three real servers, each a
network namespace.

In each mode: sessions spread as the scheduler says; a killed server goes out by its probes and the sessions on the
others stay; it comes back slowly; SIGKILL and a new start lose nothing and leave the table; ipvsadm -C is put right;
SIGTERM waits for the sessions; somebody else's service stays as it was through all of it. And, with NAT: what
operators do, and IPv6.
"""

import os
import pathlib
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))

# pylint: disable=wrong-import-position
import director
import mailpool
import poised
import processes
from ctl import Ctl, metrics, value
from director import MORE_VIPS, SERVERS, VIP6, VIPS, table, weights
from mail_sessions import MailSessions

SMTP, IMAP = mailpool.PORTS["smtp"], mailpool.PORTS["imap"]
SLOW_START_S = 5
DRAIN_S = 10
PATIENCE_S = 120  # a guest's processor may be emulated, and its host busy

servers = None  # pylint: disable=invalid-name


def setUpModule():
    global servers  # pylint: disable=global-statement
    director.lay_out()
    director.add_foreign()
    hosts = [mailpool.Host(address, ["ip", "netns", "exec", name]) for name, address in SERVERS.items()]
    servers = unittest.enterModuleContext(mailpool.MailPool(hosts=hosts, services=("smtp", "imap")))
    tell("the servers are up")


def tell(step):
    """In the output of a failed run: how far it came, and when."""
    print(f"-- {time.monotonic():.1f} {step}", flush=True)


def config_for(mode, vip, *, service=None, pool=None, **top):
    config = poised.balanced(
        {
            "smtp": ("smtp", [server.smtp for server in servers]),
            "imap": ("imap", [server.imap for server in servers]),
        },
        service={"forwarding": mode, **(service or {})},
        pool={
            "slow_start": f"{SLOW_START_S}s",
            "probe": {
                "interval": "4s",
                "fast_interval": "1s",
                "down_interval": "1s",
                "timeout": "20s",
                "rise": 2,
                "fall": 2,
            },
            **(pool or {}),
        },
        shutdown={"drain": f"{DRAIN_S}s"},
        **top,
    )
    for each, port in zip(config["services"], (SMTP, IMAP)):
        each["listen"] = [f"{vip}:{port}"]
    return config


class Forwarded(unittest.TestCase):
    def setUp(self):
        self.state = self.enterContext(tempfile.TemporaryDirectory())
        os.chmod(self.state, 0o777)
        self.clients = self.enterContext(MailSessions("cl"))

    def poised(self, config, **more):
        return poised.Poised(config, state=self.state, **more)

    def await_weights(self, expected, port=SMTP):
        wanted = dict(zip(SERVERS.values(), expected))
        processes.wait_until(
            lambda: weights(self.vip, port) == wanted, within=PATIENCE_S, what=f"weights {wanted} of port {port}"
        )


class Modes(Forwarded):
    def test_nat(self):
        self.go_through("ipvs-nat")

    def test_direct_routing(self):
        self.go_through("ipvs-dr")

    def test_tunnel(self):
        self.go_through("ipvs-tun")

    def go_through(self, mode):
        self.vip = VIPS[mode]
        director.prepare_servers(mode)
        self.addCleanup(director.clear_servers, mode)
        config = config_for(mode, self.vip)
        before = table()
        with self.poised(config) as lb:
            tell(f"{mode} began")
            self.assertEqual(self.clients.imap((self.vip, IMAP), 3), {"be1": 1, "be2": 1, "be3": 1})
            self.spreads_evenly()
            tell("spread evenly")
            self.killed_server_leaves_and_returns(lb)
            tell("a server was killed and came back")
            held = self.clients.hold((self.vip, SMTP), 3)
            self.assertEqual(sorted(held), ["be1", "be2", "be3"])
            self.put_right_after_clearing(lb, held)
            tell("the table was cleared and put right")
            as_it_was = table()
            lb.signal(signal.SIGKILL)
            lb.wait()
            self.assertEqual(table(), as_it_was)
            self.assertEqual(self.clients.noop(), held)
            self.spreads_evenly()
        tell("killed; the table stayed")
        with self.poised(config) as lb:
            lb.wait_for_text("2 services taken over")
            self.assertEqual(table(), as_it_was)
            self.assertEqual(self.clients.noop(), held)
            tell("took the table over")
            self.waits_for_sessions_at_the_end(lb, held)
        self.assertEqual(table(), before)

    def spreads_evenly(self):
        self.assertEqual(self.clients.smtp((self.vip, SMTP), 6), {"be1": 2, "be2": 2, "be3": 2})

    def killed_server_leaves_and_returns(self, lb):
        held = self.clients.hold((self.vip, SMTP), 3)
        gone = servers[2].address
        servers[2].kill_smtp()
        lb.wait_for_text("backend smtp/be3 up -> down", within=PATIENCE_S)
        self.await_weights([1, 1, 0])
        self.assertEqual(self.clients.smtp((self.vip, SMTP), 4), {"be1": 2, "be2": 2})
        self.assertEqual(weights(self.vip, IMAP), dict.fromkeys(SERVERS.values(), 1))
        self.assertEqual(self.clients.noop(), [name if name != "be3" else None for name in held])
        self.clients.quit()

        servers[2].start_smtp()
        lb.wait_for_text("backend smtp/be3 down -> recovering", within=PATIENCE_S)

        def share():
            now = weights(self.vip, SMTP)
            return now[gone] / max(now.values())

        first = processes.wait_until(share, within=PATIENCE_S, what="a first share")
        self.assertLess(first, 1)
        self.await_weights([1, 1, 1])

    def put_right_after_clearing(self, lb, held):
        good = table()
        director.sh("ipvsadm -C")
        director.add_foreign()
        processes.wait_until(lambda: table() == good, within=PATIENCE_S, what="the table is as before")
        lb.wait_for_text("somebody changed our services")
        self.assertEqual(self.clients.noop(), held)
        self.spreads_evenly()

    def waits_for_sessions_at_the_end(self, lb, held):
        lb.signal(signal.SIGTERM)
        processes.wait_until(
            lambda: set(weights(self.vip, SMTP).values()) <= {0}, within=PATIENCE_S, what="no new connections"
        )
        self.assertEqual(self.clients.noop(), held)
        self.assertIsNone(lb.process.poll())
        self.assertEqual(self.clients.quit(), held)
        # Where answers don't pass the director it can't know that the killed server's session is over.
        self.assertEqual(lb.wait(within=DRAIN_S + PATIENCE_S), 0)


class Operating(Forwarded):
    def setUp(self):
        super().setUp()
        self.ctl = self.enterContext(Ctl())
        # One each: the kernel remembers what was open or has just ended at another test's.
        self.vip = MORE_VIPS.pop()

    def config(self, mode="ipvs-nat", **more):
        return config_for(mode, self.vip, admin=self.ctl.admin(), **more)

    def test_drain_loses_nothing(self):
        with self.poised(self.config()) as lb:
            held = self.clients.hold((self.vip, SMTP), 6)
            self.assertEqual(sorted(held), ["be1", "be1", "be2", "be2", "be3", "be3"])
            said = self.ctl.done("drain", "smtp/be1")
            self.assertIn("2 sessions end by themselves", said)
            self.await_weights([0, 1, 1])
            self.assertEqual(self.clients.smtp((self.vip, SMTP), 4), {"be2": 2, "be3": 2})
            self.assertEqual(self.clients.noop(), held)
            self.shows_what_the_kernel_carries(lb)
            self.assertEqual(self.ctl.backend("smtp/be1")["state"], "draining")
            self.assertEqual(self.clients.quit(), held)
            lb.wait_for_text("drained smtp/be1: no session left, disabled", within=PATIENCE_S)
            self.ctl.done("enable", "smtp/be1")
            self.await_weights([1, 1, 1])

            held = self.clients.hold((self.vip, SMTP), 3)
            self.ctl.done("drain", "smtp")
            self.await_weights([0, 0, 0])
            self.assertEqual(self.clients.first_line((self.vip, SMTP)), "")
            self.assertEqual(self.clients.quit(), held)
            lb.wait_for_text("drained smtp: no session left, disabled", within=PATIENCE_S)
            self.ctl.done("enable", "smtp")
            self.await_weights([1, 1, 1])

    def shows_what_the_kernel_carries(self, lb):
        def carried():
            samples = metrics(lb)
            active = value(samples, "poise_sessions_active", service="smtp", backend="be1")
            ended = value(samples, "poise_sessions_total", service="smtp", close_reason="in_kernel")
            moved = [
                value(samples, "poise_bytes_total", service="smtp", backend="be1", direction=each)
                for each in ("to_client", "to_backend")
            ]
            return active == 2 and ended == 4 and min(moved) > 100

        processes.wait_until(carried, within=PATIENCE_S, what="metrics of the kernel's sessions")
        backend = self.ctl.backend("smtp/be1")
        self.assertEqual(backend["sessions"], 2)
        self.assertIsInstance(backend["sessions_per_s"], int)
        smtp = next(s for s in self.ctl.json("show", "services") if s["name"] == "smtp")
        self.assertEqual((smtp["forwarding"], smtp["listen"]), ("ipvs-nat", [f"{self.vip}:{SMTP}"]))
        self.assertEqual((smtp["sessions"], smtp["sessions_total"]), (6, 4))
        self.assertIn("(0/s)", self.ctl.done("show", "services") + self.ctl.done("show", "backends"))

    def test_doctor_and_log_say_what_the_host_lacks(self):
        director.sh("sysctl -qw net.ipv4.ip_forward=0")
        self.addCleanup(director.sh, "sysctl -qw net.ipv4.ip_forward=1")
        with self.poised(self.config()) as lb:
            lb.wait_for_text("run: sysctl -w net.ipv4.ip_forward=1")
            lacking = "the servers' answers are not forwarded: net/ipv4/ip_forward is 0"
            found = {each["what"]: each for each in self.ctl.json("doctor")}
            self.assertEqual(found[f"ip_vs: {lacking}"]["verdict"], "critical")
            self.assertEqual(found[f"ip_vs: {lacking}"]["advice"], "sysctl -w net.ipv4.ip_forward=1")
            director.sh("sysctl -qw net.ipv4.ip_forward=1")
            self.assertNotIn(lacking, self.ctl.run("doctor").stdout)

    def test_proxy_refuses_while_nobody_is_up(self):
        config = self.config(service={"forwarding_fallback": "proxy"})
        with self.poised(config) as lb:
            self.assertTrue(self.clients.first_line((self.vip, IMAP)).startswith("* OK "))
            for server in servers:
                server.kill_imap()
            for i in (1, 2, 3):
                lb.wait_for_text(f"backend imap/be{i} up -> down", within=PATIENCE_S)
            processes.wait_until(
                lambda: self.clients.first_line((self.vip, IMAP)).startswith("* BYE [UNAVAILABLE]"),
                within=PATIENCE_S,
                what="the proxy's refusal",
            )
            self.assertEqual(weights(self.vip, IMAP), {})
            self.assertEqual(len(weights(self.vip, SMTP)), 3)
            imap = next(s for s in self.ctl.json("show", "services") if s["name"] == "imap")
            self.assertEqual(imap["forwarding"], "proxy")
            for server in servers:
                server.start_imap()
            self.await_weights([1, 1, 1], IMAP)
            self.assertTrue(self.clients.first_line((self.vip, IMAP)).startswith("* OK "))

    def test_first_service_in_the_kernel_by_reload(self):
        """Privileges are given away at the start; what a reload needs beyond them it must say."""
        in_kernel, proxied = (config_for(m, self.vip, user="nobody") for m in ("ipvs-nat", "proxy"))
        director.sh("ipvsadm --set 900 120 300")
        with self.poised(proxied) as lb:
            self.assertIn("errors, nothing changed", lb.reload(in_kernel, within=PATIENCE_S))
            lb.wait_for_text("poised needs CAP_NET_ADMIN; it keeps only")
            self.assertTrue(self.clients.first_line((self.vip, SMTP)).startswith("220 "))
            self.assertEqual(weights(self.vip, SMTP), {})
        with self.poised(in_kernel) as lb:
            self.await_weights([1, 1, 1])
            lb.wait_for_text("timeouts raised from 900 s to")
            longer = config_for(
                "ipvs-nat", self.vip, user="nobody", service={"timeouts": {"idle": "3h"}}
            )
            longer["services"].pop()
            longer["pools"].pop()
            lb.reload(longer, within=PATIENCE_S)
            self.assertIn("10800", director.sh("ipvsadm -l --timeout"))
            processes.wait_until(lambda: not weights(self.vip, IMAP), within=PATIENCE_S, what="no IMAP")
            self.await_weights([1, 1, 1])
            # And back to the proxy, in place: the kernel lets go of what is not in use.
            self.assertIn("reload", lb.reload(proxied, within=PATIENCE_S))
            processes.wait_until(lambda: not weights(self.vip, SMTP), within=PATIENCE_S, what="no SMTP")
            self.assertTrue(self.clients.first_line((self.vip, SMTP)).startswith("220 "))

    def test_nat_over_ipv6(self):
        config = self.config()
        for service in config["services"]:
            service["listen"] = [f"[{VIP6}]:{SMTP if service['name'] == 'smtp' else IMAP}"]
        for pool in config["pools"]:
            for backend in pool["backends"]:
                host, _, port = backend["address"].rpartition(":")
                backend["address"] = f"[{director.server6(host)}]:{port}"
        with self.poised(config):
            self.assertEqual(self.clients.smtp((VIP6, SMTP), 6), {"be1": 2, "be2": 2, "be3": 2})
            self.assertEqual(self.clients.imap((VIP6, IMAP), 3), {"be1": 1, "be2": 1, "be3": 1})
            self.assertEqual(
                weights(VIP6, SMTP), {director.server6(address): 1 for address in SERVERS.values()}
            )


if __name__ == "__main__":
    unittest.main()
