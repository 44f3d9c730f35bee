"""poise-load run by itself: what it counts is what happened, its ends, its complaints, names with several addresses.

A relay between clients and servers loses and doubles messages by plan, and the ledgers must say so to the message.
"""

import json
import os
import pathlib
import signal
import socketserver
import smtplib
import subprocess
import tempfile
import threading
import unittest

import addresses
import mail_load
import processes
from mail_load import LoadServer
from poised import BIN

LOAD = BIN / "poise-load"


def taken(server):
    """Messages in a server's ledger so far."""
    return len(server.ledger.read_text().splitlines())


class CarelessRelay(socketserver.ThreadingTCPServer):
    """Takes each message with 250; passes some on twice and some never, all others once."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, onward, loses, doubles):
        super().__init__(("127.0.0.1", 0), _Careless)
        self.onward = onward
        self.loses, self.doubles = loses, doubles
        self.taken = 0
        self.lock = threading.Lock()


class _Careless(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line + b"\r\n")

    def handle(self):
        self.say(b"220 careless")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"QUIT":
                return self.say(b"221 bye")
            if verb != b"DATA":
                self.say(b"250 yes")
                continue
            self.say(b"354 go on")
            message = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                message.append(line[1:] if line.startswith(b".") else line)
            self.pass_on(b"".join(message))
            self.say(b"250 taken")

    def pass_on(self, message):
        with self.server.lock:
            number = self.server.taken
            self.server.taken += 1
        times = 0 if number in self.server.loses else 2 if number in self.server.doubles else 1
        for _ in range(times):
            with smtplib.SMTP(*self.server.onward, timeout=10) as client:
                client.sendmail("a@b.test", "c@d.test", message)


class Run(unittest.TestCase):
    def setUp(self):
        self.home = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="poise-load-run-")))

    def run_load(self, *words, status=0):
        done = subprocess.run(
            [LOAD, "run", "--json", self.home / "run.json", *map(str, words)],
            capture_output=True, text=True, timeout=120,
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return json.loads((self.home / "run.json").read_text())

    def test_loss_and_duplication_are_reported_exactly(self):
        loses, doubles = set(range(3, 200, 17)), set(range(5, 200, 23))
        self.assertFalse(loses & doubles)
        with LoadServer() as server:
            with CarelessRelay(server.endpoint, loses, doubles) as relay:
                threading.Thread(target=relay.serve_forever, daemon=True).start()
                target = "127.0.0.1:{}".format(relay.server_address[1])
                words = ["--target", target, "--sessions", 100, "--clients", 5, "--messages-per-session", 2]
                report = self.run_load(*words, "--ledger", self.home / "sent")
                relay.shutdown()
            books = mail_load.compare(self.home / "sent", [server])
        self.assertEqual(report["submits"], 200)
        self.assertEqual((books["accepted"], books["received"]), (200, 200 - len(loses)))
        self.assertEqual((books["lost"], books["duplicated"]), (len(loses), len(doubles)))

    def test_postfixs_own_generator_and_sink_count_alike(self):
        """smtp-source sends what our server counts; smtp-sink writes down each message that our client counts."""
        with LoadServer() as server:
            host, port = server.endpoint
            source = ["smtp-source", "-s", "5", "-m", "300", "-f", "a@b.test", "-t", "c@d.test", f"{host}:{port}"]
            subprocess.run(source, check=True, timeout=60)
            self.assertEqual(taken(server), 300)
        dumps = self.home / "dumps"
        dumps.mkdir()
        os.chmod(dumps, 0o777)
        os.chmod(self.home, 0o755)
        host, port = addresses.own_address(), 2599
        sink = processes.start(["smtp-sink", "-u", "nobody", "-R", str(dumps), "-d", "m.", f"{host}:{port}", "100"])
        try:
            processes.wait_until(lambda: self.greets(host, port), within=20, what="smtp-sink greets")
            report = self.run_load("--target", f"{host}:{port}", "--sessions", 150, "--clients", 5,
                                   "--messages-per-session", 2, "--run-id", "sink")
        finally:
            processes.kill_group(sink)
        written = [line for path in dumps.iterdir() for line in path.read_text(errors="replace").splitlines()
                   if line.startswith("X-Poise-Load-Id: sink-")]
        self.assertEqual((report["submits"], report["connection_errors"]), (300, 0))
        self.assertEqual(len(written), 300)
        self.assertEqual(len(set(written)), 300)

    @staticmethod
    def greets(host, port):
        try:
            with smtplib.SMTP(host, port, timeout=5) as client:
                return client.noop()[0] == 250
        except OSError:
            return False

    def test_ctrl_c_prints_the_report_so_far(self):
        with LoadServer() as server:
            host, port = server.endpoint
            command = [LOAD, "run", "--target", f"{host}:{port}", "--rate", "50", "--duration", "10m"]
            command += ["--json", self.home / "run.json", "--html", self.home / "run.html"]
            process = processes.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            processes.wait_until(lambda: taken(server) >= 50, within=30, what="50 messages")
            process.send_signal(signal.SIGINT)
            text, _ = process.communicate(timeout=20)
            counted = taken(server)
        report = json.loads((self.home / "run.json").read_text())
        self.assertTrue(report["interrupted"])
        self.assertIn("interrupted, open loop, 50 sessions/s asked for", text)
        self.assertIn("% of its ceiling", text)
        self.assertTrue(50 <= report["submits"] <= counted, (report["submits"], counted))
        self.assertIn("<svg", (self.home / "run.html").read_text())

    def test_bad_workload_is_told_with_line_and_column(self):
        path = self.home / "load.json"
        path.write_text('{\n  "blocks": {\n    "in": {"protocol": "smtp", "recipents": 3, "size": "4KB?"}\n  }\n}\n')
        done = subprocess.run([LOAD, "run", "--workload", path], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 2)
        unknown = 'unknown key "recipents"; did you mean "recipients"?'
        self.assertIn(f"{path}:3:32: /blocks/in/recipents: {unknown}", done.stderr)
        self.assertIn(f"{path}:3:56: /blocks/in/size: 4KB?: is no size", done.stderr)
        path.write_text('{"blocks": {"in": {}},}')
        done = subprocess.run([LOAD, "run", "--workload", path], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"{path}:1:23: syntax error: a comma stands before this }}", done.stderr)

    def test_a_name_stands_for_all_its_addresses_in_dns_round_robin(self):
        first, second = addresses.own_address(), addresses.own_address()
        command = [LOAD, "serve", "--json", self.home / "servers.json"]
        command += ["--listen", f"{first}:2525", "--listen", f"{second}:2525"]
        servers = processes.start(command, stdout=subprocess.PIPE, text=True)
        self.addCleanup(servers.stdout.close)
        self.addCleanup(processes.kill_group, servers)
        for _ in range(2):
            servers.stdout.readline()
        hosts = self.home / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{first} pool.test\n{second} pool.test\n")
        for choice, expected in (("dns-rr", 2), ("mx", 2), ("turns", 1)):
            inner = f'mount --bind "{hosts}" /etc/hosts && exec "$@"'
            words = ["--target", "pool.test:2525", "--sessions", "20", "--clients", "2", "--choose", choice]
            done = subprocess.run(
                ["unshare", "-m", "sh", "-c", inner, "sh", LOAD, "run", "--json", "-", *words],
                capture_output=True, text=True, timeout=60,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            targets = json.loads(done.stdout)["targets"]
            self.assertEqual(len(targets), expected, choice)
            if choice == "dns-rr":
                self.assertEqual([10, 10], [target["submits"] for target in targets])


if __name__ == "__main__":
    unittest.main()
