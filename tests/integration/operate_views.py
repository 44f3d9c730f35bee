"""Operating poised: probes by hand, the doctor of PROXY headers, sticky entries, bans, why, what metrics say."""

import contextlib
import json
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest

import addresses
import ctl
import netns
import processes
from ctl import Ctl
from poised import BIN, Poised, balanced
from smtp_server import SmtpServer


def setUpModule():
    netns.enter()


def greeted(endpoint, source="127.0.0.1"):
    client = socket.create_connection(endpoint, 10, (source, 0))
    client.settimeout(10)
    assert client.recv(4096).startswith(b"220")
    return client


def said(endpoint, source="127.0.0.1"):
    """The first thing that a client from there reads."""
    with socket.create_connection(endpoint, 10, (source, 0)) as client:
        client.settimeout(10)
        return client.recv(4096)


def quit_politely(client):
    client.sendall(b"QUIT\r\n")
    while client.recv(4096):
        pass
    client.close()


class Operated(unittest.TestCase):
    def setUp(self):
        with contextlib.ExitStack() as stack:
            self.servers = [stack.enter_context(SmtpServer()) for _ in range(2)]
            self.ctl = stack.enter_context(Ctl())
            self.state = stack.enter_context(tempfile.TemporaryDirectory(prefix="poise-state-"))
            self.addCleanup(stack.pop_all().close)

    def config(self, **more):
        endpoints = [server.endpoint for server in self.servers]
        return balanced({"smtp": ("smtp", endpoints)}, workers=2, admin=self.ctl.admin(), **more)

    def start(self, **more):
        return Poised(self.config(**more), state=self.state)


PROBED = {"probe": {"interval": "1h", "fast_interval": "1h", "down_interval": "1h", "fall": 1,
                    "deep": {"interval": "1h"}}}


class Probes(Operated):
    def test_a_probe_says_what_it_saw(self):
        with self.start(pool=PROBED):
            probe = self.ctl.json("probe", "smtp/be1")
            self.assertEqual((True, "good", "done"), tuple(probe[k] for k in ("good", "outcome", "step")))
            self.assertTrue(probe["reply"].startswith("220"))
            self.assertGreater(probe["greeting_seconds"], 0)
            words = [line["text"] for line in probe["transcript"] if line["from"] == "us"]
            self.assertEqual(["QUIT"], words)
            deep = self.ctl.json("probe", "smtp/be1", "--deep")
            self.assertTrue(deep["deep"])
            words = [line["text"] for line in deep["transcript"] if line["from"] == "us"]
            self.assertTrue(words[0].startswith("EHLO "), words)
            text = self.ctl.done("probe", "smtp/be1")
            for expected in ("probe of smtp/be1", "-> QUIT", "outcome  good", "in all"):
                self.assertIn(expected, text)
            self.servers[0].die()
            dead = self.ctl.run("--json", "probe", "smtp/be1")
            self.assertEqual(1, dead.returncode)
            self.assertEqual("refused", json.loads(dead.stdout)["outcome"])
            self.assertEqual("up", self.ctl.backend("smtp/be1")["state"], "a look changes nothing")
            unknown = self.ctl.run("probe", "smtp/be3")
            self.assertEqual(1, unknown.returncode)
            self.assertIn("did you mean", unknown.stderr)

    def test_a_pool_without_probes_says_so(self):
        with self.start():
            refused = self.ctl.run("probe", "smtp/be1")
            self.assertEqual(1, refused.returncode)
            self.assertIn('"probe": "off"', refused.stderr)

    def test_the_doctor_tries_every_header_on_every_backend(self):
        with self.start(pool=PROBED):
            backends = self.ctl.json("doctor", "proxy", "smtp")
            self.assertEqual(["smtp/be1", "smtp/be2"], [each["backend"] for each in backends])
            for each in backends:
                self.assertTrue(each["good"])
                self.assertEqual(6, len(each["paths"]))
                self.assertEqual("good", each["paths"][0]["outcome"])
            self.servers[1].die()
            text = self.ctl.done("doctor", "proxy", "smtp")
            self.assertIn("cannot be connected", text)
            self.assertIn("v2 LOCAL", text)
            self.assertIn("no pool", self.ctl.run("doctor", "proxy", "smtq").stderr)


