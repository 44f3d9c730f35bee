"""Two directors with real keepalived, each a network namespace: the kernel's connection sync daemons follow their
roles, and sessions the kernel carries go on when the address moves."""

import re
import subprocess
import time
import unittest

import processes
from pair_lab import BOXES, CLIENT, SERVERS, VIP, HeldSession, Lab

ROUTER_ID = 51
DRAIN_S = 100  # more than what a stop takes otherwise
PATIENCE_S = 120  # a guest's processor may be emulated, and its host busy


def edit(config):
    service, pool = config["services"][0], config["pools"][0]
    service |= {"listen": [f"{VIP}:25"], "forwarding": "ipvs-nat"}
    config["shutdown"]["drain"] = f"{DRAIN_S}s"
    pool["probe"] |= {"interval": "4s", "fast_interval": "1s", "timeout": "20s"}


class Directors(Lab):
    """Clients and servers share a segment here, so the servers' answers to the client are sent to the address that
    moves."""

    def __enter__(self):
        super().__enter__()
        for name in BOXES:
            for key in ("ip_forward=1", "conf.all.send_redirects=0", "conf.eth0.send_redirects=0"):
                self.run(name, "sysctl", "-qw", f"net.ipv4.{key}")
        for name in SERVERS:
            self.run(name, "ip", "route", "add", f"{CLIENT}/32", "via", VIP)
        return self

    def keepalived_file(self, box):
        """Where the processor is emulated and the host busy, keepalived's own question, a program to start every
        second, takes longer than the two that it is given: it is asked more seldom here."""
        asked = super().keepalived_file(box)
        seldom = asked.replace("  interval 1\n  timeout 2\n", "  interval 20\n  timeout 20\n")
        if seldom == asked:
            raise AssertionError(asked)
        return seldom

    def run(self, name, *command):
        return subprocess.run([*self.inside(name), *command], check=True, capture_output=True, text=True).stdout

    def daemons(self, name):
        """["master"], ["backup"], both or neither."""
        said = self.run(name, "ipvsadm", "-ln", "--daemon")
        found = re.findall(r"^(master|backup) sync daemon \(mcast=(\w+), syncid=(\d+)", said, re.M)
        for _, interface, number in found:
            if (interface, number) != ("eth0", str(ROUTER_ID)):
                raise AssertionError(said)
        return [role for role, *_ in found]

    def connections(self, name):
        """{(client's port, server's address)} of the established ones in that kernel."""
        said = self.run(name, "ipvsadm", "-lnc")
        pattern = rf"ESTABLISHED {re.escape(CLIENT)}:(\d+) +{re.escape(VIP)}:25 +([\d.]+):25"
        return {(int(port), server) for port, server in re.findall(pattern, said)}


class SyncDaemons(unittest.TestCase):
    def await_daemons(self, lab, expected):
        processes.wait_until(lambda: {name: lab.daemons(name) for name in BOXES} == expected, within=PATIENCE_S,
                             what=f"sync daemons {expected}")

    def test_follow_the_roles(self):
        lab = self.enterContext(Directors(advert="1s", edit=edit))
        one, two = lab.start_both(self.enterContext)
        self.await_daemons(lab, {"lb1": ["master"], "lb2": ["backup"]})

        held = self.enterContext(HeldSession(lab))
        server = next(SERVERS[name] for name in SERVERS if name in held.greeting)
        self.assertTrue(held.say("NOOP").startswith("250"))
        ours = processes.wait_until(lambda: lab.connections("lb1"), what="the connection in the active kernel")
        self.assertEqual([address for _, address in ours], [server])
        processes.wait_until(lambda: lab.connections("lb2") == ours, within=PATIENCE_S,
                             what="the connection in the passive kernel")

        began = time.monotonic()
        one.done("pair", "switch")
        lab.wait_for_holder("lb2", within=PATIENCE_S)
        self.assertTrue(held.say("NOOP").startswith("250"))
        print(f"FIGURE kernel session over a switch: its next answer after {time.monotonic() - began:.1f} s")
        self.await_daemons(lab, {"lb1": ["backup"], "lb2": ["master"]})
        # The kernel's persistence is known there, too.
        self.assertIn(held.greeting.split()[1], lab.session())

        # What began at the second is known to the first by now, and goes on there when the second one dies.
        other = self.enterContext(HeldSession(lab))
        both = processes.wait_until(lambda: len(lab.connections("lb2")) == 2 and lab.connections("lb2"),
                                    what="two connections")
        processes.wait_until(lambda: lab.connections("lb1") == both, within=PATIENCE_S, what="both at the first")
        two.process.kill()
        two.wait()
        lab.wait_for_holder("lb1", within=PATIENCE_S)
        self.assertTrue(held.say("NOOP").startswith("250"))
        self.assertTrue(other.say("NOOP").startswith("250"))
        # What was killed left its daemon behind; the next one takes it over as what it is now.
        self.assertEqual(lab.daemons("lb2"), ["master"])
        two = self.enterContext(lab.box("lb2"))
        self.await_daemons(lab, {"lb1": ["master"], "lb2": ["backup"]})

        # The sessions are the first one's: the second doesn't wait for their end.
        began = time.monotonic()
        self.assertEqual(two.stop(within=PATIENCE_S), 0)
        self.assertLess(time.monotonic() - began, DRAIN_S / 2)
        self.await_daemons(lab, {"lb1": ["master"], "lb2": []})
        self.assertTrue(held.say("NOOP").startswith("250"))
        self.assertEqual(one.stop(within=PATIENCE_S), 0)
        self.await_daemons(lab, {"lb1": [], "lb2": []})


if __name__ == "__main__":
    unittest.main()
