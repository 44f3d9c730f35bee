"""poisectl word for word: what each command prints for people and for programs, kept in golden/poisectl.txt; the same
commands against a daemon under load, and against none.

    POISE_WRITE_GOLDEN=1 PYTHONPATH=tests/support python3 tests/integration/operate_golden.py Golden

writes the file anew; look at the difference before you commit it.
"""

import contextlib
import difflib
import json
import os
import pathlib
import re
import socket
import tempfile
import unittest

import ctl
import netns
import processes
from ctl import Ctl
from poised import BIN, Poised, balanced
from smtp_load import Load

_GOLDEN = pathlib.Path(__file__).with_name("golden") / "poisectl.txt"

# Fixed, so that columns are as wide in every run; the namespace is our own.
SERVICE, A, B = ("127.0.0.1", 2525), "127.0.0.11:2500", "127.0.0.12:2500"

# What looks and changes nothing.
LOOKS = [
    ["status"], ["status", "--check"], ["show", "services"], ["show", "backends"], ["show", "sessions"],
    ["show", "config"], ["show", "sticky"], ["show", "refusals"], ["show", "retries"], ["show", "bans"],
    ["events"], ["why", "smtp", "192.0.2.7"], ["doctor"], ["ban", "list"],
]  # fmt: skip

# Depends on this machine's settings, or on every default there is: their shape is tested.
_MACHINE = (["doctor"], ["show", "config"])


def setUpModule():
    netns.enter()


