"""Stickiness: a source's sessions stay on one server, move together when it is down, and stay where they moved."""

import collections
import concurrent.futures
import contextlib
import socket
import struct
import unittest

from mail_load import LoadServer
from poised import Poised, balanced

PROBE = {
    "type": "imap",
    "interval": "1s",
    "fast_interval": "200ms",
    "down_interval": "300ms",
    "fall": 2,
    "rise": 1,
    "deep": "off",
}


def proxy_v2(source):
    addresses = socket.inet_aton(source) + socket.inet_aton("192.0.2.1") + struct.pack(">HH", 4711, 143)
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack(">BBH", 0x21, 0x11, len(addresses)) + addresses


class Sticky(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.seen = 0

    def start(self, *, probe="off", service=None, heavy=1, **sticky):
        self.servers = [
            self.stack.enter_context(LoadServer("imap", name=f"be{n}")) for n in (1, 2, 3)
        ]
        config = balanced(
            {"imap": ("imap", [server.endpoint for server in self.servers])},
            workers=2,
            service={"timeouts": {"connect": "1s"}, **(service or {})},
            pool={
                "probe": probe,
                "slow_start": "0s",
                "sticky": {"by": "source", "prefix_v4": 32, **sticky},
            },
        )
        config["pools"][0]["backends"][0]["weight"] = heavy
        self.poised = self.stack.enter_context(Poised(config))

    def session(self, source, header=b""):
        """An IMAP session that stays until all of its batch are greeted."""
        client = socket.create_connection(
            self.poised.endpoint("imap"), 10, source_address=(source, 0)
        )
        client.sendall(header)
        if not client.recv(4096).startswith(b"* OK"):
            raise AssertionError(f"{source} was not greeted")
        return client

    def at_once(self, count, source="127.60.0.1", header=b""):
        """{backend: sessions} of that many opened at once; only their own lines count."""
        with concurrent.futures.ThreadPoolExecutor(count) as many:
            clients = list(many.map(lambda _: self.session(source, header), range(count)))
        return self.ended(clients)

    def ended(self, clients):
        for client in clients:
            client.close()
        self.seen += len(clients)
        lines = self.poised.sessions(at_least=self.seen)[self.seen - len(clients) :]
        return collections.Counter(line["backend"] for line in lines)

    def test_twenty_connections_at_once_land_on_one_server(self):
        self.start()
        homes = set()
        for number in range(12):
            where = self.at_once(20, f"127.60.1.{number + 1}")
            self.assertEqual([20], list(where.values()))
            again = self.at_once(20, f"127.60.1.{number + 1}")
            self.assertEqual(where, again)
            homes |= set(where)
        self.assertEqual({"be1", "be2", "be3"}, homes)

    def test_they_move_together_and_stay_moved(self):
        self.start(probe=PROBE)
        (home,) = self.at_once(20)
        server = self.servers[int(home[2]) - 1]
        server.kill()
        (early,) = self.at_once(20)  # nobody's probe has noticed yet
        self.poised.wait_for_text(f"imap/{home}", within=10)
        self.poised.wait_for(
            lambda line: f"imap/{home} " in line and "-> down" in line, within=10, what=f"{home} down"
        )
        where = self.at_once(20)
        self.assertEqual([20], list(where.values()))
        (refuge,) = where
        self.assertNotEqual(home, refuge)
        self.assertEqual(early, refuge)
        server.start()
        self.poised.wait_for(
            lambda line: f"imap/{home} " in line and "-> up" in line, within=10, what=f"{home} up"
        )
        self.assertEqual({refuge: 20}, self.at_once(20))

    def test_prefix(self):
        self.start(prefix_v4=24)
        homes = collections.Counter()
        for number in range(20):
            homes += self.at_once(1, f"127.60.3.{number + 1}")
        self.assertEqual([20], list(homes.values()))

    def test_except_is_spread(self):
        self.start(**{"except": ["127.60.4.0/24"]})
        self.assertEqual([10, 10, 10], list(self.at_once(30, "127.60.4.1").values()))

    def test_max_share_spreads_the_sources(self):
        """By its weight be1 would have nine sources in eleven; once there are a hundred it gets no more than half."""
        self.start(heavy=9, max_share=0.5)
        sources = [f"127.60.{128 + number // 200}.{number % 200 + 1}" for number in range(300)]
        homes = self.ended([self.session(source) for source in sources])
        self.assertLessEqual(homes["be1"], 150 + 1)
        self.assertGreaterEqual(homes["be1"], 140)

    def test_the_address_of_a_proxy_header_counts(self):
        trusted = {"accept_proxy": True, "trusted_proxies": ["127.0.0.0/8"]}
        self.start(service=trusted)
        homes = set()
        for number in range(9):
            where = self.at_once(5, "127.60.6.1", proxy_v2(f"203.0.113.{number}"))
            self.assertEqual([5], list(where.values()))
            self.assertEqual(where, self.at_once(5, "127.60.6.2", proxy_v2(f"203.0.113.{number}")))
            homes |= set(where)
        self.assertEqual({"be1", "be2", "be3"}, homes)

    def test_stateless_forms_agree_with_themselves(self):
        for scheduler in ("source_hash", "maglev"):
            with self.subTest(scheduler), contextlib.ExitStack() as stack:
                servers = [stack.enter_context(LoadServer("imap")) for _ in "123"]
                config = balanced(
                    {"imap": ("imap", [server.endpoint for server in servers])},
                    pool={"scheduler": scheduler, "slow_start": "0s"},
                )
                self.poised, self.seen = stack.enter_context(Poised(config)), 0
                homes = set()
                for number in range(20):
                    where = self.at_once(4, f"127.60.7.{number + 1}")
                    self.assertEqual([4], list(where.values()))
                    homes |= set(where)
                self.assertGreaterEqual(len(homes), 2)


if __name__ == "__main__":
    unittest.main()
