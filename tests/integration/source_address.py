"""Whose address a server sees: one of ours, several in turn, or the client's own, between network namespaces."""

import collections
import contextlib
import re
import socket
import subprocess
import threading
import unittest

import bad_server
import poised as poised_program
import processes
from netns import Namespace
from poised import Poised, balanced, endpoint_text


class Recorder(bad_server.BadServer):
    """Greets, and remembers who came."""

    def __init__(self):
        self.seen = []
        super().__init__(self._greet)

    def _greet(self, connection):
        self.seen.append(connection.getpeername()[0])
        connection.sendall(b"220 ok\r\n")
        bad_server.silence(connection)


def greeted(endpoint, count=1, source=None):
    for _ in range(count):
        with socket.create_connection(
            endpoint, 10, source_address=(source, 0) if source else None
        ) as client:
            if not client.recv(4096).startswith(b"220"):
                raise AssertionError("not greeted")


class OurAddresses(unittest.TestCase):
    def seen_by_server(self, source_address, count=12):
        with Recorder() as server:
            config = balanced(
                {"smtp": ("smtp", [server.endpoint])}, pool={"source_address": source_address}
            )
            with Poised(config) as poised:
                greeted(poised.endpoint("smtp"), count)
                lines = poised.sessions(at_least=count)
            logged = collections.Counter(line["src"].rpartition(":")[0] for line in lines)
            self.assertEqual(collections.Counter(server.seen), logged)
            return logged

    def test_fixed(self):
        self.assertEqual({"127.77.0.5": 12}, self.seen_by_server("127.77.0.5"))

    def test_several_take_turns(self):
        several = ["127.77.0.5", "127.77.0.6", "127.77.0.7"]
        self.assertEqual(dict.fromkeys(several, 4), self.seen_by_server(several))

    def test_of_the_servers_family(self):
        self.assertEqual({"127.77.0.5": 12}, self.seen_by_server(["2001:db8::1", "127.77.0.5"]))

    def test_one_that_is_not_ours_is_said(self):
        with Recorder() as server:
            config = balanced(
                {"smtp": ("smtp", [server.endpoint])}, pool={"source_address": "192.0.2.99"}
            )
            with Poised(config) as poised:
                with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                    self.assertTrue(client.recv(4096).startswith(b"421 4.3.2 "))
                poised.wait_for_text("no source address towards")