def normal(text):
    """Without what differs from run to run; as wide as before where columns depend on it."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-01-02T03:04:05Z", text)
    text = re.sub(r"\d\d:\d\d:\d\d +[\d.]+/s", "03:04:05      N/s", text)
    text = re.sub(r"(?<=poised )\d+\.\d+\.\d+(?= on)|(?<=\"version\": \")[\d.]+", "VERSION", text)
    text = re.sub(r'(?<= on )[\w.-]+(?=, pid)|(?<="hostname": ")[\w.-]+', "HOST", text)
    text = re.sub(r"(?<=pid )\d+|(?<=\"pid\": )\d+", "PID", text)
    text = re.sub(r'/\S*?/(poise\.json|poised\.sock)|(?<=/)poise-ctl-\w+', r"/run/\1", text)
    text = re.sub(r'("(?:\w+_seconds|age|idle|id)": )[\d.e-]+', r"\g<1>N", text)
    text = re.sub(r"[\d.]+ ms", "N ms", text)
    text = re.sub(r"\((there are|known): [^)]*\)", r"(\1: ...)", text)  # the commands that other features add
    text = re.sub(r"^( *)\d+\.\d{4}(?= (?:->|<-|--))", r"\g<1>0.0001", text, flags=re.M)
    text = re.sub(r"^(ID +|\d{4,} +)(?=CLIENT|127)", "ID  ", text, flags=re.M)  # of show sessions
    text = re.sub(r"(?<=relaying  )( *)\ds", r"\g<1>Ns", text)
    text = re.sub(r"(?<=/32  smtp/be\d    )\ds", "Ns", text)  # of show sticky
    text = re.sub(r"(?<=from 127\.0\.0\.1:)\d+", "PORT", text)
    return text


def greeted(source):
    client = socket.create_connection(SERVICE, 10, source)
    client.settimeout(10)
    assert client.recv(4096).startswith(b"220")
    return client


def whole_session(source):
    with greeted(source) as client:
        client.sendall(b"QUIT\r\n")
        while client.recv(4096):
            pass


class Operated(unittest.TestCase):
    def setUp(self):
        with contextlib.ExitStack() as stack:
            self.servers = {}
            for name, endpoint in (("a", A), ("b", B)):
                server = processes.start([str(BIN / "poise-load"), "serve", "--protocol", "smtp", "--name", name,
                                          "--listen", endpoint])  # fmt: skip
                stack.callback(processes.kill_group, server)
                self.servers[name] = server
                host, port = endpoint.split(":")
                processes.wait_until(lambda: reachable(host, int(port)), what=endpoint)
            self.ctl = stack.enter_context(Ctl())
            self.state = stack.enter_context(tempfile.TemporaryDirectory(prefix="poise-state-"))
            self.addCleanup(stack.pop_all().close)

    def config(self):
        config = balanced({"smtp": ("smtp", [A, B])}, listen="%s:%d" % SERVICE, workers=2, admin=self.ctl.admin(),
                          service={"limits": {"sessions": 100}})
        pool = config["pools"][0]
        pool["sticky"] = {"by": "source", "prefix_v4": 32, "prefix_v6": 64, "ttl": "1h"}
        pool["probe"] = {"interval": "1h", "fast_interval": "1h", "down_interval": "1h", "fall": 1,
                         "deep": "off"}
        for backend in pool["backends"]:
            backend["host"] = backend["name"] + "-host"
        return config


def reachable(host, port):
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


class Golden(Operated):
    """One day at the balancer, command by command."""

    def setUp(self):
        super().setUp()
        self.text = ""

    def do(self, *arguments, json_too=True):
        """Runs it for people, and once more for programs when it changes nothing."""
        forms = [[]] if not json_too else [[], ["--json"]]
        for form in forms:
            result = self.ctl.run(*form, *arguments)
            self.text += "$ poisectl %s\n" % " ".join([*form, *arguments])
            self.text += normal(result.stdout) + normal(result.stderr)
            if result.returncode:
                self.text += f"[{result.returncode}]\n"
            self.text += "\n"

    def test_every_command_says_what_it_said(self):
        config = self.config()
        with Poised(config, state=self.state, nofile=4096) as poised:
            whole_session(("127.0.5.1", 40001))
            whole_session(("127.0.5.2", 40002))
            poised.sessions(at_least=2)
            client = greeted(("127.0.5.1", 40003))
            for command in LOOKS:
                if command not in _MACHINE:
                    self.do(*command)
            self.do("show", "sessions", "--backend", "smtp/be1")
            self.do("show", "sticky", "--source", "127.0.5.2")
            self.do("probe", "smtp/be1")
            self.do("doctor", "proxy", "smtp", json_too=False)

            self.do("drain", "smtp/be2", "--reason", "new kernel", json_too=False)
            self.do("wait", "smtp/be2", "drained", "--timeout", "20")
            processes.wait_until(lambda: self.ctl.backend("smtp/be2")["admin"] == "disabled", what="drained")
            self.do("show", "backends")
            self.do("status", json_too=False)
            self.do("enable", "host/be2-host", json_too=False)
            self.do("disable", "smtp", "--reason", "holiday", json_too=False)
            with socket.create_connection(SERVICE, 10, ("127.0.5.3", 40004)) as refused:
                refused.settimeout(10)
                refused.recv(4096)
            poised.sessions(at_least=3)
            self.do("show", "refusals")
            self.do("why", "smtp", "192.0.2.7", json_too=False)
            self.do("--json", "enable", "smtp", json_too=False)
            self.do("weight", "smtp/be2", "7", json_too=False)
            self.do("weight", "smtp/be2", "configured", json_too=False)
            self.do("ban", "add", "203.0.113.0/24", "--for", "1h", "--reason", "fail2ban", json_too=False)
            self.do("ban", "add", "2001:db8::/32", json_too=False)
            self.do("show", "bans")
            self.do("why", "smtp", "203.0.113.9")
            self.do("ban", "del", "203.0.113.0/24", json_too=False)
            self.do("kick", "--source", "127.0.5.0/24", "--reason", "spam", json_too=False)
            client.close()
            poised.sessions(at_least=4)
            self.do("--json", "kick", "--service", "smtp", json_too=False)

            processes.kill_group(self.servers["a"])
            whole_session(("127.0.5.1", 40005))  # stays with be1, which is gone
            poised.sessions(at_least=5)
            self.do("show", "retries")
            self.do("probe", "smtp/be1")

            del config["pools"][0]["backends"][1]
            poised.rewrite(config)
            self.do("reload", "--dry-run")
            self.do("reload", json_too=False)
            poised.rewrite('{ "version": 2, "sevices": [] }')
            self.do("reload")
            self.do("top", "--count", "1", "--interval", "0.2", json_too=False)
            self.do("targets", json_too=False)
            self.do("events")

            for wrong in (["statsu"], ["show"], ["drain", "smtp/be3"], ["why", "smpt", "1.2.3.4"], ["kick"],
                          ["why", "smtp", "nowhere"], ["weight", "smtp/be1", "257"], ["probe", "smtp"],
                          ["ban", "add", "192.0.2.1/24"], ["events", "--since", "soon"],
                          ["wait", "smtp/be1", "drained", "--timeout", "0.1"]):
                self.do(*wrong, json_too=False)
            self.do("shutdown", "--reason", "moving", json_too=False)
            poised.wait()
        self.do("status", json_too=False)
        self.compare()

    def compare(self):
        if os.environ.get("POISE_WRITE_GOLDEN"):
            _GOLDEN.parent.mkdir(exist_ok=True)
            _GOLDEN.write_text(self.text)
        expected = _GOLDEN.read_text()
        difference = difflib.unified_diff(expected.splitlines(), self.text.splitlines(), "golden", "now", lineterm="")
        self.assertEqual(expected, self.text, "\n".join(difference))

    def test_what_depends_on_the_machine_has_its_shape(self):
        with Poised(self.config(), state=self.state) as poised, tempfile.TemporaryDirectory() as folder:
            findings = self.ctl.json("doctor")
            self.assertGreater(len(findings), 5)
            lines = [line for line in self.ctl.done("doctor").splitlines() if not line.startswith("       ")]
            self.assertEqual(len(findings), len(lines))
            for finding, line in zip(findings, lines):
                self.assertEqual({"verdict", "what", "advice"}, set(finding))
                self.assertEqual("ok  " if finding["verdict"] == "ok" else "look", line[:4])
                self.assertEqual(finding["what"], line[5:])
            shown = json.loads(self.ctl.done("show", "config"))
            self.assertEqual(shown, self.ctl.json("show", "config"))
            self.assertEqual([SERVICE[1]], [int(s["listen"][0].split(":")[1]) for s in shown["services"]])
            bundle = pathlib.Path(folder, "bundle.txt")
            self.assertIn("written", self.ctl.done("support-bundle", str(bundle)))
            titles = re.findall(r"^==== (.*) ====$", bundle.read_text(), re.M)
            self.assertLessEqual({"status", "doctor", "show services", "show backends", "events", "show config",
                                  "metrics", "machine"}, set(titles))
            self.assertEqual(1, self.ctl.run("support-bundle", "/nowhere/bundle").returncode)
            self.assertIn("Usage", self.ctl.done("--help"))
            self.assertRegex(self.ctl.done("--version"), r"^poisectl \d")
            poised.sessions()


class UnderLoad(Operated):
    def test_every_command_answers_while_sessions_come_and_go(self):
        with Poised(self.config(), state=self.state) as poised, Load(SERVICE, clients=8, pause=0) as load:
            processes.wait_until(lambda: len(load.results) > 20, within=30, what="load")
            for _ in range(3):
                for command in LOOKS:
                    with self.subTest(command):
                        self.assertTrue(self.ctl.done(*command))
                        self.assertIsInstance(self.ctl.json(*command), (dict, list))
            begun = len(load.results)
            self.assertTrue(self.ctl.json("probe", "smtp/be1")["good"])
            self.assertTrue(all(each["good"] for each in self.ctl.json("doctor", "proxy", "smtp")))
            for command in (["weight", "smtp/be2", "9"], ["weight", "smtp/be2", "configured"],
                            ["drain", "smtp/be2", "--over", "1s"], ["wait", "smtp/be2", "drained", "--timeout", "30"],
                            ["enable", "smtp/be2"], ["disable", "smtp/be1"], ["enable", "host/be1-host"],
                            ["ban", "add", "192.0.2.0/24", "--kick"], ["ban", "del", "192.0.2.0/24"],
                            ["kick", "--source", "192.0.2.0/24"], ["reload", "--dry-run"], ["reload"],
                            ["top", "--plain", "--count", "2", "--interval", "0.5"], ["wait", "smtp/be2", "up"],
                            ["targets"]):  # fmt: skip
                with self.subTest(command):
                    self.ctl.done(*command)
            bars = self.ctl.done("top", "--plain", "--count", "2", "--interval", "0.5").splitlines()
            self.assertTrue(all("*" in line for line in bars), bars)
            processes.wait_until(lambda: len(load.results) > begun + 20, within=30, what="load")
            history = json.loads(ctl.get(poised, "/api/history")[2])
            self.assertEqual(2, history["interval_seconds"])
            processes.wait_until(
                lambda: sum(json.loads(ctl.get(poised, "/api/history")[2])["services"]["smtp"]) > 20, within=30,
                what="the load in the history",
            )
        drained = load.failed_after_greeting()
        # Only the paced drain may end a session, one whose server spoke last.
        self.assertEqual([], load.failed_before_greeting()[:3])
        self.assertLessEqual(len(drained), 8, drained[:3])

    def test_nobody_there_is_exit_3(self):
        with tempfile.TemporaryDirectory() as folder:
            for command in [*LOOKS, ["probe", "smtp/be1"], ["doctor", "proxy", "smtp"], ["drain", "smtp/be1"],
                            ["disable", "smtp/be1"], ["enable", "smtp"], ["wait", "smtp/be1", "up"],
                            ["weight", "smtp/be1", "1"], ["kick", "1"], ["ban", "add", "192.0.2.1"],
                            ["ban", "del", "192.0.2.1"], ["reload"], ["reload", "--dry-run"], ["top"],
                            ["support-bundle", f"{folder}/bundle"], ["shutdown"]]:  # fmt: skip
                for form in ([], ["--json"]):
                    with self.subTest([*form, *command]):
                        result = self.ctl.run(*form, *command)
                        self.assertEqual((3, ""), (result.returncode, result.stdout))
                        self.assertIn(f"{self.ctl.socket}: No such file or directory; is poised running?",
                                      result.stderr)
            self.assertEqual([], os.listdir(folder))


if __name__ == "__main__":
    unittest.main()
