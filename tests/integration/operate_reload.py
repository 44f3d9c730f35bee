"""Reload in place: what changes, what stays, what a broken file does, and that no session is lost to it."""

import contextlib
import copy
import json
import pathlib
import re
import socket
import tempfile
import time
import unittest

import addresses
import ctl
import netns
import poised as program
import processes
from ctl import Ctl
from poised import SCALE, Poised, balanced
from smtp_load import Load
from smtp_server import SmtpServer


def setUpModule():
    netns.enter()


def greeted(endpoint):
    client = socket.create_connection(endpoint, 10)
    client.settimeout(10)
    assert client.recv(4096).startswith(b"220")
    return client


def works(client):
    client.sendall(b"NOOP\r\n")
    return client.recv(4096).startswith(b"250")


def refused(endpoint):
    try:
        socket.create_connection(endpoint, 1).close()
    except ConnectionRefusedError:
        return True
    return False


def bad_configs():
    """(name, text) of each file in the table of the loader's unit test."""
    table = (program.ROOT / "tests/unit/config/bad_configs.cc").read_text()
    found = re.findall(r'\{"(\w+)", (?:R"json\((.*?)\)json"|"((?:[^"\\]|\\.)*)"),', table, re.S)
    return [(name, raw or plain.encode().decode("unicode_escape")) for name, raw, plain in found]


