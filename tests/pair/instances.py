#!/usr/bin/env python3
"""Two VRRP instances, one of them for IPv6: they move together, whatever fails."""

import time
import unittest

import processes
from pair_lab import CLIENT, VIP, VIP6, PairTest, Watch, address6


def edit(config):
    config["services"][0]["listen"] = ["0.0.0.0:25", "[::]:25"]
    first = config["pair"]["vrrp"][0]
    config["pair"]["vrrp"].append({**first, "name": "mail6", "router_id": 52, "virtual_addresses": [f"{VIP6}/64"]})
    for node in config["pair"]["nodes"]:
        own = node["address"].rpartition(":")[0]
        node["vrrp_address"] = [own, address6(own)]


class Instances(PairTest):
    edit = staticmethod(edit)

    def setUp(self):
        super().setUp()
        self.lab.one_has_it("lb1", VIP6, seconds=0)
        self.watch6 = Watch(self.lab, VIP6)
        self.addCleanup(processes.stop, self.watch6.process)
        processes.wait_until(lambda: len(self.watch6.attempts()) > 3, what="the other watcher")

    def both_move(self, what, fail):
        begin = time.monotonic()
        self.fails(what, fail)
        outage = self.watch6.outage_since(begin)
        print(f"FIGURE {what}, IPv6: new sessions after {outage:.2f} s", flush=True)
        self.assertLess(outage, 4)
        for vip in (VIP, VIP6):
            self.lab.one_has_it("lb2", vip)
        for client, vip in ((CLIENT, VIP), (address6(CLIENT), VIP6)):
            self.assertTrue((self.lab.session(client, vip) or "").startswith("220"), vip)
        states = self.two.metric("poise_vrrp_state")
        self.assertEqual([states[f'instance="{name}",state="master"'] for name in ("mail", "mail6")], [1.0, 1.0])

    def test_daemon_killed(self):
        self.both_move("daemon killed", self.one.process.kill)
        self.one.wait()

    def test_switch_and_back(self):
        self.both_move("pair switch", lambda: self.one.done("pair", "switch"))
        self.two.done("pair", "switch")
        for vip in (VIP, VIP6):
            self.lab.one_has_it("lb1", vip)


if __name__ == "__main__":
    unittest.main()
