"""Files around a running poised, by the programs they are for: fail2ban bans, logcheck reads, nftables filters."""

import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

import processes
from ctl import Ctl
from netns import Namespace
from poised import BIN, Poised, balanced, endpoint_text
from smtp_server import SmtpServer

ROOT = pathlib.Path(os.environ["POISE_SOURCE_DIR"])
PACKAGING = ROOT / "packaging"
EARLY, DENIED, OFTEN, BANNED, HONEST = (f"127.0.0.{n}" for n in (61, 62, 63, 64, 65))


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, check=False, **options)
    return done.returncode, done.stdout


def visit(endpoint, source, talk=b""):
    """One session from there; what it was greeted with."""
    with socket.create_connection(endpoint, 10, (source, 0)) as client:
        client.settimeout(10)
        client.sendall(talk)
        said = client.recv(4096)
        if said.startswith(b"220"):
            client.sendall(b"QUIT\r\n")
            while client.recv(4096):
                pass
        return said


class Day:
    """A poised with two servers and a bit of everything in its log."""

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.servers = [stack.enter_context(SmtpServer(name)) for name in ("a", "b")]
            self.ctl = stack.enter_context(Ctl())
            self.config = balanced(
                {"smtp": ("smtp", [server.endpoint for server in self.servers])},
                admin=self.ctl.admin(),
                service={"early_talk": "refuse", "deny": [DENIED],
                         "limits": {"rate_per_source": "1/m", "except": [HONEST]}},
                pool={"slow_start": "1s", "probe": {"interval": "500ms", "fast_interval": "200ms", "fall": 2}},
            )
            self.poised = stack.enter_context(Poised(self.config))
            self.endpoint = self.poised.endpoint("smtp")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *what):
        return self._stack.__exit__(*what)

    def routine(self):
        """What happens every day; the number of its session lines."""
        assert visit(self.endpoint, HONEST).startswith(b"220")
        assert visit(self.endpoint, DENIED).startswith(b"554")
        assert visit(self.endpoint, EARLY, b"EHLO early\r\n").startswith(b"554")
        for _ in range(3):
            visit(self.endpoint, OFTEN)
        self.ctl.done("ban", "add", BANNED, "--for", "1h", "--reason", "fail2ban-poised")
        assert visit(self.endpoint, BANNED).startswith(b"554")
        return len(self.poised.sessions(at_least=7))


def as_syslog(line, number, target):
    """A line as it stands in a file of rsyslog. stderr: through the service's standard error, with its own time and
    level; syslog: poised's "target": "syslog"."""
    time_and_level = re.match(r"\S+ \w+ ", line)[0]
    words = line if target == "stderr" else line[len(time_and_level):]
    when = "Nov  2 02:07:15" if number % 2 else "2026-11-22T02:07:15.123456+00:00"
    return f"{when} lb1.example.org poised[4242]: {words}\n"


