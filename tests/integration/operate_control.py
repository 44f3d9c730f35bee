"""Operating poised: poisectl, the control socket, drain, what survives a restart, metrics, the pages."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

import ctl
import netns
import processes
from ctl import Ctl
from poised import BIN, Poised, balanced
from smtp_load import Load
from smtp_server import SmtpServer

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def setUpModule():
    netns.enter()


def greeted(endpoint):
    client = socket.create_connection(endpoint, 10)
    client.settimeout(10)
    assert client.recv(4096).startswith(b"220")
    return client


def quit_politely(client):
    client.sendall(b"QUIT\r\n")
    while client.recv(4096):
        pass
    client.close()


class Operated(unittest.TestCase):
    """Two servers, one service with both behind it, and a way to talk to poised."""

    def setUp(self):
        with contextlib.ExitStack() as stack:
            self.servers = [stack.enter_context(SmtpServer()) for _ in range(2)]
            self.ctl = stack.enter_context(Ctl())
            self.state = stack.enter_context(tempfile.TemporaryDirectory(prefix="poise-state-"))
            self.addCleanup(stack.pop_all().close)

    def config(self, *, admin=None, **more):
        config = balanced(
            {"smtp": ("smtp", [server.endpoint for server in self.servers])},
            workers=2,
            admin=self.ctl.admin(**(admin or {})),
            **more,
        )
        for backend in config["pools"][0]["backends"]:
            backend["host"] = backend["name"] + "-host"
        return config

    def start(self, **more):
        return Poised(self.config(**more), state=self.state)


class Commands(Operated):
    def test_every_view_is_there_for_people_and_programs(self):
        with self.start() as poised, greeted(poised.endpoint("smtp")):
            shape = {"pool", "name", "address", "state", "admin", "weight", "sessions"}
            shape |= {"sessions_total", "reason"}
            for backend in self.ctl.json("show", "backends"):
                self.assertLessEqual(shape, set(backend))
            self.assertEqual(1, len(self.ctl.json("show", "services")))
            sessions = self.ctl.json("show", "sessions")
            self.assertEqual(1, sessions["matching"])
            self.assertEqual("relaying", sessions["sessions"][0]["state"])
            self.assertEqual("server", sessions["sessions"][0]["spoke_last"])
            self.assertEqual("ok", self.ctl.json("status")["verdict"])
            self.assertEqual("smtp", self.ctl.json("show", "config")["services"][0]["name"])
            self.assertIn("smtp/be1", self.ctl.done("show", "backends"))
            self.assertIn("SERVICE", self.ctl.done("show", "services"))
            self.assertIn("127.0.0.1", self.ctl.done("show", "sessions", "--service", "smtp"))
            self.assertTrue(self.ctl.done("status").startswith("Mail flows: 1 of 1"))
            self.assertIn("descriptors allow", self.ctl.done("doctor"))
            self.assertIn("is what runs", self.ctl.done("doctor"))
            why = self.ctl.json("why", "smtp", "192.0.2.1")
            self.assertIn(why["backend"], ("smtp/be1", "smtp/be2"))
            # Asking changes nothing: the same answer again.
            self.assertEqual(why, self.ctl.json("why", "smtp", "192.0.2.1"))

    def test_exit_codes(self):
        with self.start():
            self.assertEqual(0, self.ctl.run("status", "--check").returncode)
            self.ctl.done("disable", "smtp/be1")
            self.assertEqual(1, self.ctl.run("status", "--check").returncode)
            self.ctl.done("disable", "smtp/be2")
            self.assertEqual(2, self.ctl.run("status", "--check").returncode)
            self.assertEqual(2, self.ctl.run("--json", "status", "--check").returncode)
            for wrong in (["statsu"], [], ["show"], ["weight", "smtp/be1", "x"], ["kick"],
                          ["wait", "smtp/be1", "gone"], ["drain"], ["--no-such-option", "status"]):
                with self.subTest(wrong):
                    result = self.ctl.run(*wrong)
                    self.assertEqual(2, result.returncode, result.stdout)
                    self.assertTrue(result.stderr)
            near = self.ctl.run("drain", "smtp/be3")
            self.assertEqual(1, near.returncode)
            self.assertIn("did you mean", near.stderr)
            self.assertIn('"status"', self.ctl.run("statsu").stderr)
            self.assertEqual(2, self.ctl.run("events", "--since", "yesterday").returncode)
            self.assertEqual(1, self.ctl.run("weight", "smtp/be1", "257").returncode)
        for command in (["status"], ["status", "--check"], ["wait", "smtp/be1", "up"], ["top"],
                        ["reload"], ["support-bundle"], ["drain", "smtp/be1"]):
            with self.subTest(command):
                result = self.ctl.run(*command)
                self.assertEqual(3, result.returncode)
                self.assertIn(self.ctl.socket, result.stderr)

    def test_a_drain_stops_new_sessions_and_ends_disabled(self):
        with self.start() as poised:
            endpoint = poised.endpoint("smtp")
            clients = [greeted(endpoint) for _ in range(4)]
            said = self.ctl.done("drain", "smtp/be1", "--reason", "new kernel")
            self.assertIn("2 sessions end by themselves", said)
            backend = self.ctl.backend("smtp/be1")
            self.assertEqual(("draining", "new kernel", "root"),
                             (backend["state"], backend["reason"], backend["user"]))
            for _ in range(4):
                quit_politely(greeted(endpoint))
            self.assertEqual({"be2"}, {s["backend"] for s in poised.sessions(at_least=4)})
            self.assertEqual(1, self.ctl.run("wait", "smtp/be1", "drained", "--timeout", "0.3").returncode)
            for client in clients:
                quit_politely(client)
            self.ctl.done("wait", "smtp/be1", "drained", "--timeout", "10")
            processes.wait_until(
                lambda: self.ctl.backend("smtp/be1")["admin"] == "disabled", what="disabled"
            )
            self.ctl.done("enable", "host/be1-host")
            self.ctl.done("wait", "smtp/be1", "up")
            kinds = [event["kind"] for event in self.ctl.json("events", "--since", "1h")]
            self.assertEqual(["drain", "drained", "enable"], kinds)

    def test_a_paced_drain_spares_the_session_whose_server_owes_an_answer(self):
        with self.start() as poised:
            endpoint = poised.endpoint("smtp")
            clients = [greeted(endpoint) for _ in range(12)]
            self.ctl.done("disable", "smtp/be2")
            owed = greeted(endpoint)
            with owed:
                owed.sendall(b"EHLO a\r\n")
                owed.recv(4096)
                # Half a command: the server has nothing to answer yet, the client spoke last.
                owed.sendall(b"MAIL FR")
                time.sleep(0.1)
                self.ctl.done("drain", "smtp/be1", "--over", "2s")
                lines = poised.sessions(at_least=6, within=10)
                self.assertEqual({"drained"}, {line["close_reason"] for line in lines})
                self.assertEqual({"be1"}, {line["backend"] for line in lines})
                time.sleep(1.5)
                self.assertEqual(1, self.ctl.backend("smtp/be1")["sessions"])
                owed.sendall(b"OM:<a@b.c>\r\n")
                self.assertTrue(owed.recv(4096).startswith(b"250"))
            for client in clients:
                client.close()

    def test_a_drain_under_load_loses_no_session(self):
        with self.start() as poised, Load(poised.endpoint("smtp"), clients=8) as load:
            for _ in range(5):
                for name in ("smtp/be1", "smtp/be2"):
                    self.ctl.done("drain", name)
                    self.ctl.done("wait", name, "drained", "--timeout", "15")
                    self.ctl.done("enable", name)
            while len(load.results) < 50:
                time.sleep(0.05)
        failed = [r for r in load.results if r.error]
        self.assertEqual([], failed[:3], f"{len(failed)} of {len(load.results)}")

    def test_a_disabled_service_refuses_in_its_protocol(self):
        with self.start() as poised:
            self.ctl.done("disable", "smtp", "--reason", "holiday")
            with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                client.settimeout(10)
                self.assertTrue(client.recv(4096).startswith(b"421 "))
            self.assertIn("is disabled (holiday)", self.ctl.done("why", "smtp", "192.0.2.1"))
            self.ctl.done("enable", "smtp")
            quit_politely(greeted(poised.endpoint("smtp")))

    def test_decisions_survive_reload_and_restart(self):
        with self.start() as poised:
            self.ctl.done("disable", "smtp/be1", "--reason", "disk\tfull")
            self.ctl.done("weight", "smtp/be2", "9")
            poised.reload(self.config())
            self.assertEqual("disabled", self.ctl.backend("smtp/be1")["state"])
            self.assertEqual(9, self.ctl.backend("smtp/be2")["weight"])
        with self.start() as poised:
            self.assertEqual("disk\tfull", self.ctl.backend("smtp/be1")["reason"])
            self.assertEqual(9, self.ctl.backend("smtp/be2")["weight"])
            changed = self.config()
            changed["pools"][0]["backends"][1]["weight"] = 4
            poised.reload(changed)
            self.assertEqual(4, self.ctl.backend("smtp/be2")["weight"], "the file's new word counts")
            self.ctl.done("enable", "smtp/be1")

    def test_weights_share_out_new_sessions(self):
        with self.start() as poised:
            self.ctl.done("weight", "smtp/be1", "3")
            for _ in range(8):
                quit_politely(greeted(poised.endpoint("smtp")))
            served = [s["backend"] for s in poised.sessions(at_least=8)]
            self.assertEqual((6, 2), (served.count("be1"), served.count("be2")))

    def test_refusals_and_retries_say_who_and_why(self):
        self.servers[0].die()
        with self.start() as poised:
            self.assertIn("none lately", self.ctl.done("show", "retries"))
            for _ in range(2):
                quit_politely(greeted(poised.endpoint("smtp")))
            lines = poised.sessions(at_least=2)
            retries = self.ctl.json("show", "retries")
            self.assertEqual(1, len(retries))
            outcomes = [(t["backend"], t["outcome"]) for t in retries[0]["tries"]]
            self.assertEqual([("be1", "refused"), ("be2", "ok")], outcomes)
            self.assertEqual("be2", retries[0]["backend"])
            self.assertIn(retries[0]["client"], {line["client"] for line in lines})
            self.assertEqual([], self.ctl.json("show", "refusals"))
            self.ctl.done("disable", "smtp/be2")
            with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                client.settimeout(10)
                self.assertTrue(client.recv(4096).startswith(b"421 "))
            poised.sessions(at_least=3)
            refusals = self.ctl.json("show", "refusals")
            self.assertEqual(["all_failed"], [r["reason"] for r in refusals])
            self.assertIn("refused: all_failed", self.ctl.done("show", "refusals"))

    def test_kick_ends_the_session_it_names(self):
        with self.start() as poised:
            keep, end = greeted(poised.endpoint("smtp")), greeted(poised.endpoint("smtp"))
            with keep, end:
                address = "%s:%d" % end.getsockname()
                sessions = self.ctl.json("show", "sessions")["sessions"]
                number = next(s["id"] for s in sessions if s["client"] == address)
                self.assertEqual({"ended": 1}, self.ctl.json("kick", str(number)))
                self.assertEqual(b"", end.recv(4096))
                self.assertEqual("kicked", poised.sessions(at_least=1)[0]["close_reason"])
                keep.sendall(b"NOOP\r\n")
                self.assertTrue(keep.recv(4096).startswith(b"250"))
                self.assertEqual({"ended": 0}, self.ctl.json("kick", "--source", "192.0.2.0/24"))
                self.assertEqual({"ended": 1}, self.ctl.json("kick", "--service", "smtp"))

    def test_reload_by_command(self):
        with self.start() as poised:
            changed = self.config()
            changed["pools"][0]["backends"].pop()
            poised.rewrite(changed)
            dry = self.ctl.json("reload", "--dry-run")
            self.assertEqual((True, 0, 1), (dry["done"], dry["cut"], len(dry["changes"])))
            self.assertEqual(2, len(self.ctl.json("show", "backends")))
            self.assertIn("backend be2 is removed", self.ctl.done("reload"))
            self.assertEqual(1, len(self.ctl.json("show", "backends")))
            poised.rewrite("{")
            broken = self.ctl.run("reload")
            self.assertEqual(1, broken.returncode)
            self.assertIn("Nothing changed", broken.stderr)
            self.assertIn("the last reload changed nothing", self.ctl.done("status"))

    def test_top_support_bundle_and_shutdown(self):
        with self.start() as poised, tempfile.TemporaryDirectory() as folder:
            lines = self.ctl.done("top", "--count", "2", "--interval", "0.2").splitlines()
            self.assertEqual(2, len(lines))
            bundle = pathlib.Path(folder, "bundle.txt")
            self.ctl.done("support-bundle", str(bundle))
            for word in ("==== status", "==== metrics", "poise_build_info", "smtp"):
                self.assertIn(word, bundle.read_text())
            self.assertIn("smtp/be1", self.ctl.done("targets"))
            self.ctl.done("shutdown", "--reason", "moving")
            self.assertEqual(0, poised.wait(within=10))
            self.assertIn("moving", poised.tail())
            self.assertFalse(os.path.exists(self.ctl.socket))


class Socket(Operated):
    def test_mode_and_group_are_as_configured(self):
        with self.start(admin={"mode": "0620", "group": "nogroup"}):
            status = os.stat(self.ctl.socket)
            self.assertEqual(0o620, stat.S_IMODE(status.st_mode))
            self.assertEqual(65534, status.st_gid)

    @unittest.skipUnless(os.geteuid() == 0, "needs to be another user")
    def test_who_may_connect_and_who_may_change(self):
        folder = tempfile.mkdtemp(prefix="poise-bin-")
        self.addCleanup(shutil.rmtree, folder)
        os.chmod(folder, 0o755)
        tool = shutil.copy(BIN / "poisectl", folder)

        def as_nobody(*arguments):
            command = [*NOBODY, tool, "-s", self.ctl.socket, *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=20)

        with self.start(admin={"mode": "0660"}):
            self.assertEqual(3, as_nobody("status").returncode)
        with self.start(admin={"mode": "0666"}):
            self.assertEqual(0, as_nobody("status").returncode)
            refused = as_nobody("disable", "smtp/be1")
            self.assertEqual(1, refused.returncode)
            self.assertIn("may", refused.stderr)
            self.assertEqual("up", self.ctl.backend("smtp/be1")["state"])
        with self.start(admin={"mode": "0660", "group": "nogroup"}):
            self.assertEqual(0, as_nobody("disable", "smtp/be1").returncode)
            self.assertEqual("nobody", self.ctl.backend("smtp/be1")["user"])

    def test_a_second_poised_does_not_take_the_socket(self):
        with self.start(), Poised(self.config(), wait_ready=False) as second:
            self.assertEqual(1, second.wait(within=20))
            self.assertIn("another poised answers there", second.tail())
            self.assertEqual(0, self.ctl.run("status").returncode)

    def test_a_socket_left_by_a_crash_is_no_hindrance(self):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(self.ctl.socket)
        with self.start():
            self.ctl.done("status")

    def test_nonsense_harms_nobody(self):
        with self.start():
            for request in (b"\n", b"null\n", b"[]\n", b'{"command": 5}\n', b"\xff\xfe\n", b"{" * 60000 + b"\n",
                            b'{"command": "drain"}\n', b'{"command": "drain", "target": 7}\n',
                            b'{"command": "show sessions", "source": "x"}\n',
                            b'{"command": "weight", "backend": "smtp/be1", "weight": -1}\n'):
                with self.subTest(request[:40]), self.connected() as client:
                    client.sendall(request)
                    self.assertFalse(json.loads(client.makefile().readline())["ok"])
            with self.connected() as client:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.sendall(b"x" * 200_000)
                    client.makefile().read()
            many = [self.connected() for _ in range(150)]  # more than are kept
            self.ctl.done("status")
            for client in many:
                client.close()

    def connected(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(self.ctl.socket)
        return client


class Pages(Operated):
    def test_metrics_are_what_was_sent(self):
        with self.start() as poised:
            for _ in range(10):
                quit_politely(greeted(poised.endpoint("smtp")))
            open_one = greeted(poised.endpoint("smtp"))
            lines = poised.sessions(at_least=10)
            self.ctl.done("kick", "--source", "192.0.2.1")
            samples = ctl.metrics(poised)
            still = self.ctl.json("show", "sessions")["sessions"][0]
            total = "poise_sessions_total"
            self.assertEqual(10, ctl.value(samples, total, service="smtp"))
            for name in ("be1", "be2"):
                ended = [line for line in lines if line["backend"] == name]
                for reason in {line["close_reason"] for line in ended}:
                    count = sum(line["close_reason"] == reason for line in ended)
                    self.assertEqual(
                        count, ctl.value(samples, total, backend=name, close_reason=reason)
                    )
                for way in ("to_client", "to_backend"):
                    sent = sum(int(line[way]) for line in ended)
                    if still["backend"] == f"smtp/{name}":
                        sent += still[f"bytes_{way}"]
                    self.assertEqual(
                        sent, ctl.value(samples, "poise_bytes_total", backend=name, direction=way)
                    )
            self.assertEqual(1, ctl.value(samples, "poise_sessions_active", service="smtp"))
            duration = "poise_session_duration_seconds"
            self.assertEqual(10, ctl.value(samples, duration + "_count", service="smtp"))
            took = sum(float(line["total_s"]) for line in lines)
            self.assertAlmostEqual(took, ctl.value(samples, duration + "_sum"), delta=0.01)
            self.assertEqual(11, ctl.value(samples, "poise_connect_duration_seconds_count"))
            self.assertEqual(2, ctl.value(samples, "poise_backend_up"))
            self.assertEqual(0, ctl.value(samples, "poise_config_reloads_total"))
            self.assertGreater(ctl.value(samples, "process_resident_memory_bytes"), 1 << 20)
            quit_politely(open_one)
            self.ctl.done("disable", "smtp/be1")
            for server in self.servers:
                server.die()
            with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                client.settimeout(10)
                client.recv(4096)
            poised.sessions(at_least=12)
            samples = ctl.metrics(poised)
            self.assertEqual(1, ctl.value(samples, "poise_refusals_total", service="smtp"))
            self.assertEqual(1, ctl.value(samples, total, close_reason="refused", backend=""))
            state = "poise_backend_state"
            self.assertEqual(1, ctl.value(samples, state, backend="be1", state="disabled"))
            self.assertEqual(0, ctl.value(samples, state, backend="be1", state="up"))

    def test_reloads_are_metrics(self):
        with self.start() as poised:
            poised.reload()
            poised.reload("{")
            samples = ctl.metrics(poised)
            for result in ("success", "failure"):
                self.assertEqual(1, ctl.value(samples, "poise_config_reloads_total", result=result))
            self.assertEqual(0, ctl.value(samples, "poise_config_reload_successful"))

    def test_the_api_answers_what_poisectl_does(self):
        with self.start() as poised:
            status, headers, text = ctl.get(poised, "/api/backends")
            self.assertEqual(200, status)
            self.assertEqual("application/json", headers["Content-Type"])
            self.assertEqual(self.ctl.json("show", "backends"), json.loads(text))
            self.assertEqual(404, ctl.get(poised, "/api/nothing")[0])
            self.assertEqual(404, ctl.get(poised, "/etc/passwd")[0])
            self.assertEqual(400, ctl.get(poised, "/api/sessions?service=nosuch")[0])
            self.assertEqual(405, ctl.get(poised, "/api/backends", method="POST")[0])
            for path in ("/-/healthy", "/-/ready", "/"):
                self.assertEqual(200, ctl.get(poised, path)[0])
            with greeted(poised.endpoint("smtp")):
                poised.signal(signal.SIGTERM)
                processes.wait_until(lambda: ctl.get(poised, "/-/ready")[0] == 503, what="503")
                self.assertEqual(200, ctl.get(poised, "/-/healthy")[0])
            self.assertEqual(0, poised.wait(within=20))

    def test_the_page_loads_nothing_from_elsewhere(self):
        with self.start() as poised:
            _, headers, text = ctl.get(poised, "/")
            self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
            self.assertNotRegex(text, r'(src|href)="(https?:)?//')

    def test_the_page_shows_what_is_so(self):
        with self.start() as poised:
            self.ctl.done("disable", "smtp/be2", "--reason", "new <b>disk</b>")
            with tempfile.TemporaryDirectory() as profile:
                dump = subprocess.run(
                    ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
                     "--disable-dev-shm-usage", f"--user-data-dir={profile}",
                     "--virtual-time-budget=5000", f"http://{ctl.http_address(poised)}/"],
                    capture_output=True, text=True, timeout=90,
                )  # fmt: skip
            self.assertEqual(0, dump.returncode, dump.stderr[-2000:])
            for words in ("Mail flows, with something to look at", "be1", "disabled",
                          "new &lt;b&gt;disk&lt;/b&gt; (root)", "1 of 2 up"):
                self.assertIn(words, dump.stdout)


if __name__ == "__main__":
    unittest.main()