class Transparent(unittest.TestCase):
    """client 10.91.1.2 - 10.91.1.1 balancer 10.91.2.1 - 10.91.2.2 server, IPv6 alike; the server's way to clients leads
    through the balancer. The server greets, and records whom it sees."""

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.client, self.balancer, self.server = (
            self.stack.enter_context(Namespace(name)) for name in ("client", "balancer", "server")
        )
        for net, other, end in ((1, self.client, "front"), (2, self.server, "back")):
            self.balancer.ip("link", "add", end, "type", "veth", "peer", "name", "lan", "netns", other.name)
            self.balancer.ip("addr", "add", f"10.91.{net}.1/24", "dev", end)
            self.balancer.ip("addr", "add", f"fd91:{net}::1/64", "dev", end, "nodad", family="-6")
            self.balancer.ip("link", "set", end, "up")
            other.ip("addr", "add", f"10.91.{net}.2/24", "dev", "lan")
            other.ip("addr", "add", f"fd91:{net}::2/64", "dev", "lan", "nodad", family="-6")
            other.ip("link", "set", "lan", "up")
            other.ip("route", "add", "default", "via", f"10.91.{net}.1")
            other.ip("route", "add", "default", "via", f"fd91:{net}::1", family="-6")
        for each in (self.client, self.balancer, self.server):  # no neighbour is found before that
            processes.wait_until(
                lambda each=each: not each.ip("addr", "show", "tentative", family="-6"),
                within=10,
                what="addresses are settled",
            )

    def serve(self, address):
        """Its endpoint, and the list of peers that grows."""
        with self.server.inside():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = self.stack.enter_context(socket.socket(family))
            listener.bind((address, 0))
            listener.listen(64)
        seen = []

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, peer = listener.accept()
                    seen.append(peer[0])
                    connection.sendall(b"220 ok\r\n")
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(1)
                    connection.close()

        threading.Thread(target=accept, daemon=True).start()
        self.stack.callback(listener.shutdown, socket.SHUT_RDWR)
        return listener.getsockname()[:2], seen

    def poised(self, listen, backend, **top):
        config = balanced(
            {"smtp": ("smtp", [backend])},
            listen=listen,
            pool={"source_address": "client"},
            service={"timeouts": {"connect": "1s"}, "greeting": {"timeout": "1s", "budget": "2s"}},
            shutdown={"drain": "1s"},
            **top,
        )
        return Poised(config, wrap=self.balancer.wrap)

    def rules(self, port, family):
        """As the service's drop-in has them, twice: a restart runs it again."""
        dropin = (poised_program.ROOT / "packaging/systemd/transparent.conf").read_text()
        commands = re.findall(r"^ExecStartPre=(-?)\+/sbin/ip (-[46]) (.*)$", dropin, re.M)
        self.assertEqual(6, len(commands))
        for may_fail, of, command in commands * 2:
            if of != family:
                continue
            command = command.replace("iif eth1", "iif back").replace("sport 25", f"sport {port}")
            try:
                self.balancer.ip(*command.split(), family=family)
            except subprocess.CalledProcessError:
                if not may_fail:
                    raise
        self.assertEqual(1, self.balancer.ip("rule", family=family).count(f"sport {port}"))

    def test_the_server_sees_the_client(self):
        for family, net in (("-4", "10.91.{}.{}"), ("-6", "fd91:{}::{}")):
            with self.subTest(family):
                backend, seen = self.serve(net.format(2, 2))
                self.rules(backend[1], family)
                listen = endpoint_text((net.format(1, 1), 0))
                # As another user: the capability has to survive the change.
                with self.poised(listen, backend, user="nobody") as poised:
                    self.assertNotIn("would not come to us", poised.tail(100))
                    with self.client.inside():
                        greeted(poised.endpoint("smtp"), 20)
                    lines = poised.sessions(at_least=20)
                self.assertEqual([net.format(1, 2)] * 20, seen)
                logged = {line["src"].rpartition(":")[0].strip("[]") for line in lines}
                self.assertEqual({net.format(1, 2)}, logged)

    def test_without_the_rules_the_start_says_which(self):
        for family, net in (("-4", "10.91.{}.{}"), ("-6", "fd91:{}::{}")):
            with self.subTest(family):
                backend, seen = self.serve(net.format(2, 2))
                with self.poised(endpoint_text((net.format(1, 1), 0)), backend) as poised:
                    line = poised.wait_for_text("would not come to us")
                    commands = line.partition("and run: ")[2].split(" && ")
                    self.assertEqual(2, len(commands), line)
                    with self.client.inside():
                        with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                            self.assertTrue(client.recv(4096).startswith(b"421 4.3.2 "))
                    # What it says is what helps, without a restart.
                    for command in commands:
                        subprocess.run([*self.balancer.wrap, *command.split()], check=True)
                    with self.client.inside():
                        greeted(poised.endpoint("smtp"))
                self.assertEqual(net.format(1, 2), seen[-1])

    def test_without_the_capability_it_does_not_start(self):
        wrap = ["setpriv", "--bounding-set", "-net_raw,-net_admin", "--inh-caps", "-net_raw,-net_admin"]
        config = balanced(
            {"smtp": ("smtp", ["127.0.0.1:25"])}, pool={"source_address": "client"}
        )
        poised = Poised(config, wrap=wrap, wait_ready=False)
        with poised:
            self.assertEqual(1, poised.wait(within=10))
        self.assertIn("needs CAP_NET_RAW", poised.tail())


if __name__ == "__main__":
    unittest.main()
