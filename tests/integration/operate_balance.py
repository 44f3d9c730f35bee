"""poise-balance: balance's command lines and commands against servers, those of its man page against real ones."""

import contextlib
import imaplib
import json
import os
import poplib
import re
import signal
import smtplib
import socket
import subprocess
import tempfile
import threading
import unittest
import unittest.mock

import addresses
import dns_server
import mailpool
import netns
import processes
from poised import BIN, Poised
from smtp_server import SmtpServer


def setUpModule():
    netns.enter()


class Balance:
    """poise-balance in the foreground for the length of a with block; its log as text. wrap: a command that runs it."""

    def __init__(self, *arguments, wrap=(), environment=None):
        self._arguments = arguments
        self._wrap = wrap
        self._environment = {**os.environ, **(environment or {})}
        self.lines = []

    def __enter__(self):
        self.process = processes.start(
            [*self._wrap, str(BIN / "poise-balance"), "-f", *self._arguments],
            stderr=subprocess.PIPE, text=True, env=self._environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            processes.wait_until(
                lambda: " ready:" in self.log() or self.process.poll() is not None,
                what="ready", within=20,
            )
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.log()}")
        except BaseException:
            processes.kill_group(self.process)
            self.process.stderr.close()
            raise
        return self

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def log(self):
        return "".join(self.lines)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.code = self.process.wait(20)
        finally:
            processes.kill_group(self.process)
            self._reader.join(5)
            self.process.stderr.close()


def served(address, port, source="127.0.0.1"):
    """A whole session; the greeting."""
    with socket.create_connection((address, port), 10, (source, 0)) as client:
        client.settimeout(10)
        greeting = client.recv(4096)
        client.sendall(b"QUIT\r\n")
        with contextlib.suppress(ConnectionResetError):
            while client.recv(4096):
                pass
    return greeting


def tool(name, *arguments, **options):
    """A program of ours to its end."""
    return subprocess.run([str(BIN / name), *arguments], capture_output=True, text=True, timeout=90, **options)


class WithServers(unittest.TestCase):
    """Three servers, and an address of our own to serve them at."""

    def setUp(self):
        self.servers = [self.enterContext(SmtpServer(name)) for name in ("a", "b", "c")]
        self.hosts = ["%s:%d" % server.endpoint for server in self.servers]
        self.address = addresses.own_address()
        self.socket = f"/run/poise/balance.25.{self.address}.sock"


class CommandLine(WithServers):
    def greetings(self, count, source="127.0.0.1"):
        return [served(self.address, 25, source) for _ in range(count)]

    def test_round_robin_then_the_next_group(self):
        a, b, c = self.hosts
        with Balance("-b", self.address, "smtp", a, b, "!", c) as balance:
            first = self.greetings(6)
            self.assertEqual(2, len(set(first)), first)
            self.servers[0].die()
            self.servers[1].die()
            last = self.greetings(2)
            self.assertEqual(1, len(set(last)))
            self.assertNotIn(last[0], first)
            self.assertIn("poisectl -s /run/poise/balance.25.", balance.log())
            shown = tool("poisectl", "-s", self.socket, "show", "backends")
            self.assertEqual(0, shown.returncode, shown.stderr)
            self.assertIn("balance/g1c0", shown.stdout)
        self.assertEqual(0, balance.code, balance.log())
        self.assertFalse(os.path.exists(self.socket))

    def test_a_hash_group_keeps_a_client(self):
        with Balance("-b", self.address, "25", *self.hosts, "%") as balance:
            for last in range(1, 6):
                self.assertEqual(1, len(set(self.greetings(3, f"127.0.1.{last}"))))
            many = {served(self.address, 25, f"127.0.2.{last}") for last in range(1, 40)}
            self.assertEqual(3, len(many))
        self.assertEqual(0, balance.code, balance.log())

    def test_maxc_spills_into_the_next_group(self):
        a, b, _ = self.hosts
        with Balance("-b", self.address, "25", f"{a}:1", "!", b):
            with socket.create_connection((self.address, 25), 10) as one:
                one.settimeout(10)
                first = one.recv(4096)
                self.assertNotEqual(first, served(self.address, 25))
                one.sendall(b"NOOP\r\n")
                self.assertTrue(one.recv(4096).startswith(b"250"))

    def test_what_is_wrong_is_said_and_exits_2(self):
        for arguments, words in (([], "usage"), (["25"], "usage"), (["-c", "show"], "usage"),
                                 (["25", "bad host"], "host")):
            with self.subTest(arguments):
                result = tool("poise-balance", *arguments)
                self.assertEqual(2, result.returncode)
                self.assertIn(words, result.stderr)
        printed = tool("poise-balance", "--print-config", "imap2", "m1::16", "!", "m2")
        self.assertEqual(0, printed.returncode, printed.stderr)
        self.assertIn('"max_sessions": 16', printed.stdout)