class Logcheck(unittest.TestCase):
    RULES = PACKAGING / "debian/poise.logcheck.ignore.server"

    def reported(self, lines):
        """What logcheck mails of these lines, as its own user would run it."""
        nobody = pwd.getpwnam("nobody")
        with tempfile.TemporaryDirectory(prefix="poise-logcheck-") as name:
            folder = pathlib.Path(name)
            rules = folder / "rules"
            for kind in ("cracking.d", "violations.d", "violations.ignore.d", "ignore.d.paranoid", "ignore.d.server"):
                (rules / kind).mkdir(parents=True)
            shutil.copy(self.RULES, rules / "ignore.d.server/poise")
            (folder / "state").mkdir()
            (folder / "lock").mkdir()
            (folder / "syslog").write_text("".join(lines))
            (folder / "files").write_text(f"{folder}/syslog\n")
            (folder / "conf").write_text(
                f'REPORTLEVEL="server"\nRULEDIR="{rules}"\nSTATEDIR="{folder}/state"\nLOCKDIR="{folder}/lock"\n'
                f'TMP="{folder}"\nFQDN=1\nADDTAG="no"\n'
            )
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
            code, said = run("/usr/sbin/logcheck", "-o", "-c", folder / "conf", "-l", folder / "syslog",
                             "-S", folder / "state", "-r", rules, user="nobody", group=nobody.pw_gid, extra_groups=[],
                             env={"PATH": os.environ["PATH"], "HOME": name, "TMPDIR": name}, cwd=name)
        self.assertEqual(code, 0, said)
        return [line for line in said.splitlines() if " poised[" in line]

    def test_a_day_is_silent_and_trouble_is_not(self):
        with Day() as day:
            day.routine()
            quiet = list(day.poised.lines)
            day.servers[1].die()
            day.poised.wait_for_text("backend smtp/be2 up -> down")
            day.servers[0].die()
            day.poised.wait_for_text("all 2 backends are down")
            self.assertTrue(visit(day.endpoint, HONEST).startswith(b"421"))
            day.poised.rewrite("{")
            self.assertEqual(1, day.ctl.run("reload").returncode)
            day.poised.sessions(at_least=8)
            loud = day.poised.lines[len(quiet):]
        quiet += [line for line in day.poised.lines if " total service=" in line]
        # The start's warnings are what somebody should read once.
        quiet = [line for line in quiet if " warning " not in line.split("session id")[0]]
        self.assertGreater(len(quiet), 10)
        for target in ("stderr", "syslog"):
            with self.subTest(target):
                lines = [as_syslog(line, number, target) for number, line in enumerate(quiet + loud)]
                reported = self.reported(lines)
                self.assertEqual(sorted(line.rstrip("\n") for line in lines[len(quiet):]), sorted(reported))


