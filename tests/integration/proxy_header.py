"""The PROXY protocol with real servers: towards them, from proxies in front of us, and through two poised."""

import contextlib
import imaplib
import poplib
import re
import smtplib
import socket
import ssl
import struct
import unittest

import bad_server
import mailpool
import processes
from mail_load import LoadServer
from poised import Poised, balanced

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
GREETED = re.compile(rb"^220 ")


def v2(command, family, addresses=b"", tlvs=b""):
    """A v2 header; command 0 is LOCAL, 1 PROXY."""
    length = len(addresses) + len(tlvs)
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, family, length) + addresses + tlvs


def inet(source, destination):
    pack = socket.inet_aton
    return pack(source[0]) + pack(destination[0]) + struct.pack(">HH", source[1], destination[1])


def inet6(source, destination):
    def pack(text):
        return socket.inet_pton(socket.AF_INET6, text)

    return pack(source[0]) + pack(destination[0]) + struct.pack(">HH", source[1], destination[1])


def login_over_tls(endpoint, source):
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(endpoint, 10, source_address=(source, 0)) as plain:
        with tls.wrap_socket(plain) as client:
            return dialogue(client, [b"", b"a LOGIN user secret\r\n", b"b LOGOUT\r\n"])


def dialogue(client, words):
    """Says each and waits for a line."""
    said = b""
    for word in words:
        client.sendall(word)
        said += client.recv(4096)
    return said