class Commands(WithServers):
    """balance's interactive commands, by -c and by -i, while a session is open that none of them may touch."""

    HEADER = "GRP Type  #   S       ip-address  port    c      totalc maxc        sent        rcvd"

    def run_balance(self, *arguments, given=None):
        return tool("poise-balance", "-b", self.address, *arguments, input=given)

    def do(self, command):
        result = self.run_balance("-c", command, "25")
        self.assertEqual((0, ""), (result.returncode, result.stderr), command)
        return result.stdout

    def script(self, *lines):
        """What -i answers to each line; the prompt is not part of it."""
        result = self.run_balance("-i", "25", given="".join(f"{line}\n" for line in lines))
        self.assertEqual((0, ""), (result.returncode, result.stderr), lines)
        banner, *answers = re.split(r"balance\[\d+\] ", result.stdout)
        self.assertRegex(banner, r"(?s)interactive command shell.*PID of master process is \d+")
        return answers[: len(lines)]

    def rows(self):
        header, *rows = self.do("show").splitlines()
        self.assertEqual(self.HEADER, header)
        return [row.split() for row in rows]

    def column(self, name):
        return [row[self.HEADER.split().index(name)] for row in self.rows()]

    def served_by(self, count=4):
        """The servers that so many new sessions get, by name."""
        return sorted({served(self.address, 25).split()[1].decode() for _ in range(count)})

    def test_every_command_does_what_balance_did(self):
        a, b, c = self.hosts
        names = [served(*server.endpoint).split()[1].decode() for server in self.servers]
        with Balance("-b", self.address, "25", a, f"{b}:7") as balance, \
                socket.create_connection((self.address, 25), 10) as held:
            held.settimeout(10)
            held_by = held.recv(4096).split()[1].decode()
            channel = names.index(held_by)
            first = self.rows()
            self.assertEqual(["0", "RR", "0", "ENA", *a.split(":")], first[0][:6])
            self.assertEqual(["0", "RR", "1", "ENA", *b.split(":")], first[1][:6])
            self.assertEqual("1", first[channel][6])
            self.assertEqual(["0", "7"], self.column("maxc"))
            self.assertEqual(names[:2], self.served_by())

            # disable, enable: of the other one, whoever that is, and of the one that has the open session.
            self.assertEqual(f"channel {channel} disabled\n", self.do(f"disable {channel}"))
            self.assertEqual(f"channel {channel} already disabled\n", self.do(f"disable {channel}"))
            self.assertEqual([names[1 - channel]], self.served_by())
            self.assertEqual("dis", self.column("S")[channel])
            self.assertEqual("channel must be disabled to assign new address\n",
                             self.do(f"assign {1 - channel} {c.replace(':', ' ')}"))
            self.assertEqual(f"channel {channel} enabled\n", self.do(f"enable {channel}"))
            self.assertEqual(f"channel {channel} already enabled\n", self.do(f"e {channel}"))
            self.assertEqual("no such channel 2\n", self.do("enable 2"))

            # create: disabled at first.
            self.assertEqual("channel created\n", self.do("create %s %s" % tuple(c.split(":"))))
            self.assertEqual(["ENA", "ENA", "dis"], self.column("S"))
            self.assertEqual(names[:2], self.served_by())
            self.do("enable 2")
            processes.wait_until(lambda: self.served_by(6) == sorted(names), within=60, what="a first good probe")
            self.assertIn("invalid address", self.do("create 127.0.0.1 nosuchport"))
            self.assertIn("invalid address", self.do("create 1.2.3.4:5 25"))

            # maxc
            self.do("disable 0")
            self.do("disable 1")
            self.assertEqual("maxc of channel 2 changed to 1\n", self.do("maxc 2 1"))
            with socket.create_connection((self.address, 25), 10) as one:
                one.settimeout(10)
                self.assertTrue(one.recv(4096).startswith(b"220"))
                self.assertEqual("1", self.rows()[2][6])
                with socket.create_connection((self.address, 25), 10) as two:
                    two.settimeout(1)
                    with self.assertRaises(TimeoutError):  # the only place is taken: it waits
                        two.recv(4096)
            self.do("maxc 2 0")

            # assign: another server for the channel; what it counted before stays.
            self.do("disable 2")
            counted = int(self.column("totalc")[2])
            self.assertGreater(counted, 0)
            self.assertEqual("channel reassigned\n", self.do("assign 2 %s %s" % tuple(a.split(":"))))
            self.assertEqual(a.split(":"), self.rows()[2][4:6])
            self.do("enable 2")
            self.assertEqual([names[0]], self.served_by(3))
            processes.wait_until(lambda: int(self.column("totalc")[2]) == counted + 3, what="3 more")

            # reset, mrtg: the figures of show.
            row = self.rows()[2]
            self.assertEqual(f"{row[10]}\n{row[9]}\nUNKNOWN\ngroup 0 channel 2\n", self.do("mrtg-bytes 0 2"))
            self.assertEqual(f"{row[7]}\nUNKNOWN\nUNKNOWN\ngroup 0 channel 2\n", self.do("mrtg-conns 0 2"))
            self.assertGreater(int(row[9]), 0)
            self.assertEqual("unknown group\n", self.do("mrtg-bytes 9 0"))
            self.assertEqual("unknown channel\n", self.do("mrtg-conns 0 9"))
            self.assertEqual("channel 2 counters reset\n", self.do("reset 2"))
            self.assertEqual(["0", "0", "0"], [self.rows()[2][i] for i in (7, 9, 10)])

            # group, hash, rr, create elsewhere, quit; all in one shell.
            answers = self.script("show", "hash", "group 3", "create %s %s" % tuple(b.split(":")), "hash",
                                  "enable 0", "group 40", "group x", "nonsense", "version", "help", "?", "", "quit")
            self.assertEqual("group 0 set to hash\n", answers[1])
            self.assertEqual("channel created\n", answers[3])
            self.assertEqual("group 3 set to hash\n", answers[4])
            self.assertEqual("channel 0 enabled\n", answers[5])
            self.assertEqual(["value out of range\n"] * 2 + ["syntax error\n"], answers[6:9])
            self.assertIn("MAXGROUPS=32", answers[9])
            self.assertIn("mrtg-conns", answers[10])
            self.assertEqual(answers[10:11], answers[11:12])
            self.assertEqual("", answers[12])
            self.assertEqual(["Hash"] * 4, self.column("Type"))
            self.assertEqual("3", self.column("GRP")[3])
            for channel in range(3):
                self.do(f"d {channel}")  # words may be cut short
            self.assertEqual([names[1]], self.served_by(), "the group that was made by hand takes over")
            self.assertEqual("group 0 set to round robin\n", self.do("rr"))
            self.assertEqual("RR", self.column("Type")[0])

            # Through all this the first session lived.
            held.sendall(b"NOOP\r\n")
            self.assertTrue(held.recv(4096).startswith(b"250"))
            held.close()

            killed = self.run_balance("-c", "kill", "25")
            self.assertEqual((0, "shutdown complete, exiting.\n"), (killed.returncode, killed.stdout))
            self.assertEqual(0, balance.process.wait(10))
        nobody = self.run_balance("-c", "show", "25")
        self.assertEqual((69, "no master process, exiting.\n"), (nobody.returncode, nobody.stdout))

    def test_what_poisectl_decided_is_shown_and_enable_ends_it(self):
        a, b, _ = self.hosts
        with Balance("-b", self.address, "25", a, b):
            tool("poisectl", "-s", self.socket, "disable", "balance/g0c1", check=True)
            self.assertEqual(["ENA", "dis"], self.column("S"))
            self.do("enable 1")
            self.assertEqual(["ENA", "ENA"], self.column("S"))
            self.assertEqual(2, len(self.served_by()))

    def test_a_channel_that_failed_stays_out_with_autodisable(self):
        a, b, _ = self.hosts
        with Balance("-b", self.address, "-a", "25", a, b) as balance:
            self.servers[0].die()
            processes.wait_until(lambda: self.column("S") == ["dis", "ENA"], within=60, what="autodisable")
            self.assertIn("-a: it failed", balance.log())

    def test_without_f_it_goes_to_the_background_once_it_serves(self):
        """In a process namespace of its own, which takes everything with it when it ends."""
        balance, a = str(BIN / "poise-balance"), self.hosts[0]
        script = f"""
            {balance} -b {self.address} 25 {a} 2>/dev/null; echo "started $?"
            {balance} -b {self.address} -c show 25 | tail -n 1 | cut -c 1-14
            {balance} -b {self.address} 25 {a} 2>&1 >/dev/null | grep -o 'in use'; echo "again"
            {balance} -b {self.address} -c kill 25; echo "killed $?"
            """
        shell = processes.start(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
                                stdout=subprocess.PIPE, text=True)
        try:
            said, _ = shell.communicate(timeout=120)
        finally:
            processes.kill_group(shell)
        self.assertEqual("started 0\n  0   RR  0 EN\nin use\nagain\nshutdown complete, exiting.\nkilled 0\n", said)