class Sticky(Operated):
    def test_entries_are_shown_and_why_knows_them(self):
        sticky = {"by": "source", "prefix_v4": 32, "prefix_v6": 64, "ttl": "1h", "entries": 1000}
        with self.start(pool={"sticky": sticky}) as poised:
            self.assertIn("no source", self.ctl.done("show", "sticky"))
            self.assertIn("no sticky entry for 127.0.1.1", self.ctl.done("why", "smtp", "127.0.1.1"))
            served = {}
            for last in range(1, 7):
                source = f"127.0.1.{last}"
                quit_politely(greeted(poised.endpoint("smtp"), source))
                line = poised.sessions(at_least=last)[-1]
                served[f"{source}/32"] = f"smtp/{line['backend']}"
            shown = self.ctl.json("show", "sticky")
            self.assertEqual(6, shown["matching"])
            self.assertEqual(served, {e["source"]: e["backend"] for e in shown["entries"]})
            on_one = [e for e in shown["entries"] if e["backend"] == "smtp/be1"]
            self.assertEqual(3, len(on_one))
            filtered = self.ctl.json("show", "sticky", "--backend", "smtp/be1")
            self.assertEqual(3, filtered["matching"])
            one = self.ctl.json("show", "sticky", "--source", "127.0.1.4")
            self.assertEqual(["127.0.1.4/32"], [e["source"] for e in one["entries"]])
            self.assertEqual(6, self.ctl.json("show", "sticky", "--source", "127.0.1.0/24")["matching"])
            bounded = self.ctl.json("show", "sticky", "--limit", "2")
            self.assertEqual((6, 2), (bounded["matching"], len(bounded["entries"])))
            self.assertIn("(2 of 6 entries", self.ctl.done("show", "sticky", "--limit", "2"))
            status, _, text = ctl.get(poised, "/api/sticky?backend=smtp/be1")
            self.assertEqual((200, 3), (status, json.loads(text)["matching"]))
            for source, backend in served.items():
                why = self.ctl.json("why", "smtp", source.split("/")[0])
                self.assertEqual(backend, why["backend"])
                self.assertIn(f"says {backend}", " ".join(why["steps"]))
            self.assertEqual(6, ctl.value(ctl.metrics(poised), "poise_sticky_entries", pool="smtp"))
            self.ctl.done("disable", "smtp/be1")
            for source, backend in served.items():
                why = self.ctl.json("why", "smtp", source.split("/")[0])
                self.assertEqual("smtp/be2", why["backend"])
                if backend == "smtp/be1":
                    self.assertIn("it would move", " ".join(why["steps"]))