class TowardsServers(unittest.TestCase):
    """send_proxy with servers that demand it: they log the client's own address."""

    @classmethod
    def setUpClass(cls):
        pool = mailpool.MailPool(count=1)
        cls.server = pool[0]
        cls.server.postconf("-P", f"{cls.server.postscreen}/inet/postscreen_upstream_proxy_protocol=haproxy")
        cls.server.postconf("-e", "postscreen_greet_wait=1s")
        cls.enterClassContext(pool)

    def poised(self, version, listen="127.0.0.1:0"):
        names = {
            "smtp": "smtp_proxy",
            "postscreen": "postscreen",
            "imap": "imap_proxy",
            "imaps": "imaps_proxy",
            "pop3": "pop3_proxy",
            "lmtp": "lmtp_proxy",
            "managesieve": "sieve_proxy",
        }
        services = {
            name: ("smtp" if name == "postscreen" else name, [self.server.endpoint(port)])
            for name, port in names.items()
        }
        return Poised(balanced(services, listen=listen, pool={"send_proxy": version}))

    def demand_logged(self, daemon, words):
        processes.wait_until(
            lambda: words in self.server.log(daemon), within=5, what=f"{words} in the log"
        )

    def test_postfix_and_dovecot_see_the_client(self):
        for number, version in enumerate(("v1", "v2")):
            source = f"127.55.{number}.9"
            with self.subTest(version), self.poised(version) as poised:
                with smtplib.SMTP(*poised.endpoint("smtp"), timeout=10, source_address=(source, 0)) as client:
                    self.assertEqual(250, client.ehlo()[0])
                self.demand_logged("smtp", f"connect from unknown[{source}]")
                with smtplib.SMTP(
                    *poised.endpoint("postscreen"), timeout=15, source_address=(source, 0)
                ) as client:
                    self.assertEqual(250, client.noop()[0])
                port = poised.endpoint("postscreen")[1]
                log = self.server.log("smtp")
                self.assertRegex(log, rf"CONNECT from \[{re.escape(source)}\]:\d+ to \[127\.0\.0\.1\]:{port}\b")

                with socket.create_connection(
                    poised.endpoint("imap"), 10, source_address=(source, 0)
                ) as client:
                    dialogue(client, [b"", b"a LOGIN imap-user secret\r\n", b"b LOGOUT\r\n"])
                self.demand_logged("imap", f"user=<imap-user>, method=PLAIN, rip={source}, lip=127.0.0.1")
                with socket.create_connection(
                    poised.endpoint("pop3"), 10, source_address=(source, 0)
                ) as client:
                    dialogue(client, [b"", b"USER pop-user\r\n", b"PASS secret\r\n", b"QUIT\r\n"])
                self.demand_logged("imap", f"user=<pop-user>, method=PLAIN, rip={source}, lip=127.0.0.1")
                self.assertIn(b"a OK", login_over_tls(poised.endpoint("imaps"), source))
                self.demand_logged("imap", f"user=<user>, method=PLAIN, rip={source}, lip=127.0.0.1")
                with smtplib.LMTP(*poised.endpoint("lmtp"), source_address=(source, 0)) as client:
                    client.sendmail("a@x.test", ["user@lab.test"], "Subject: x\r\n\r\nHello.\r\n")
                self.demand_logged("imap", f"Connect from {source}")
                with socket.create_connection(
                    poised.endpoint("managesieve"), 10, source_address=(source, 0)
                ) as client:
                    self.assertIn(b"IMPLEMENTATION", client.recv(4096))

    def test_an_ipv6_client_of_an_ipv4_server(self):
        for version in ("v1", "v2"):
            with self.subTest(version), self.poised(version, listen="[::1]:0") as poised:
                before = self.server.log("smtp").count("connect from unknown[::1]")
                with smtplib.SMTP(*poised.endpoint("smtp"), timeout=10) as client:
                    self.assertEqual(250, client.noop()[0])
                processes.wait_until(
                    lambda: self.server.log("smtp").count("connect from unknown[::1]") > before, within=5
                )

    def test_two_poised_one_behind_the_other(self):
        for version, source in (("v1", "127.55.9.1"), ("v2", "127.55.9.2")):
            behind = balanced(
                {"smtp": ("smtp", [self.server.endpoint("smtp_proxy")])},
                pool={"send_proxy": version},
                service={"accept_proxy": True, "trusted_proxies": ["127.0.0.0/16"]},
            )
            with self.subTest(version), Poised(behind) as inner:
                before = balanced(
                    {"smtp": ("smtp", [inner.endpoint("smtp")])}, pool={"send_proxy": version}
                )
                with Poised(before) as outer:
                    with smtplib.SMTP(
                        *outer.endpoint("smtp"), timeout=10, source_address=(source, 0)
                    ) as client:
                        self.assertEqual(250, client.noop()[0])
                    at, port = outer.endpoint("smtp")
                line = inner.sessions(at_least=1)[0]
                self.assertEqual(source, line["client"].rpartition(":")[0])
                self.assertEqual(f"{at}:{port}", line["vip"])
                self.demand_logged("smtp", f"connect from unknown[{source}]")

    def test_the_unique_id_of_v2_is_the_one_we_log(self):
        got = []

        def remember(connection):
            got.append(connection.recv(4096))
            connection.sendall(b"220 ok\r\n")
            bad_server.silence(connection)

        with bad_server.BadServer(remember) as server:
            config = balanced({"smtp": ("smtp", [server.endpoint])}, pool={"send_proxy": "v2"})
            with Poised(config) as poised:
                for _ in range(3):
                    with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                        client.recv(100)
                lines = poised.sessions(at_least=3)
        identities = []
        for header in got:
            self.assertEqual(SIGNATURE + b"\x21\x11", header[:14])
            (length,) = struct.unpack(">H", header[14:16])
            self.assertEqual(16 + length, len(header))
            kind, size = struct.unpack(">BH", header[28:31])
            self.assertEqual(5, kind)  # PP2_TYPE_UNIQUE_ID
            identities.append(header[31 : 31 + size].decode())
        self.assertEqual(sorted(identities), sorted(line["id"] for line in lines))