class ManPage(unittest.TestCase):
    """The mail examples of balance's man page, unchanged, with Postfix and Dovecot behind the names they use. The
    servers are in a namespace of their own: balance listens on all addresses, as they do."""

    @classmethod
    def setUpClass(cls):
        cls.enterClassContext(unittest.mock.patch.dict(mailpool.PORTS, smtp=25, imap=143, pop3=110))
        host = processes.start(["unshare", "--net", "sleep", "1h"])
        cls.addClassCleanup(processes.kill_group, host)
        own = os.readlink("/proc/self/ns/net")
        processes.wait_until(lambda: os.readlink(f"/proc/{host.pid}/ns/net") != own, what="a namespace")
        inside = ["nsenter", "-t", str(host.pid), "-n"]

        def ip(*words, there=False):
            subprocess.run([*(inside if there else []), "ip", *words], check=True, timeout=20)

        ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(host.pid))
        ip("address", "add", "10.9.0.1/24", "dev", "near")
        ip("link", "set", "near", "up")
        for number in range(2, 6):
            ip("address", "add", f"10.9.0.{number}/24", "dev", "far", there=True)
        for link in ("far", "lo"):
            ip("link", "set", link, "up", there=True)
        cls.pool = cls.enterClassContext(mailpool.MailPool(hosts=[mailpool.Host("10.9.0.2", inside)]))
        dns = cls.enterClassContext(dns_server.DnsServer())
        for number, name in ((2, "mailserver1"), (2, "mailhost1"), (2, "host1"), (3, "mailserver2"), (3, "mailhost2"),
                             (3, "host2"), (4, "mailhost3"), (4, "host3"), (5, "failover1")):
            dns.zone[name] = [f"10.9.0.{number}"]
        cls.environment = {"POISE_DNS_SERVERS": dns.text}

    def balance(self, line):
        return Balance(*line.split()[1:], environment=self.environment)

    def address_of(self, log):
        return {line.split(" dst=")[1].split(":")[0] for line in log.splitlines() if " dst=" in line}

    def test_smtp_to_several_hosts(self):
        with self.balance("balance smtp mailhost1:smtp mailhost2:25 mailhost3") as balance:
            for number in range(6):
                with smtplib.SMTP("127.0.0.1", 25, timeout=30) as client:
                    client.sendmail("a@lab.test", ["user@lab.test"], f"Message-ID: <{number}@balance>\n\nhello\n")
            processes.wait_until(
                lambda: all(f"{number}@balance" in self.pool.stored() for number in range(6)), within=60,
                what="6 messages in the maildir",
            )
            processes.wait_until(lambda: len(self.address_of(balance.log())) == 3, what="all three hosts")
        self.assertEqual(0, balance.code, balance.log())

    def test_imap_with_a_limit_and_a_second_group(self):
        with self.balance("balance imap mailserver1::16 ! mailserver2") as balance, contextlib.ExitStack() as stack:
            for _ in range(17):
                client = stack.enter_context(imaplib.IMAP4("127.0.0.1", 143, timeout=30))
                client.login("user", mailpool.PASSWORD)
                self.assertEqual("OK", client.select()[0])
            shown = tool("poise-balance", "-c", "show", "imap", check=True)
            rows = [row.split() for row in shown.stdout.splitlines()[1:]]
            self.assertEqual([["10.9.0.2", "143", "16"], ["10.9.0.3", "143", "1"]], [row[4:7] for row in rows])
        self.assertEqual(0, balance.code, balance.log())

    def test_pop3_with_a_failover(self):
        with self.balance("balance pop3 host1 host2 host3 ! failover1") as balance:
            def listed():
                client = poplib.POP3("127.0.0.1", 110, timeout=30)
                client.user("user")
                client.pass_(mailpool.PASSWORD)
                count = client.stat()[0]
                client.quit()
                return count
            counts = {listed() for _ in range(6)}
            self.assertEqual(1, len(counts))
            for channel in range(3):
                tool("poise-balance", "-c", f"disable {channel}", "pop3", check=True)
            before = balance.log().count("dst=10.9.0.5:110")
            listed()
            processes.wait_until(lambda: balance.log().count("dst=10.9.0.5:110") == before + 1, what="failover1")
        self.assertEqual(0, balance.code, balance.log())


