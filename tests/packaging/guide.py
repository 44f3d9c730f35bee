"""Every command of the operator's guide, run as it stands there.

In an overlay of this machine's root where the packages' files are where the packages put them, and in a network of its
own with the addresses of the guide. The service manager there is a real systemd. Blocks of the guide with a note behind
`sh` are not for this test: debian_package.py runs "install" and "upgrade", nobody the others.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import netns
import processes
from blocks import blocks, installed_files
from poised import BIN

ROOT = pathlib.Path(os.environ["POISE_SOURCE_DIR"])
GUIDE = ROOT / "docs/guide.md"
NOTES = {"", "build", "install", "upgrade", "host", "server-dependent", "second-box"}
SERVERS = {  # who answers where in the guide
    "smtp": [f"192.0.2.{n}:25" for n in (11, 12, 13)],
    "submission": [f"192.0.2.{n}:587" for n in (11, 12)],
    "imaps": [f"192.0.2.{n}:993" for n in (11, 12)],
}

class Box:
    """A Debian with the packages' files in place and its own systemd. run(script) is bash in it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        upper = self.folder / "upper"
        for package in ("poise", "poise-load"):
            for source, place in installed_files(ROOT, package):
                source = BIN / source.rpartition("/")[2] if source.startswith("build/") else ROOT / source
                # Where / has links to /usr, a folder of its own would hide them.
                target = upper / re.sub("^/lib/", "/usr/lib/", place).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target)
                else:
                    shutil.copy(source, target)
        for kind in ("sysusers", "tmpfiles"):
            target = upper / f"usr/lib/{kind}.d/poise.conf"
            target.parent.mkdir(parents=True)
            shutil.copy(ROOT / f"packaging/debian/poise.{kind}", target)
        for path in [self.folder, upper, *upper.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)

    def __enter__(self):
        boot = str(ROOT / "tests/packaging/systemd")
        pid_file = self.folder / "pid"
        with open(self.folder / "console", "wb") as console:
            self._systemd = processes.start([boot, "--overlay", str(self.folder), str(pid_file)], stdout=console,
                                            stderr=console)
        try:
            processes.wait_until(pid_file.exists, within=60, what="systemd is up")
            # One shell for all: what is started in it goes on.
            self._shell = processes.start([boot, "--in", str(pid_file), "bash"], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except BaseException:
            processes.stop(self._systemd)
            print((self.folder / "console").read_text())
            raise
        code, said = self.run("systemd-sysusers poise.conf && systemd-tmpfiles --create poise.conf && id poise")
        if code != 0:
            raise AssertionError(said)
        return self

    def __exit__(self, *_):
        processes.kill_group(self._shell)
        self._shell.stdin.close()
        self._shell.stdout.close()
        processes.stop(self._systemd, grace=20)

    def run(self, script):
        """(exit code, output)"""
        self._shell.stdin.write(f"(set -e\n{script}\n) 2>&1 </dev/null; echo \"@@@ $?\"\n")
        self._shell.stdin.flush()
        said = []
        for line in self._shell.stdout:
            if line.startswith("@@@ "):
                return int(line.split()[1]), "".join(said)
            said.append(line)
        raise AssertionError("the box is gone:\n" + "".join(said))


class Boxed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        netns.enter(net_ipv4_ip_nonlocal_bind="0")
        for address in ("192.0.2.1", "192.0.2.11", "192.0.2.12", "192.0.2.13", "198.51.100.7"):
            subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="poise-guide-", dir="/var/tmp")
        self.addCleanup(folder.cleanup)
        for protocol, endpoints in SERVERS.items():
            options = [word for endpoint in endpoints for word in ("--listen", endpoint)]
            server = processes.start([str(BIN / "poise-load"), "serve", "--protocol", protocol, *options],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.addCleanup(processes.stop, server)
        self.box = Box(folder.name)
        self.box.__enter__()
        self.addCleanup(self.box.__exit__)

    def good(self, script):
        code, said = self.box.run(script)
        log = self.box.run("journalctl --no-pager -n 30")[1] if code else ""
        self.assertEqual(0, code, f"{script}\n{said}\n{log}")
        return said


class Guide(Boxed):
    def test_every_command_of_the_guide(self):
        commands = 0
        for block in blocks(GUIDE):
            with self.subTest(f"docs/guide.md:{block.line}"):
                if block.kind == "json":
                    self.assertTrue(block.note.startswith("/etc/poise/"), block.note)
                    code, said = self.box.run(f"cat >{block.note} <<'END'\n{block.text}\nEND")
                    self.assertEqual(0, code, said)
                    continue
                self.assertEqual("sh", block.kind)
                self.assertIn(block.note, NOTES)
                if block.note:
                    continue
                for command in block.text.splitlines():
                    commands += 1
                    code, said = self.box.run(command)
                    log = self.box.run("journalctl --no-pager -n 20")[1] if code else ""
                    self.assertEqual(0, code, f"{command}\n{said}\n{log}")
        self.assertGreater(commands, 35)
        self.what_it_led_to()

    def what_it_led_to(self):
        """The daemon that the guide's commands have left: its own user, one capability, all up, nothing forgotten."""
        code, said = self.box.run("cat /proc/$(systemctl show -P MainPID poised)/status")
        self.assertEqual(0, code, said)
        self.assertRegex(said, r"NoNewPrivs:\s+1\n")
        self.assertRegex(said, r"CapEff:\s+0000000000000400\n")
        self.assertNotRegex(said, r"Uid:\s+0\s")
        _, said = self.box.run("poisectl --json show backends")
        self.assertEqual({("up", "enabled")}, {(each["state"], each["admin"]) for each in json.loads(said)})
        _, said = self.box.run("curl -s http://127.0.0.1:9847/metrics")
        names = re.findall(r"^((?:poise|process)_\w+)", said, re.M)
        names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
        page = (ROOT / "packaging/man/poised.8").read_text()
        reasons = (ROOT / "docs/reasons.md").read_text()
        self.assertGreater(len(names), 25)
        for name in names:
            self.assertIn(f".BR {name} ", page)
            if name.startswith("poise_"):
                self.assertIn(f"`{name}", reasons)
        code, said = self.box.run("ls /etc/systemd/system/multi-user.target.wants/poised.service")
        self.assertEqual(0, code, said)

    def test_the_other_pages(self):
        """Each configuration is valid, alone as it stands; each command succeeds."""
        checked = 0
        for page in ("migration", "servers", "appliance", "operating", "pair"):
            path = ROOT / f"docs/{page}.md"
            for block in blocks(path) if path.exists() else []:
                with self.subTest(f"docs/{page}.md:{block.line}"):
                    if block.kind == "json" and not block.note:
                        script = f"cat >/tmp/page.json <<'END'\n{block.text}\nEND\npoised --check -c /tmp/page.json"
                    elif block.kind == "sh" and block.note in ("", "foreground"):
                        script = f"timeout --preserve-status 3 {block.text}" if block.note else block.text
                    else:
                        self.assertTrue(block.kind != "sh" or block.note in NOTES, block.note)
                        continue
                    code, said = self.box.run(script)
                    self.assertEqual(0, code, said)
                    checked += 1
        self.assertGreaterEqual(checked, 7)


class Service(Boxed):
    """The unit under a real systemd."""

    def setUp(self):
        super().setUp()
        config = next(block.text for block in blocks(GUIDE) if block.kind == "json")
        self.good(f"cat >/etc/poise/poise.json <<'END'\n{config}\nEND\nsystemctl start poised")

    def shown(self, *names):
        said = self.good("systemctl show poised " + " ".join(f"-p {name}" for name in names))
        values = dict(line.split("=", 1) for line in said.splitlines())
        return values[names[0]] if len(names) == 1 else [values[name] for name in names]

    def test_it_says_how_mail_is(self):
        self.assertEqual(["notify", "running"], self.shown("Type", "SubState"))
        self.assertTrue(self.shown("StatusText").startswith("Mail flows: 3 of 3 services served"))

    def test_a_reload_checks_first(self):
        code, said = self.box.run("sed -i 's/least_conn/fastest/' /etc/poise/poise.json; systemctl reload poised")
        self.assertNotEqual(0, code)
        self.assertIn('"fastest"', self.good("journalctl --no-pager -u poised"))
        self.assertEqual("running", self.shown("SubState"))
        said = self.good("curl -s http://127.0.0.1:9847/metrics")
        self.assertIn('poise_config_reloads_total{result="failure"} 0\n', said)  # it never came to the daemon

    def test_a_crash_costs_a_second_and_no_decision(self):
        self.good("poisectl drain mx/mx1 --reason test; poisectl ban add 203.0.113.0/24")
        before = self.shown("MainPID")
        self.good("systemctl kill -s KILL poised")
        processes.wait_until(lambda: self.shown("SubState", "MainPID")[0] == "running"
                             and self.shown("MainPID") != before, within=30, what="it runs again")
        self.assertIn("203.0.113.0/24", self.good("poisectl ban list"))
        states = {each["name"]: each["admin"] for each in json.loads(self.good("poisectl --json show backends"))
                  if each["pool"] == "mx"}
        self.assertEqual("enabled", states.pop("mx2"))
        self.assertNotEqual("enabled", states.pop("mx1"))

    def test_a_bad_file_is_not_tried_again_and_again(self):
        code, _ = self.box.run("echo '{' >/etc/poise/poise.json; systemctl restart poised")
        self.assertNotEqual(0, code)
        self.good("sleep 3")
        self.assertEqual(["failed", "2", "0"], self.shown("SubState", "ExecMainStatus", "NRestarts"))
        self.assertIn("syntax error", self.good("journalctl --no-pager -u poised"))

    def test_one_that_hangs_is_started_anew(self):
        self.assertEqual("30s", self.shown("WatchdogUSec"))
        self.good("mkdir -p /run/systemd/system/poised.service.d; "
                  "printf '[Service]\\nWatchdogSec=4\\n' >/run/systemd/system/poised.service.d/watchdog.conf; "
                  "systemctl daemon-reload; systemctl restart poised; sleep 6")
        before, restarts = self.shown("MainPID", "NRestarts")
        self.assertEqual("0", restarts)  # it does say that it lives
        self.good("systemctl kill -s STOP poised")
        processes.wait_until(lambda: self.shown("NRestarts") == "1", within=60, what="the watchdog")
        processes.wait_until(lambda: self.shown("SubState") == "running" and self.shown("MainPID") != before, within=30)

    def test_the_transparent_drop_in(self):
        self.good("mkdir -p /etc/systemd/system/poised.service.d; "
                  "cp /usr/share/doc/poise/examples/transparent.conf /etc/systemd/system/poised.service.d/; "
                  """sed -i 's/"name": "mx",/"name": "mx", "source_address": "client",/' /etc/poise/poise.json; """
                  "systemctl daemon-reload; systemctl restart poised; systemctl restart poised")
        said = self.good("cat /proc/$(systemctl show -P MainPID poised)/status")
        self.assertRegex(said, r"CapEff:\s+0000000000003400\n")
        self.assertEqual(1, self.good("ip rule").count("iif eth1"))


if __name__ == "__main__":
    unittest.main()