class Bans(Operated):
    def test_a_ban_is_kept_until_its_end(self):
        with self.start() as poised:
            endpoint = poised.endpoint("smtp")
            self.assertIn("nobody", self.ctl.done("show", "bans"))
            open_one = greeted(endpoint, "127.0.1.1")
            self.ctl.done("ban", "add", "127.0.1.0/24", "--for", "1h", "--reason", "fail2ban")
            self.assertTrue(said(endpoint, "127.0.1.1").startswith(b"554"))
            self.assertTrue(said(endpoint, "127.0.2.1").startswith(b"220"))
            quit_politely(open_one)  # whoever is there goes on
            poised.sessions(at_least=3)
            samples = ctl.metrics(poised)
            self.assertEqual(1, ctl.value(samples, "poise_refusals_total", reason="banned"))
            self.assertEqual(1, ctl.value(samples, "poise_bans"))
            why = self.ctl.json("why", "smtp", "127.0.1.77")
            self.assertEqual("", why["backend"])
            self.assertIn("banned as 127.0.1.0/24 (fail2ban)", why["steps"][-1])
            with greeted(endpoint, "127.0.3.1") as thrown_out:
                told = self.ctl.done("ban", "add", "127.0.3.1", "--kick")
                self.assertIn("1 sessions ended", told)
                self.assertEqual(b"", thrown_out.recv(4096))
            bans = {ban["network"]: ban for ban in self.ctl.json("show", "bans")}
            self.assertEqual({"127.0.1.0/24", "127.0.3.1/32"}, set(bans))
            self.assertEqual(("fail2ban", "root"),
                             tuple(bans["127.0.1.0/24"][k] for k in ("reason", "user")))
            self.assertIsNone(bans["127.0.3.1/32"]["until"])
            self.assertIn("for ever", self.ctl.done("ban", "list"))
        with self.start() as poised:
            endpoint = poised.endpoint("smtp")
            self.assertEqual(list(bans.values()), self.ctl.json("show", "bans"), "survive a restart")
            self.assertTrue(said(endpoint, "127.0.1.1").startswith(b"554"))
            # Whatever a reload changes, and one that fails.
            for text in (None, self.config(service={"deny": ["127.0.8.8"]}), "{", self.config()):
                poised.reload(text)
                self.assertTrue(said(endpoint, "127.0.1.1").startswith(b"554"))
                self.assertEqual(list(bans.values()), self.ctl.json("show", "bans"))
            wider = self.ctl.run("ban", "del", "127.0.1.1")
            self.assertEqual(1, wider.returncode)
            self.assertIn("lies in 127.0.1.0/24", wider.stderr)
            self.ctl.done("ban", "del", "127.0.1.0/24")
            self.assertTrue(said(endpoint, "127.0.1.1").startswith(b"220"))
            kinds = [event["kind"] for event in self.ctl.json("events")]
            self.assertEqual("unban", kinds[-1])

    def test_a_ban_ends_by_itself(self):
        with self.start() as poised:
            endpoint = poised.endpoint("smtp")
            self.ctl.done("ban", "add", "127.0.1.1", "--for", "1s")
            self.assertTrue(said(endpoint, "127.0.1.1").startswith(b"554"))
            processes.wait_until(
                lambda: said(endpoint, "127.0.1.1").startswith(b"220"), what="the end of the ban"
            )
            self.assertEqual([], self.ctl.json("show", "bans"))
            self.assertEqual("ban_over", self.ctl.json("events")[-1]["kind"])

    def test_what_is_no_ban_is_refused(self):
        with self.start():
            for arguments, code in ((["add"], 2), (["add", "everybody"], 2), (["add", "0.0.0.0/0"], 1),
                                    (["del", "192.0.2.1"], 1), (["lift", "192.0.2.1"], 2),
                                    (["add", "192.0.2.1", "--for", "soon"], 2)):
                with self.subTest(arguments):
                    result = self.ctl.run("ban", *arguments)
                    self.assertEqual(code, result.returncode, result.stdout)
                    self.assertTrue(result.stderr)
            self.assertEqual([], self.ctl.json("show", "bans"))


class Doctor(Operated):
    """Each thing that it looks at, well and ill; the kernel's settings are those of our own namespace."""

    WELL = {"net/ipv4/tcp_migrate_req": "1", "net/core/somaxconn": "4096",
            "net/ipv4/ip_local_port_range": "10240 65535"}
    ILL = {"net/ipv4/tcp_migrate_req": "0", "net/core/somaxconn": "128",
           "net/ipv4/ip_local_port_range": "32768 40000"}

    def setUp(self):
        super().setUp()
        for name in self.WELL:
            path = pathlib.Path("/proc/sys", name)
            self.addCleanup(path.write_text, path.read_text())

    def findings(self, settings=WELL):
        for name, value in settings.items():
            pathlib.Path("/proc/sys", name).write_text(value)
        return self.ctl.json("doctor")

    def told(self, findings, words):
        """The finding that has these words: is it well, and what is to be done."""
        found = [each for each in findings if words in each["what"]]
        self.assertEqual(1, len(found), f"{words}: {findings}")
        return found[0]["verdict"] == "ok", found[0]["advice"]

    def test_a_machine_that_is_set_up_well_has_nothing_to_look_at(self):
        with self.start(service={"limits": {"sessions": 100}}):
            self.assertEqual([], [each for each in self.findings() if each["verdict"] != "ok"])
            self.assertEqual({""}, {each["advice"] for each in self.findings()})

    def test_settings_of_the_kernel(self):
        with self.start():
            ill = self.findings(self.ILL)
            for words, advice in (("tcp_migrate_req", "sysctl net.ipv4.tcp_migrate_req=1"),
                                  ("net.core.somaxconn is 128", "sysctl net.core.somaxconn=4096"),
                                  ("only 7233 local ports", "ip_local_port_range='10240 65535'")):
                well, what_to_do = self.told(ill, words)
                self.assertFalse(well)
                self.assertIn(advice, what_to_do)
            self.assertIn("look net.core.somaxconn is 128", self.ctl.done("doctor"))

    def test_descriptors(self):
        with Poised(self.config(service={"limits": {"sessions": 5000}}), state=self.state, nofile=2048):
            well, advice = self.told(self.findings(), "limits.sessions ask for 5000 sessions, descriptors allow 768")
            self.assertFalse(well)
            self.assertEqual("set LimitNOFILE=10512", advice)

    def test_the_file(self):
        config = self.config()
        with Poised(config, state=self.state) as poised:
            self.assertTrue(self.told(self.findings(), "is what runs")[0])
            config["pools"][0]["backends"][0]["weight"] = 5
            poised.rewrite(config)
            self.assertEqual((False, "poisectl reload --dry-run shows them"), self.told(self.findings(), "1 changes"))
            poised.rewrite("{")
            well, advice = self.told(self.findings(), "would not start or reload")
            self.assertFalse(well)
            self.assertIn("poised --check", advice)

    def test_decisions_that_would_be_lost(self):
        with Poised(self.config(), state="/nowhere/at/all"):
            well, advice = self.told(self.findings(), "forgotten at a restart")
            self.assertFalse(well)
            self.assertIn("/nowhere/at/all", advice)
            self.ctl.done("disable", "smtp/be1")  # and yet it works until then
            self.assertEqual("disabled", self.ctl.backend("smtp/be1")["state"])

    def test_what_status_says_is_told_too(self):
        with self.start():
            self.ctl.done("disable", "smtp/be1")
            self.assertFalse(self.told(self.findings(), "backend smtp/be1 is disabled")[0])

    def test_backends_that_would_answer_past_us(self):
        with self.start(pool={"source_address": "client"}):
            ways = [each for each in self.findings() if "smtp" in each["what"] and each["verdict"] != "ok"]
            self.assertTrue(ways, "a transparent pool without its routes")


