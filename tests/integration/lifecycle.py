"""poised as a program: what it says, when it exits and with what, what it is while it runs."""

import contextlib
import json
import pathlib
import re
import signal
import socket
import unittest

import addresses
import bad_server
import netns
import poised as program
import processes
from poised import Poised, balanced
from smtp_server import SmtpServer

CAP_NET_BIND_SERVICE = 10


def setUpModule():
    netns.enter()  # port 25 is ours in here


class CommandLine(unittest.TestCase):
    GOOD = balanced({"smtp": ("smtp", ["127.0.0.1:25"])}, listen="127.0.0.1:2525")

    def test_version_and_help_say_what_they_should(self):
        version = program.run("--version")
        self.assertEqual(0, version.returncode)
        self.assertRegex(version.stdout, r"\d+\.\d+\.\d+")
        usage = program.run("--help")
        self.assertEqual(0, usage.returncode)
        for option in ("--check", "--print-config", "--version", "-c"):
            self.assertIn(option, usage.stdout)

    def test_an_unknown_option_is_a_usage_error(self):
        result = program.run("--no-such-option")
        self.assertNotEqual(0, result.returncode)
        self.assertIn("no-such-option", result.stderr + result.stdout)

    def test_check_accepts_a_good_file(self):
        result = program.run("--check", config=self.GOOD)
        self.assertEqual(0, result.returncode, result.stderr + result.stdout)

    def test_check_names_every_fault_and_where_it_is(self):
        bad = json.loads(json.dumps(self.GOOD))
        bad["workesr"] = 2
        bad["pools"][0]["backends"][0]["address"] = "127.0.0.1:70000"
        result = program.run("--check", config=bad)
        self.assertEqual(2, result.returncode)
        words = result.stderr + result.stdout
        for expected in ("workesr", "workers", "70000", "/pools/0/backends/0/address"):
            self.assertIn(expected, words)

    def test_check_strict_fails_on_a_warning(self):
        hasty = json.loads(json.dumps(self.GOOD))
        hasty["services"][0]["protocol"] = "imap"
        hasty["services"][0]["timeouts"] = {"idle": "5m"}  # shorter than IMAP's IDLE
        relaxed = program.run("--check", config=hasty)
        self.assertEqual(0, relaxed.returncode, relaxed.stderr)
        self.assertIn("idle", relaxed.stderr + relaxed.stdout)
        self.assertEqual(1, program.run("--check", "--strict", config=hasty).returncode)

    def test_a_bad_config_stops_the_start(self):
        for config in ('{ "version": 1, ', {**self.GOOD, "version": 7}):
            with self.subTest(config):
                result = program.run(config=config)
                self.assertEqual(2, result.returncode)
                self.assertTrue(result.stderr)

    def test_a_missing_config_file_is_named(self):
        result = program.run("-c", "/nonexistent/poise.json")
        self.assertEqual(2, result.returncode)
        self.assertIn("/nonexistent/poise.json", result.stderr)

    def test_print_config_fills_in_the_defaults_and_can_be_read_back(self):
        first = program.run("--print-config", config=self.GOOD)
        self.assertEqual(0, first.returncode, first.stderr)
        self.assertEqual("12m", json.loads(first.stdout)["services"][0]["timeouts"]["idle"])
        second = program.run("--print-config", config=first.stdout)
        self.assertEqual(0, second.returncode, second.stderr)
        self.assertEqual(json.loads(first.stdout), json.loads(second.stdout))


class Signals(unittest.TestCase):
    def setUp(self):
        with contextlib.ExitStack() as stack:
            self.server = stack.enter_context(SmtpServer())
            self.addCleanup(stack.pop_all().close)

    def start(self, drain):
        return Poised(
            balanced(
                {"smtp": ("smtp", [self.server.endpoint])}, workers=2, shutdown={"drain": drain}
            )
        )

    @staticmethod
    def greeted_client(poised):
        client = socket.create_connection(poised.endpoint("smtp"), 10)
        assert client.recv(4096).startswith(b"220")
        return client

    def test_sigterm_lets_sessions_finish_and_refuses_new_ones(self):
        with self.start("30s") as poised, self.greeted_client(poised) as client:
            endpoint = poised.endpoint("smtp")
            poised.signal(signal.SIGTERM)
            processes.wait_until(lambda: self.refused(endpoint), what="new connections refused")
            client.sendall(b"NOOP\r\n")
            self.assertTrue(client.recv(4096).startswith(b"250"))
            self.assertIsNone(poised.process.poll(), "gone with a session open")
            client.sendall(b"QUIT\r\n")
            self.assertTrue(client.recv(4096).startswith(b"221"))
            self.assertEqual(b"", client.recv(4096))
            client.close()
            self.assertEqual(0, poised.wait(within=5))
            self.assertIn("SIGTERM", poised.tail())

    def test_a_drain_ends_when_its_time_is_over(self):
        with self.start("1s") as poised, self.greeted_client(poised) as client:
            self.assertEqual(0, poised.stop(within=10))
            self.assertEqual(b"", self.read_to_end(client))
            self.assertEqual("shutdown", self.session_of(poised, client)["close_reason"])

    def test_who_still_waits_for_a_greeting_is_told_to_come_back(self):
        with bad_server.BadServer(bad_server.silence) as silent, Poised(
            balanced({"smtp": ("smtp", [silent.endpoint])}, shutdown={"drain": "0s"})
        ) as poised:
            with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                processes.wait_until(lambda: silent.accepted, what="the server has it")
                poised.signal(signal.SIGTERM)
                self.assertTrue(client.recv(4096).startswith(b"421 4.3.2 mx.poise.test"))
                self.assertEqual(0, poised.wait())
            (line,) = poised.sessions(at_least=1)
            self.assertEqual(("refused", "shutting_down"), (line["close_reason"], line["refusal"]))

    def test_a_second_sigterm_ends_it_at_once(self):
        with self.start("600s") as poised, self.greeted_client(poised) as client:
            endpoint = poised.endpoint("smtp")
            poised.signal(signal.SIGTERM)
            processes.wait_until(lambda: self.refused(endpoint), what="new connections refused")
            poised.signal(signal.SIGTERM)
            poised.wait(within=10)
            self.assertEqual("shutdown", self.session_of(poised, client)["close_reason"])

    def test_sigint_stops_it_too(self):
        with self.start("1s") as poised:
            poised.signal(signal.SIGINT)
            self.assertEqual(0, poised.wait(within=10))
            self.assertIn("SIGINT", poised.tail())

    def test_sigusr2_is_caught_and_answered_in_the_log(self):
        with self.start("1s") as poised:
            poised.signal(signal.SIGUSR2)
            line = poised.wait_for_text("not supported yet")
            self.assertIn("SIGUSR2", line)
            with self.greeted_client(poised):
                pass

    @staticmethod
    def session_of(poised, client):
        ours = "%s:%d" % client.getsockname()
        return next(line for line in poised.sessions() if line["client"] == ours)

    @staticmethod
    def refused(endpoint):
        try:
            socket.create_connection(endpoint, 1).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return True
        return False

    @staticmethod
    def read_to_end(client):
        with contextlib.suppress(ConnectionResetError):
            while client.recv(4096):
                pass
        return b""