class Reload(unittest.TestCase):
    def setUp(self):
        with contextlib.ExitStack() as stack:
            self.servers = [stack.enter_context(SmtpServer()) for _ in range(2)]
            self.addCleanup(stack.pop_all().close)

    def config(self, count=2, **more):
        endpoints = [server.endpoint for server in self.servers[:count]]
        return balanced({"smtp": ("smtp", endpoints)}, workers=2, **more)

    def backends_of(self, poised):
        return [fields["backend"] for fields in poised.sessions()]

    def test_a_backend_comes_and_goes_without_a_session_noticing(self):
        """Its sessions go on after it has left the file; new ones go where the file says."""
        with Poised(self.config(1)) as poised, greeted(poised.endpoint("smtp")) as client:
            swapped = self.config(2)
            swapped["pools"][0]["backends"] = swapped["pools"][0]["backends"][1:]
            self.assertIn("1 sessions", poised.reload(swapped))
            self.assertIn("backend be1 is removed", poised.tail())
            for _ in range(4):
                with greeted(poised.endpoint("smtp")) as other:
                    other.sendall(b"QUIT\r\n")
            poised.sessions(at_least=4)
            self.assertEqual(["be2"] * 4, self.backends_of(poised))
            self.assertTrue(works(client))

    def test_listeners_come_and_go_and_unchanged_ones_stay(self):
        host = addresses.own_address()
        one, two, three = (f"{host}:{port}" for port in (2525, 2526, 2527))
        config = self.config()
        config["services"][0]["listen"] = [one, two]
        with Poised(config) as poised:
            with greeted((host, 2526)) as client:
                inodes = self.listening_inodes(2525)
                config["services"][0]["listen"] = [one, three]
                poised.reload(config)
                processes.wait_until(lambda: refused((host, 2526)), what="2526 closed")
                self.assertTrue(works(client), "a session of a closed listener goes on")
                self.assertEqual(inodes, self.listening_inodes(2525), "2525 was made anew")
                greeted((host, 2527)).close()
                greeted((host, 2525)).close()
            # And back again, often: slots of listeners are used again.
            for number in range(20):
                config["services"][0]["listen"] = [one, two] if number % 2 else [one, three]
                poised.reload(config)
            greeted((host, 2526)).close()

    @staticmethod
    def listening_inodes(port):
        lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        rows = [line.split() for line in lines]
        return {r[9] for r in rows if r[3] == "0A" and int(r[1].split(":")[1], 16) == port}

    def test_an_address_may_change_its_service(self):
        host = addresses.own_address()
        config = self.config(1)
        config["services"][0]["listen"] = [f"{host}:2531"]
        with Poised(config) as poised, greeted((host, 2531)) as client:
            inodes = self.listening_inodes(2531)
            config["services"][0]["name"] = "submission"
            poised.reload(config)
            poised.wait_for_text("(was service smtp)")
            with greeted((host, 2531)) as other:
                other.sendall(b"QUIT\r\n")
            line = poised.sessions(at_least=1)[0]
            self.assertEqual("submission", line["service"])
            self.assertEqual(inodes, self.listening_inodes(2531))
            self.assertTrue(works(client))

    def test_a_wildcard_may_take_the_place_of_an_address(self):
        host = addresses.own_address()
        config = self.config(1)
        config["services"][0]["listen"] = [f"{host}:2533"]
        with Poised(config) as poised:
            config["services"][0]["listen"] = ["0.0.0.0:2533"]
            self.assertIn("1 changes", poised.reload(config))
            with contextlib.closing(greeted(("127.0.0.1", 2533))):
                pass

    def test_a_broken_file_changes_nothing_and_says_what_check_says(self):
        good = self.config()
        bad = copy.deepcopy(good)
        bad["pools"][0]["backends"][0]["weight"] = 1000
        bad["services"][0]["protocoll"] = "smtp"
        cases = [json.dumps(bad), '{ "version": 1, ', json.dumps({**good, "version": 9}), "[]"]
        with Poised(good) as poised, greeted(poised.endpoint("smtp")) as client:
            for text in cases:
                with self.subTest(text[:40]):
                    self.assertIn("nothing changed", poised.reload(text))
                    check = program.run("--check", "-c", str(poised.config_path))
                    self.assertEqual(2, check.returncode)
                    for line in check.stderr.splitlines():
                        said = line.removeprefix("error: ")
                        if line.startswith("error: "):
                            poised.wait_for_text(said)
                    self.assertTrue(works(client))
                    with greeted(poised.endpoint("smtp")):
                        pass
            poised.config_path.unlink()
            self.assertIn("nothing changed", poised.reload())
            self.assertIn("changes", poised.reload(good))

    def test_no_broken_file_changes_anything_and_each_says_what_check_says(self):
        """The files that the loader's own test knows; a session is open all the time."""
        with Ctl() as control:
            good = self.config(admin=control.admin())
            with Poised(good) as poised, greeted(poised.endpoint("smtp")) as client:
                before = control.json("show", "config"), self.listening_inodes(poised.endpoint("smtp")[1])
                broken = 0
                for name, text in bad_configs():
                    poised.rewrite(text)
                    check = program.run("--check", "-c", str(poised.config_path))
                    if check.returncode == 0:
                        continue  # only warnings
                    with self.subTest(name):
                        broken += 1
                        reload = control.run("--json", "reload")
                        self.assertEqual((2, 1), (check.returncode, reload.returncode))
                        said = json.loads(reload.stdout)
                        self.assertFalse(said["done"])
                        self.assertEqual([], said["changes"])
                        for kind in ("error", "warning"):
                            lines = [line.split(": ", 1)[1] for line in check.stderr.splitlines()
                                     if line.startswith(f"{kind}: ")]
                            self.assertEqual(lines, said[f"{kind}s"])
                        self.assertTrue(works(client))
                self.assertGreater(broken, 100)
                now = control.json("show", "config"), self.listening_inodes(poised.endpoint("smtp")[1])
                self.assertEqual(before, now)
                samples = ctl.metrics(poised)
                failures = ctl.value(samples, "poise_config_reloads_total", result="failure")
                self.assertEqual((broken, 0), (failures, ctl.value(samples, "poise_config_reload_successful")))
                with greeted(poised.endpoint("smtp")) as other:
                    self.assertTrue(works(other))
                poised.rewrite(good)
                self.assertIn("Reloaded: 0 changes", control.done("reload"))
                self.assertEqual(1, ctl.value(ctl.metrics(poised), "poise_config_reload_successful"))

    def test_a_listener_that_cannot_be_opened_changes_nothing(self):
        host = addresses.own_address()
        config = self.config()
        with socket.socket() as holder, Poised(config) as poised:
            holder.bind((host, 0))
            holder.listen()
            taken = copy.deepcopy(config)
            taken["services"][0]["listen"].append("%s:%d" % holder.getsockname())
            taken["pools"][0]["backends"][0]["weight"] = 7
            self.assertIn("nothing changed", poised.reload(taken))
            poised.wait_for_text("in use")
            self.assertNotIn("weight", "\n".join(poised.lines))

    def test_what_needs_a_restart_is_said(self):
        config = self.config()
        with Poised(config) as poised:
            config["workers"] = 1
            poised.reload(config)
            poised.wait_for_text("workers changes only when poised is restarted")

    def test_weights_and_limits_change(self):
        config = self.config()
        with Poised(config) as poised:
            config["pools"][0]["backends"][0]["weight"] = 3
            config["services"][0]["limits"] = {"sessions": 1}
            poised.reload(config)
            with greeted(poised.endpoint("smtp")):
                other = socket.create_connection(poised.endpoint("smtp"), 10)
                with other:
                    other.settimeout(10)
                    self.assertFalse(other.recv(4096).startswith(b"220"))
            poised.reload(self.config())
            weights = [l for l in poised.lines if "weight" in l]
            self.assertTrue(any("1 -> 3" in line for line in weights), weights)

    def test_the_log_level_changes(self):
        config = self.config()
        with Poised(config) as poised:
            config["log"] = {"level": "warning"}
            poised.reload(config)
            with greeted(poised.endpoint("smtp")) as client:
                client.sendall(b"QUIT\r\n")
            time.sleep(0.3)
            self.assertEqual([], poised.sessions())

    def test_reloads_under_load_lose_no_session(self):
        """Backends, weights, limits and listeners alternate many times while clients come and go."""
        host = addresses.own_address()
        fixed, coming = f"{host}:2541", f"{host}:2542"
        variants = []
        for number in range(4):
            config = self.config(2)
            config["services"][0]["listen"] = [fixed, coming] if number % 2 else [fixed]
            config["pools"][0]["backends"][0]["weight"] = 1 + number
            if number == 2:
                config["pools"][0]["backends"].pop(0)
            if number == 3:
                config["services"][0]["limits"] = {"sessions": 5000}
            variants.append(config)
        rounds = max(8, int(60 * SCALE))
        with Poised(variants[0]) as poised:
            memory = []
            with Load((host, 2541), clients=8) as load:
                for number in range(rounds):
                    poised.reload(variants[number % len(variants)])
                    memory.append(processes.resident_bytes(poised.pid))
                    time.sleep(0.02)
            failed = [r for r in load.results if r.error]
            self.assertEqual([], failed[:5], f"{len(failed)} of {len(load.results)} failed")
            self.assertGreater(len(load.results), rounds)
            if SCALE == 1:
                grown = memory[-1] - memory[len(memory) // 2]
                self.assertLess(grown, 4 << 20, "memory grows with reloads")
            lines = poised.sessions(at_least=len(load.results))
            cut = [f for f in lines if f["close_reason"] in ("drained", "kicked", "shutdown")]
            self.assertEqual([], cut)


if __name__ == "__main__":
    unittest.main()