class Why(Operated):
    def test_limits_of_sources_are_told(self):
        limits = {"sessions": 100, "sessions_per_source": 1, "rate_per_source": "1/m", "rate": "50/s",
                  "except": ["127.0.9.0/24"]}
        with self.start(service={"limits": limits}) as poised:
            self.assertIn("has 0 of 1 sessions", self.ctl.done("why", "smtp", "127.0.1.1"))
            with greeted(poised.endpoint("smtp"), "127.0.1.1"):
                why = self.ctl.json("why", "smtp", "127.0.1.1")
                steps = " ".join(why["steps"])
                self.assertEqual("", why["backend"])
                self.assertIn("refused: source 127.0.1.1 has 1 of 1 sessions", steps)
                self.assertIn("source 127.0.1.1 has used up its rate", steps)
                self.assertFalse(said(poised.endpoint("smtp"), "127.0.1.1").startswith(b"220"))
                self.assertNotEqual("", self.ctl.json("why", "smtp", "127.0.1.2")["backend"])
                excepted = self.ctl.json("why", "smtp", "127.0.9.1")
                self.assertIn('"except"', " ".join(excepted["steps"]))
                ratios = ctl.metrics(poised)
                used = ctl.value(ratios, "poise_limit_used_ratio", limit="service/smtp")
                self.assertEqual(0.01, used)
                self.assertLess(0, ctl.value(ratios, "poise_limit_used_ratio", limit="rate/smtp") + 1e-9)

    def test_brakes_are_told(self):
        self.servers[0].die()
        with self.start() as poised:
            sources = iter(range(1, 100))
            def paused():
                quit_politely(greeted(poised.endpoint("smtp"), f"127.0.1.{next(sources)}"))
                return "be1: up" in (text := self.ctl.done("why", "smtp", "127.0.9.9")) and "paused" in text
            processes.wait_until(paused, what="the pause")
            self.assertEqual("smtp/be2", self.ctl.json("why", "smtp", "127.0.9.9")["backend"])