class Start(unittest.TestCase):
    def test_a_port_in_use_is_a_clear_error(self):
        with socket.socket() as holder:
            holder.bind((addresses.own_address(), 0))
            holder.listen()
            where = "%s:%d" % holder.getsockname()
            config = balanced({"smtp": ("smtp", ["127.0.0.1:1"])}, listen=where)
            result = program.run(config=config)
        self.assertNotEqual(0, result.returncode)
        self.assertIn(where, result.stderr)
        self.assertRegex(result.stderr.lower(), "in use")

    def test_fewer_fds_than_asked_for_is_a_warning_with_both_numbers(self):
        config = balanced(
            {"smtp": ("smtp", ["127.0.0.1:1"])}, service={"limits": {"sessions": 5000}}
        )
        with Poised(config, nofile=2048) as poised:
            warnings = [
                f["words"]
                for f in map(program.parsed, poised.lines)
                if f and f["level"] == "warning"
            ]
        usable = (2048 - 512) // 2
        self.assertTrue(
            any(re.search(rf"\b{usable}\b", w) and re.search(r"\b5000\b", w) for w in warnings),
            f"no warning with {usable} and 5000 in {warnings}",
        )

    def test_one_listener_per_address_accepts_on_ipv4_and_ipv6(self):
        with SmtpServer() as server:
            self.both_families(server)

    def both_families(self, server):
        config = balanced({"smtp": ("smtp", [server.endpoint])})
        config["services"][0]["listen"] = ["127.0.0.1:2500", "[::1]:2500"]
        with Poised(config):
            for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with self.subTest(host), socket.socket(family) as client:
                    client.settimeout(10)
                    client.connect((host, 2500))
                    self.assertTrue(client.recv(4096).startswith(b"220 "))

    def test_an_address_that_is_not_here_yet_can_be_listened_on(self):
        """The passive node of a pair has no service address until it takes over."""
        config = balanced({"smtp": ("smtp", ["127.0.0.1:1"])}, listen="192.0.2.9:25")
        with Poised(config) as poised:
            self.assertEqual(("192.0.2.9", 25), poised.endpoint("smtp"))

    def test_root_becomes_the_configured_user_and_can_still_bind_port_25(self):
        with SmtpServer() as server:
            config = balanced(
                {"smtp": ("smtp", [server.endpoint])},
                listen="127.0.0.1:25",
                workers=2,
                user="nobody",
            )
            with Poised(config) as poised:
                for task in pathlib.Path(f"/proc/{poised.pid}/task").iterdir():
                    status = dict(
                        line.split(":\t", 1)
                        for line in (task / "status").read_text().splitlines()
                        if ":\t" in line
                    )
                    self.assertEqual({"65534"}, set(status["Uid"].split()), f"thread {task.name}")
                    self.assertEqual({"65534"}, set(status["Gid"].split()), f"thread {task.name}")
                    self.assertEqual(1 << CAP_NET_BIND_SERVICE, int(status["CapEff"], 16))
                    self.assertEqual(1 << CAP_NET_BIND_SERVICE, int(status["CapPrm"], 16))
                with socket.create_connection(("127.0.0.1", 25), 10) as client:
                    self.assertTrue(client.recv(4096).startswith(b"220"))

    def test_an_unknown_user_is_a_clear_error(self):
        config = balanced({"smtp": ("smtp", ["127.0.0.1:1"])}, user="no-such-user")
        result = program.run(config=config)
        self.assertNotEqual(0, result.returncode)
        self.assertIn("no-such-user", result.stderr)


if __name__ == "__main__":
    unittest.main()