class Fail2ban(unittest.TestCase):
    def test_a_client_turned_away_again_and_again_is_banned_at_the_balancer(self):
        """Debian's fail2ban with our filter, our action and the jail of the example."""
        with Day() as day, tempfile.TemporaryDirectory(prefix="poise-fail2ban-") as name:
            folder = pathlib.Path(name)
            etc = folder / "etc"
            shutil.copytree("/etc/fail2ban", etc)
            for path in (etc / "jail.d").iterdir():
                path.unlink()
            for kind in ("action.d", "filter.d"):
                shutil.copytree(PACKAGING / "fail2ban" / kind, etc / kind, dirs_exist_ok=True)
            log = folder / "poise.log"
            log.touch()
            # python3-systemd and a journal are not everywhere: the same lines from a file.
            jails = (PACKAGING / "fail2ban/fail2ban-jail.conf").read_text()
            self.assertIn("\nbackend = systemd\n", jails)
            jails = jails.replace("\nbackend = systemd\n", f"\nbackend = polling\nlogpath = {log}\n")
            action = f'action = poise[poisectl="{BIN}/poisectl -s {day.ctl.socket}"]'
            jails = jails.replace("\naction = poise\n", f"\n{action}\n", 1)
            # Loopback addresses are the machine's own, which fail2ban spares.
            (etc / "jail.d/poise.local").write_text(jails + "\n[DEFAULT]\nignoreself = false\n")
            (etc / "fail2ban.local").write_text(
                f"[Definition]\nlogtarget = {folder}/fail2ban.log\ndbfile = {folder}/db\nsocket = {folder}/sock\n"
                f"pidfile = {folder}/pid\n"
            )
            options = ["-c", etc, "-s", folder / "sock", "-p", folder / "pid"]
            code, said = run("fail2ban-client", *options, "-t")
            self.assertEqual(code, 0, said)
            server = processes.start(
                ["fail2ban-server", *map(str, options), "-f", "start"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            self.addCleanup(processes.stop, server)
            processes.wait_until(lambda: run("fail2ban-client", *options, "status", "poised")[0] == 0,
                                 within=60, what="fail2ban has its jail")
            day.routine()
            for _ in range(5):
                visit(day.endpoint, EARLY, b"EHLO early\r\n")
            day.poised.sessions(at_least=12)
            lines = [line for line in day.poised.lines if " session id=" in line]
            log.write_text("".join(as_syslog(line, 1, "stderr") for line in lines).replace(
                "Nov  2 02:07:15", subprocess.check_output(["date", "+%b %e %H:%M:%S"], text=True).strip()))
            said = (folder / "fail2ban.log").read_text

            def errors():  # but for being asked for its jail too early, above
                lines = said().splitlines()
                return [line for line in lines if " ERROR " in line and "UnknownJailException" not in line]

            processes.wait_until(lambda: EARLY in day.ctl.done("ban", "list") or errors(), within=60, what="the ban")
            text = json.dumps(day.ctl.json("ban", "list"))
            self.assertIn(EARLY, text, said())
            self.assertNotIn(HONEST, text)
            self.assertNotIn(DENIED, text)
            processes.wait_until(lambda: visit(day.endpoint, EARLY).startswith(b"554"), what="it is refused")
            day.poised.wait_for(lambda line: f"client={EARLY}:" in line and "refusal=banned" in line)
            # And lifted by hand where the hand is used to; a second time there is nothing to lift, and no error.
            self.assertEqual(0, run("fail2ban-client", *options, "set", "poised", "unbanip", EARLY)[0])
            processes.wait_until(lambda: EARLY not in day.ctl.done("ban", "list"), within=60, what="no ban")
            self.assertEqual([], errors())


class Nftables(unittest.TestCase):
    def test_clients_reach_mail_and_nothing_else(self):
        """Loaded twice, as a change would. The machine's own tables are not touched: it is a namespace of its own."""
        with contextlib.ExitStack() as stack:
            client, balancer = (stack.enter_context(Namespace(name)) for name in ("nft-c", "nft-b"))
            balancer.ip("link", "add", "front", "type", "veth", "peer", "name", "lan", "netns", client.name)
            balancer.ip("addr", "add", "192.0.2.1/24", "dev", "front")
            balancer.ip("link", "set", "front", "up")
            for address in ("192.0.2.7", "192.0.2.130", "192.0.2.200"):  # anybody, an operator, the monitoring
                client.ip("addr", "add", f"{address}/24", "dev", "lan")
            client.ip("link", "set", "lan", "up")
            for _ in range(2):
                code, said = run(*balancer.wrap, "nft", "-f", PACKAGING / "nftables/poise.nft")
                self.assertEqual(code, 0, said)
            with balancer.inside():
                listeners = {}
                for port in (22, 25, 993, 9847, 8080):
                    listeners[port] = stack.enter_context(socket.create_server(("192.0.2.1", port)))
            with client.inside():
                outside = stack.enter_context(socket.create_server(("192.0.2.7", 25)))

            def reaches(source, port):
                with client.inside(), contextlib.suppress(TimeoutError):
                    with socket.create_connection(("192.0.2.1", port), 0.7, (source, 0)):
                        return True
                return False

            allowed = {
                "192.0.2.7": {25, 993}, "192.0.2.130": {22, 25, 993}, "192.0.2.200": {25, 993, 9847},
            }
            for source, ports in allowed.items():
                self.assertEqual(ports, {port for port in listeners if reaches(source, port)}, source)
            # A session and a probe to a server come back, and none of it is tracked.
            with balancer.inside():
                with socket.create_connection(("192.0.2.7", 25), 10) as session:
                    session.sendall(b"x")
                    with outside.accept()[0] as server:
                        self.assertEqual(b"x", server.recv(1))


class Rsyslog(unittest.TestCase):
    def test_its_file_is_understood(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(f'include(file="{PACKAGING}/rsyslog/rsyslog-poise.conf")\n')
            file.flush()
            code, said = run("rsyslogd", "-N1", "-f", file.name)
        self.assertEqual(code, 0, said)
        self.assertNotIn("error", said.replace("errors", ""))


if __name__ == "__main__":
    unittest.main()