class Import(unittest.TestCase):
    def run_import(self, *arguments, given=None):
        return tool("poised", "--import", *arguments, input=given)

    def test_a_balance_line_becomes_a_file_that_serves(self):
        with SmtpServer("a") as one, SmtpServer("b") as two:
            line = "balance -b 127.0.0.1 2525 %s:%d %% %s:%d" % (*one.endpoint, *two.endpoint)
            printed = self.run_import("balance", line)
            self.assertEqual(0, printed.returncode, printed.stderr)
            self.assertIn("not carried over: port 2525 is no mail protocol's", printed.stderr)
            config = json.loads(printed.stdout)
            config["services"][0]["listen"] = ["127.0.0.1:0"]
            with Poised(config) as poised:
                greeting = served(*poised.endpoint("balance"))
                self.assertTrue(greeting.startswith(b"220"), greeting)

    def test_haproxy_and_alteon_by_file_and_by_pipe(self):
        haproxy = "listen smtp\n bind 127.0.0.1:25\n acl x src 1.2.3.4\n server a 192.0.2.1:25 check\n"
        by_pipe = self.run_import("haproxy", "-", given=haproxy)
        self.assertEqual(0, by_pipe.returncode, by_pipe.stderr)
        self.assertEqual("smtp", json.loads(by_pipe.stdout)["services"][0]["protocol"])
        self.assertIn("not carried over: -:3: acl x src 1.2.3.4: no counterpart", by_pipe.stderr)
        alteon = "/c/slb/real 1\n ena\n rip 192.0.2.1\n/c/slb/group 1\n add 1\n" \
                 "/c/slb/virt 1\n ena\n vip 192.0.2.9\n/c/slb/virt 1/service 143\n group 1\n"
        with tempfile.NamedTemporaryFile("w", suffix=".dump") as file:
            file.write(alteon)
            file.flush()
            by_file = self.run_import("alteon", file.name)
        self.assertEqual(0, by_file.returncode, by_file.stderr)
        self.assertEqual(["192.0.2.9:143"], json.loads(by_file.stdout)["services"][0]["listen"])

    def test_what_is_wrong_is_said(self):
        for arguments, given, code, words in (
            (["haproxy", "/nowhere/haproxy.cfg"], None, 1, "cannot be read"),
            (["haproxy", "-"], "", 2, "no TCP service"),
            (["alteon", "-"], "listen x\n", 2, "no /c/slb"),
            (["balance", "25"], None, 2, "PORT HOST"),
            (["balance", "-c show 25"], None, 2, "serves nothing"),
            (["nginx", "-"], "", 2, "balance, haproxy, alteon"),
            (["haproxy"], None, 2, "--import"),
        ):
            with self.subTest(arguments):
                result = self.run_import(*arguments, given=given)
                self.assertEqual(code, result.returncode, result.stderr)
                self.assertIn(words, result.stderr)
                self.assertEqual("", result.stdout)


if __name__ == "__main__":
    unittest.main()
