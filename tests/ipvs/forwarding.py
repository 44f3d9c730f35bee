"""NAT, direct routing and tunnels with real Postfix and Dovecot: a client, the director and three real servers, each a
network namespace on one bridge (the director is the guest's first namespace).

In each mode: sessions spread as the scheduler says; a killed server goes out by its probes and the sessions on the
others stay; it comes back slowly; SIGKILL and a new start lose nothing and leave the table; ipvsadm -C is put right;
SIGTERM waits for the sessions; somebody else's service stays as it was through all of it.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))

# pylint: disable=wrong-import-position
import mailpool
import poised
import processes
from mail_sessions import MailSessions

VIP = "10.9.1.100"
GATEWAY = "10.9.2.1"
CLIENT = "10.9.1.2"
SERVERS = {f"rs{i}": f"10.9.2.2{i}" for i in (1, 2, 3)}
SMTP, IMAP = mailpool.PORTS["smtp"], mailpool.PORTS["imap"]
FOREIGN = ["-A -t 10.9.1.100:80 -s lc -p 77 -M 255.255.0.0", "-a -t 10.9.1.100:80 -r 10.9.2.99:80 -g -w 5"]
SLOW_START_S = 10
DRAIN_S = 30


def sh(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def tell(step):
    """In the output of a failed run: how far it came, and when."""
    print(f"-- {time.monotonic():.1f} {step}", flush=True)


def inside(name, command):
    return sh(f"ip netns exec {name} sh -ec '{command}'")


def add_host(name, address):
    sh(
        f"ip netns add {name} && ip link add v{name} type veth peer name eth0 netns {name} && "
        f"ip link set v{name} master br0 up"
    )
    inside(name, f"ip link set lo up; ip addr add {address}/24 dev eth0; ip link set eth0 up")


def lay_out_network():
    sh("ip link add br0 type bridge && ip link set br0 up")
    for address in (VIP, "10.9.1.11", GATEWAY):
        sh(f"ip addr add {address}/24 dev br0")
    sh("sysctl -qw net.ipv4.ip_forward=1")
    # One segment for both sides: else redirects would let the answers bypass the director.
    sh("sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.br0.send_redirects=0")
    add_host("cl", CLIENT)
    for name, address in SERVERS.items():
        add_host(name, address)
        inside(name, f"ip route add default via {GATEWAY}")


def prepare_servers(mode):
    """What docs/ipvs.md tells to do on real servers."""
    for name in SERVERS:
        quiet = "net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
        if mode == "ipvs-dr":
            inside(name, f"sysctl -qw {quiet}; ip addr add {VIP}/32 dev lo; ip route add 10.9.1.0/24 dev eth0")
        elif mode == "ipvs-tun":
            inside(
                name,
                f"sysctl -qw {quiet}; ip link set tunl0 up; ip addr add {VIP}/32 dev tunl0; "
                "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0; "
                "ip route add 10.9.1.0/24 dev eth0",
            )


def clear_servers(mode):
    if mode == "ipvs-nat":
        return
    device = "lo" if mode == "ipvs-dr" else "tunl0"
    for name in SERVERS:
        inside(name, f"ip addr del {VIP}/32 dev {device}; ip route del 10.9.1.0/24 dev eth0")


def table():
    """What another program sees, sorted."""
    return sorted(sh("ipvsadm -Sn").splitlines())


def without_foreign(lines):
    return [line for line in lines if line not in FOREIGN]


def weights(port):
    """{server's address: weight} of the service on that port."""
    found = {}
    for line in table():
        match = re.match(rf"-a -t {VIP}:{port} -r ([\d.]+):\d+ .*-w (\d+)", line)
        if match:
            found[match[1]] = int(match[2])
    return found


def config_for(mode, servers):
    config = poised.balanced(
        {
            "smtp": ("smtp", [server.smtp for server in servers]),
            "imap": ("imap", [server.imap for server in servers]),
        },
        service={"forwarding": mode},
        pool={
            "slow_start": f"{SLOW_START_S}s",
            "probe": {
                "interval": "2s",
                "fast_interval": "500ms",
                "down_interval": "1s",
                "timeout": "10s",
                "rise": 2,
                "fall": 2,
            },
        },
        shutdown={"drain": f"{DRAIN_S}s"},
    )
    for service, port in zip(config["services"], (SMTP, IMAP)):
        service["listen"] = [f"{VIP}:{port}"]
    return config


class Forwarding(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        lay_out_network()
        for line in FOREIGN:
            sh(f"ipvsadm {line}")
        cls.state = cls.enterClassContext(tempfile.TemporaryDirectory())
        os.environ["STATE_DIRECTORY"] = cls.state
        hosts = [mailpool.Host(address, ["ip", "netns", "exec", name]) for name, address in SERVERS.items()]
        cls.servers = cls.enterClassContext(mailpool.MailPool(hosts=hosts))

    def setUp(self):
        self.clients = self.enterContext(MailSessions("cl"))

    def test_nat(self):
        self.go_through("ipvs-nat")

    def test_direct_routing(self):
        self.go_through("ipvs-dr")

    def test_tunnel(self):
        self.go_through("ipvs-tun")

    def go_through(self, mode):
        prepare_servers(mode)
        self.addCleanup(clear_servers, mode)
        config = config_for(mode, self.servers)
        before = table()
        with poised.Poised(config) as lb:
            tell(f"{mode} began")
            self.spreads_evenly()
            tell("spread evenly")
            self.killed_server_leaves_and_returns(lb)
            tell("a server was killed and came back")
            held = self.clients.hold((VIP, SMTP), 6)
            self.assertEqual(sorted(held), ["be1", "be1", "be2", "be2", "be3", "be3"])
            self.put_right_after_clearing(lb, held)
            tell("the table was cleared and put right")
            as_it_was = table()
            lb.signal(signal.SIGKILL)
            lb.wait()
            self.assertEqual(table(), as_it_was)
            self.assertEqual(self.clients.noop(), held)
            self.spreads_evenly()
        tell("killed; the table stayed")
        with poised.Poised(config) as lb:
            lb.wait_for_text("2 services taken over")
            self.assertEqual(table(), as_it_was)
            self.assertEqual(self.clients.noop(), held)
            self.spreads_evenly()
            tell("took the table over")
            self.waits_for_sessions_at_the_end(lb, held)
        self.assertEqual(table(), before)

    def spreads_evenly(self):
        equal = {"be1": 3, "be2": 3, "be3": 3}
        self.assertEqual(self.clients.smtp((VIP, SMTP), 9), equal)
        self.assertEqual(self.clients.imap((VIP, IMAP), 9), equal)

    def killed_server_leaves_and_returns(self, lb):
        held = self.clients.hold((VIP, SMTP), 3)
        self.servers[2].kill_smtp()
        lb.wait_for_text("backend smtp/be3 up -> down", within=60)
        gone = self.servers[2].address
        processes.wait_until(lambda: weights(SMTP)[gone] == 0, within=10, what="weight 0")
        self.assertEqual(self.clients.smtp((VIP, SMTP), 6), {"be1": 3, "be2": 3})
        self.assertEqual(self.clients.imap((VIP, IMAP), 3), {"be1": 1, "be2": 1, "be3": 1})
        self.assertEqual(self.clients.noop(), [name if name != "be3" else None for name in held])
        self.clients.quit()

        self.servers[2].start_smtp()
        lb.wait_for_text("backend smtp/be3 down -> recovering", within=60)

        def share():
            now = weights(SMTP)
            return now[gone] / max(now.values())

        first = processes.wait_until(share, within=10, what="a first share")
        self.assertLess(first, 0.5)
        processes.wait_until(lambda: set(weights(SMTP).values()) == {1}, within=40, what="its full share")

    def put_right_after_clearing(self, lb, held):
        good = table()
        sh("ipvsadm -C")
        for line in FOREIGN:
            sh(f"ipvsadm {line}")
        processes.wait_until(lambda: table() == good, within=15, what="the table is as before")
        lb.wait_for_text("somebody changed our services")
        self.assertEqual(self.clients.noop(), held)
        self.spreads_evenly()

    def waits_for_sessions_at_the_end(self, lb, held):
        lb.signal(signal.SIGTERM)
        processes.wait_until(
            lambda: set(weights(SMTP).values()) <= {0}, within=10, what="no new connections"
        )
        self.assertEqual(self.clients.noop(), held)
        self.assertIsNone(lb.process.poll())
        self.assertEqual(self.clients.quit(), held)
        # Where answers don't pass the director it can't know that the killed server's session is over.
        self.assertEqual(lb.wait(within=DRAIN_S + 30), 0)


if __name__ == "__main__":
    unittest.main()