class Metrics(Operated):
    def promtool(self, poised):
        text = ctl.get(poised, "/metrics")[2]
        check = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                               text=True, timeout=30)
        self.assertEqual((0, ""), (check.returncode, check.stdout + check.stderr))
        return text

    def test_probes_queues_and_names_are_clean(self):
        self.servers[1].die()
        pool = {**PROBED, "queue": {"length": 10, "timeout": "20s"}}
        config = self.config(pool=pool)
        for backend in config["pools"][0]["backends"]:
            backend["max_sessions"] = 1
        with Poised(config, state=self.state) as poised:
            samples = ctl.metrics(poised)
            probes = "poise_probes_total"
            self.assertEqual(1, ctl.value(samples, probes, backend="be1", outcome="good"))
            self.assertEqual(1, ctl.value(samples, probes, backend="be2", outcome="refused"))
            self.assertEqual(2, ctl.value(samples, "poise_probe_duration_seconds_count", pool="smtp"))
            self.ctl.done("disable", "smtp/be2")
            first = greeted(poised.endpoint("smtp"))
            second = socket.create_connection(poised.endpoint("smtp"), 10)
            second.settimeout(10)
            processes.wait_until(
                lambda: ctl.value(ctl.metrics(poised), "poise_queue_length", pool="smtp") == 1,
                what="a client in the queue",
            )
            samples = ctl.metrics(poised)
            ratio = "poise_limit_used_ratio"
            self.assertAlmostEqual(0.1, ctl.value(samples, ratio, limit="queue/smtp"))
            self.assertEqual(1, ctl.value(samples, ratio, limit="backend/smtp/be1"))
            time.sleep(0.6)
            quit_politely(first)
            self.assertTrue(second.recv(4096).startswith(b"220"))
            samples = ctl.metrics(poised)
            self.assertEqual(0, ctl.value(samples, "poise_queue_length", pool="smtp"))
            wait = "poise_queue_wait_seconds"
            self.assertEqual(1, ctl.value(samples, wait + "_count", pool="smtp"))
            self.assertGreater(ctl.value(samples, wait + "_sum", pool="smtp"), 0.6)
            self.assertEqual(0, ctl.value(samples, wait + "_bucket", pool="smtp", le="0.5"))
            quit_politely(second)
            self.promtool(poised)

    def test_a_long_session_is_seen_while_it_lasts(self):
        with self.start() as poised:
            client = greeted(poised.endpoint("smtp"))
            before = ctl.metrics(poised)
            received = b""
            for _ in range(20):
                client.sendall(b"NOOP\r\n")
                received += client.recv(4096)
            def moved(direction):
                now = ctl.value(ctl.metrics(poised), "poise_bytes_total", direction=direction)
                return now - ctl.value(before, "poise_bytes_total", direction=direction)
            self.assertEqual((120, len(received)), (moved("to_backend"), moved("to_client")))
            quit_politely(client)
            line = poised.sessions(at_least=1)[0]
            after = ctl.metrics(poised)
            for way in ("to_backend", "to_client"):  # once, and no more
                self.assertEqual(int(line[way]), ctl.value(after, "poise_bytes_total", direction=way))

    def test_counters_agree_with_what_poise_load_did(self):
        with contextlib.ExitStack() as stack:
            names = ("a", "b")
            ports = [f"{addresses.own_address()}:{2500 + i}" for i in range(len(names))]
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="poise-load-"))
            serve = [str(BIN / "poise-load"), "serve", "--json", str(pathlib.Path(folder, "serve"))]
            for name, port in zip(names, ports):
                serve += ["--listen", port, "--name", name]
            server = processes.start([*serve, "--fault", "b:greet=421"], stdout=subprocess.DEVNULL)
            stack.callback(processes.kill_group, server)
            for port in ports:
                processes.wait_until(lambda: reachable(port), what=port)
            config = balanced({"smtp": ("smtp", ports)}, workers=2, admin=self.ctl.admin())
            poised = stack.enter_context(Poised(config, state=self.state))
            host, port = poised.endpoint("smtp")
            count = 200
            report = subprocess.run(
                [str(BIN / "poise-load"), "run", "--target", f"{host}:{port}", "--sessions", str(count),
                 "--clients", "8", "--size", "1000", "--json", "-"],
                capture_output=True, text=True, timeout=60, check=True,
            )  # fmt: skip
            done = json.loads(report.stdout)
            lines = poised.sessions(at_least=count)
            samples = ctl.metrics(poised)
            total = "poise_sessions_total"
            self.assertEqual(count, done["sessions"]["ok"], report.stdout)
            self.assertEqual(count, ctl.value(samples, total, backend="be1"))
            self.assertEqual(0, ctl.value(samples, total, backend="be2"))
            tried = sum("be2:" in line.get("tries", "") for line in lines)
            self.assertGreater(tried, 0, poised.tail(5))
            retries = ctl.value(samples, "poise_retries_total", backend="be2", reason="busy")
            self.assertEqual(tried, retries)
            greetings = "poise_greetings_total"
            self.assertEqual(count, ctl.value(samples, greetings, **{"class": "good"}))
            self.assertEqual(tried, ctl.value(samples, greetings, **{"class": "4yz"}))
            self.assertEqual(0, ctl.value(samples, "poise_refusals_total"))
            self.promtool(poised)


def reachable(endpoint):
    host, _, port = endpoint.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


if __name__ == "__main__":
    unittest.main()
