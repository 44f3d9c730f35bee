"""Servers that die or vanish in the middle of a load. Clients whose session was already relaying on such a server lose
it, and they are exactly as many as the server had open; nobody else notices anything.
"""

import collections
import contextlib
import socket
import unittest

import bad_server
import mailpool
import netns
import processes
import smtp_load
from poised import Poised, balanced
from smtp_server import SmtpServer

QUICK = {
    "service": {"timeouts": {"connect": "1s", "half_closed": "2s"}},
    "shutdown": {"drain": "3s"},
}


def setUpModule():
    netns.enter()  # nothing but loopback: other addresses have no route


class Failover(unittest.TestCase):
    def test_a_death_and_a_black_hole_in_a_load_cost_only_the_sessions_on_them(self):
        with contextlib.ExitStack() as stack:
            dying, vanishing, staying = (
                stack.enter_context(SmtpServer(f"be{n}")) for n in (1, 2, 3)
            )
            backends = [dying.endpoint, vanishing.endpoint, staying.endpoint]
            poised = stack.enter_context(
                Poised(balanced({"smtp": ("smtp", backends)}, workers=2, **QUICK))
            )
            with smtp_load.Load(poised.endpoint("smtp"), clients=24, timeout=10) as load:
                processes.wait_until(lambda: len(load.results) > 200, within=30)
                broken = dying.die()
                processes.wait_until(lambda: self.tried(poised, "be1:refused") > 20, within=30)
                stuck = vanishing.vanish()
                processes.wait_until(lambda: self.tried(poised, "be2:timeout") > 20, within=30)

            lost = [r for r in load.results if r.error]
            self.assertEqual(broken + stuck, len(lost), lost)
            self.assertGreater(broken + stuck, 0, "the load was too light to show anything")
            for result in lost:
                self.assertNotIn("be3", result.greeting or "", "lost on a server that lives")
            # poised's own word on it: sessions relayed to the dead one that ended without a goodbye
            lines = [
                l
                for l in poised.sessions()
                if l["close_reason"] not in ("client_closed", "backend_closed")
            ]
            self.assertLessEqual({l["backend"] for l in lines}, {"be1", "be2"})

    def test_a_killed_postfix_costs_only_the_sessions_on_it_and_takes_part_again(self):
        with mailpool.MailPool(3) as pool, Poised(
            balanced({"smtp": ("smtp", [s.endpoint("smtp") for s in pool])}, workers=2, **QUICK)
        ) as poised:
            with smtp_load.Load(poised.endpoint("smtp"), clients=12, timeout=20) as load:
                processes.wait_until(lambda: len(load.results) > 60, within=30)
                pool[0].kill_smtp()
                processes.wait_until(lambda: self.tried(poised, "be1:refused") > 10, within=30)
                pool[0].start_smtp()
                pool[0].wait_ready(("smtp",))
                served = len(self.on(load, pool[0]))
                processes.wait_until(lambda: len(self.on(load, pool[0])) > served + 5, within=30)

            lost = [r for r in load.results if r.error]
            for result in lost:
                self.assertIn(
                    "be1", result.greeting or "be1", f"lost on a server that lives: {result}"
                )
            self.assertLessEqual(
                len(lost), 12, "a client loses the session it was in, not the next"
            )

            accepted = {r.identity for r in load.results if r.accepted}
            unsure = {r.identity for r in load.results if not r.accepted}
            stored = processes.wait_until(
                lambda: (found := pool.stored()) and accepted <= found.keys() and found,
                within=40,
                what="every accepted message in a maildir",
            )
            self.assertLessEqual(stored.keys() - accepted, unsure)
            # Exactly once. A Postfix killed between delivering and saying so delivers again: its own doing.
            for server in pool.servers[1:]:
                self.assertEqual({1}, set(server.stored().values()))
            on_servers = sum(
                (collections.Counter(set(s.stored())) for s in pool), collections.Counter()
            )
            self.assertEqual({1}, {on_servers[identity] for identity in accepted})

    def test_every_way_not_to_connect_is_passed_over(self):
        """Each kind stands first in the pool, a good one beside it; every client is served by the good one."""
        kinds = {
            "refused": contextlib.nullcontext(bad_server.refusing_endpoint()),
            "unreachable": contextlib.nullcontext(("192.0.2.1", 25)),
            "timeout": bad_server.black_hole(),
        }
        for outcome, bad in kinds.items():
            with self.subTest(outcome), bad as endpoint, SmtpServer("good") as good:
                config = balanced({"smtp": ("smtp", [endpoint, good.endpoint])}, **QUICK)
                with Poised(config) as poised:
                    for n in range(4):
                        result = smtp_load.session(poised.endpoint("smtp"), f"{n}@poise.test")
                        self.assertIsNone(result.error)
                        self.assertEqual("good ESMTP", result.greeting)
                    lines = poised.sessions(at_least=4)
                self.assertEqual({"be2"}, {line["backend"] for line in lines})
                tries = [line["tries"] for line in lines]
                self.assertEqual(2, tries.count(f"be1:{outcome},be2:ok"), tries)

    def test_a_server_that_trickles_is_waited_for(self):
        words = b"220-slow\r\n220 ESMTP\r\n"
        with bad_server.BadServer(bad_server.trickle(words, 0.02)) as slow:
            backends = [slow.endpoint, bad_server.refusing_endpoint()]
            with Poised(balanced({"smtp": ("smtp", backends)}, **QUICK)) as poised:
                for _ in range(4):
                    with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                        got = b""
                        while len(got) < len(words):
                            got += client.recv(4096) or self.fail(f"EOF after {got}")
                    self.assertEqual(words, got)
                lines = poised.sessions(at_least=4)
            self.assertEqual({"be1"}, {line["backend"] for line in lines})

    def test_with_nobody_left_the_client_is_told_so(self):
        dead = [bad_server.refusing_endpoint(), bad_server.refusing_endpoint()]
        with Poised(balanced({"smtp": ("smtp", dead)}, **QUICK)) as poised:
            for _ in range(20):
                with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                    reply = client.makefile("rb").read()
                    self.assertRegex(reply, rb"^421 4\.3\.2 [^\r\n]+\r\n$")
            lines = poised.sessions(at_least=20)
        self.assertEqual({"refused"}, {line["close_reason"] for line in lines})
        self.assertEqual({"all_failed"}, {line["refusal"] for line in lines})

    @staticmethod
    def tried(poised, what):
        return sum(what in line["tries"] for line in poised.events("session"))

    @staticmethod
    def on(load, server):
        return [r for r in list(load.results) if r.accepted and server.name in r.greeting]


if __name__ == "__main__":
    unittest.main()