class FromProxies(unittest.TestCase):
    """accept_proxy."""

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def start(self, accept, trusted=("127.0.0.0/24",)):
        server = self.stack.enter_context(LoadServer())
        service = {"accept_proxy": accept, "trusted_proxies": list(trusted)}
        config = balanced({"smtp": ("smtp", [server.endpoint])}, service=service)
        self.poised = self.stack.enter_context(Poised(config))

    def say(self, words, source="127.0.0.1", pieces=1):
        """What comes back, up to the end of the first read; b"" for a bare close."""
        with socket.create_connection(
            self.poised.endpoint("smtp"), 10, source_address=(source, 0)
        ) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            size = max(1, len(words) // pieces)
            for at in range(0, len(words), size):
                client.sendall(words[at : at + size])
            return client.recv(4096)

    def last_session(self, count):
        return self.poised.sessions(at_least=count)[-1]

    def test_headers_that_are_taken(self):
        self.start(True)
        me, there = ("192.0.2.7", 4711), ("198.51.100.1", 25)
        me6, there6 = ("2001:db8::7", 4711), ("2001:db8::1", 25)
        unix = b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")
        cases = {
            "v1": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n", "192.0.2.7:4711"),
            "v1 IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n", "[2001:db8::7]:4711"),
            "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
            "v1 UNKNOWN, more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1"),
            "v2": (v2(1, 0x11, inet(me, there)), "192.0.2.7:4711"),
            "v2 IPv6": (v2(1, 0x21, inet6(me6, there6)), "[2001:db8::7]:4711"),
            "v2 with TLVs": (v2(1, 0x11, inet(me, there), b"\x04\0\x03abc" * 9), "192.0.2.7:4711"),
            "v2 LOCAL": (v2(0, 0x00), "127.0.0.1"),
            "v2 AF_UNIX": (v2(1, 0x31, unix), "127.0.0.1"),
            "v2 UNSPEC": (v2(1, 0x00, b"what it likes"), "127.0.0.1"),
        }
        count = 0
        for name, (header, client) in cases.items():
            for pieces in (1, 7, 1000):
                with self.subTest(name, pieces=pieces):
                    self.assertRegex(self.say(header, pieces=pieces), GREETED)
                    count += 1
                    self.assertTrue(self.last_session(count)["client"].startswith(client))

    def test_what_is_refused(self):
        self.start(True)
        cases = {
            "no header": b"EHLO me.test\r\n",
            "v1 no family": b"PROXY\r\n",
            "v1 junk": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 99999\r\n",
            "v1 mixed families": b"PROXY TCP4 2001:db8::7 198.51.100.1 4711 25\r\n",
            "v1 endless": b"PROXY TCP4 " + b"1" * 200,
            "v2 version 3": SIGNATURE + b"\x31\x11\x00\x0c" + b"\x00" * 12,
            "v2 too short": v2(1, 0x11, b"\x00" * 4),
            "v2 huge": SIGNATURE + b"\x21\x11\xff\xff" + b"\x00" * 8000,
        }
        for number, (name, words) in enumerate(cases.items()):
            with self.subTest(name):
                self.assertRegex(self.say(words), rb"^421 4\.3\.5 mx\.poise\.test ")
                line = self.last_session(number + 1)
                self.assertEqual("proxy_header", line["refusal"])
        self.poised.wait_for_text("was refused: ")

    def test_the_untrusted_are_refused(self):
        self.start(True)
        header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n"
        self.assertRegex(self.say(header, source="127.0.9.1"), rb"^421 4\.3\.5 ")
        self.poised.wait_for_text("not from one of trusted_proxies")
        self.assertEqual("proxy_header", self.last_session(1)["refusal"])

    def test_optional_takes_both(self):
        self.start("optional")
        header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n"
        self.assertRegex(self.say(header), GREETED)
        self.assertEqual("192.0.2.7:4711", self.last_session(1)["client"])
        self.assertRegex(self.say(b""), GREETED)
        self.assertTrue(self.last_session(2)["client"].startswith("127.0.0.1:"))
        # From elsewhere a header is what a client says too early; its words count for nothing.
        self.assertRegex(self.say(b"", source="127.0.9.1"), GREETED)
        self.say(header, source="127.0.9.1")
        self.assertTrue(self.last_session(4)["client"].startswith("127.0.9.1:"))

    def test_a_proxy_that_says_nothing_is_refused_in_time(self):
        self.start(True)
        with socket.create_connection(self.poised.endpoint("smtp"), 20) as client:
            client.settimeout(20)
            self.assertRegex(client.recv(4096), rb"^421 4\.3\.5 ")


if __name__ == "__main__":
    unittest.main()
