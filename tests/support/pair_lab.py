"""Two boxes with poised and Debian's keepalived, three mail servers and a client, each in a network namespace of its
own on one switch. Needs root."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import poised
import processes

VIP, VIP6 = "10.77.0.10", "fd77::10"
BOXES = {"lb1": "10.77.0.2", "lb2": "10.77.0.3"}
SERVERS = {"mx1": "10.77.0.5", "mx2": "10.77.0.6", "mx3": "10.77.0.7"}
CLIENT = "10.77.0.4"
# More addresses of the client, for stickiness by source.
SOURCES = [f"10.77.0.{number}" for number in range(40, 60)]

# Adverts of 200 ms: the passive box takes over after three silences and a little. The limit is for a busy machine;
# what was seen is printed.
OUTAGE_MAX_S = 4.0

# Connects again and again; a line for each attempt: when it began, what it read or why not.
_WATCH = """
import socket, sys, time
while True:
    begin = time.monotonic()
    try:
        with socket.create_connection((sys.argv[1], 25), 0.3) as s:
            s.settimeout(0.3)
            said = s.recv(200).decode().strip() or "closed"
    except OSError as error:
        said = f"no: {error}"
    print(f"{begin:.3f} {time.monotonic():.3f} {said}", flush=True)
    time.sleep(max(0, begin + 0.02 - time.monotonic()))
"""

_ONCE = """
import socket, sys
with socket.create_connection((sys.argv[1], 25), 3, (sys.argv[2], 0)) as s:
    s.settimeout(5)
    print(s.recv(200).decode().strip())
"""

# A session that stays: a line of input is said, the first line of its answer is a line of output.
_HELD = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 60) as s:
    answers = s.makefile("rb")
    print(answers.readline().decode().strip(), flush=True)
    for line in sys.stdin:
        s.sendall(line.strip().encode() + b"\\r\\n")
        print(answers.readline().decode().strip(), flush=True)
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def address6(address):
    """A host's other address: 10.77.0.2 -> fd77::2."""
    return f"fd77::{address.rpartition('.')[2]}"


class Watch:
    """What a client that connects every 20 ms reads."""

    def __init__(self, lab, vip=VIP):
        self.path = lab.folder / f"watch-{time.monotonic_ns()}"
        with open(self.path, "wb") as out:
            self.process = processes.start([*lab.inside("client"), "python3", "-c", _WATCH, vip], stdout=out)

    def attempts(self):
        found = []
        for line in self.path.read_text().splitlines():
            parts = line.split(" ", 2)
            if len(parts) == 3:
                found.append((float(parts[0]), float(parts[1]), parts[2]))
        return found

    def stop(self):
        processes.stop(self.process)
        return self.attempts()

    def outage_since(self, moment, word="220"):
        """Seconds from `moment` to the end of the first attempt begun after the last failed one; 0: none failed."""
        late = [a for a in self.attempts() if a[1] >= moment]
        failed = [i for i, a in enumerate(late) if not a[2].startswith(word)]
        if not failed:
            return 0.0
        if failed[-1] + 1 >= len(late):
            raise AssertionError(f"no session after the last failed one: {late[-3:]}")
        return late[failed[-1] + 1][1] - moment


class HeldSession:
    """A client's session for the length of a with block; `greeting` is the server's."""

    def __init__(self, lab, vip=VIP):
        self._command = [*lab.inside("client"), "python3", "-c", _HELD, vip, str(lab.port)]

    def __enter__(self):
        self.process = processes.start(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)
        self.greeting = self.process.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        processes.stop(self.process)
        self.process.stdin.close()
        self.process.stdout.close()

    def say(self, line):
        """The answer's first line; "" when the session is over."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


class Box(poised.Poised):
    """poised on one of the two."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.run = lab.folder / f"run-{name}"
        self.run.mkdir(exist_ok=True)
        self.run.chmod(0o755)
        state = lab.folder / f"state-{name}"
        state.mkdir(exist_ok=True)
        super().__init__(lab.config(), wrap=lab.inside(name), state=str(state))

    def rewrite(self, config):
        (self.config_path.parent / "node").write_text(self.name + "\n")
        super().rewrite(config)

    def ctl(self, *words, timeout=60):
        return subprocess.run([str(poised.BIN / "poisectl"), "-s", str(self.run / "poised.sock"), *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)

    def done(self, *words):
        result = self.ctl(*words)
        if result.returncode != 0:
            raise AssertionError(f"{self.name}: poisectl {words}: {result.returncode} {result.stdout}{result.stderr}")
        return result.stdout

    def json(self, *words):
        return json.loads(self.done("--json", *words))

    def pair(self):
        return self.json("pair", "status")

    def in_sync(self):
        return self.pair()["in_sync"]

    def backend(self, name):
        return next(b for b in self.json("show", "backends") if b["name"] == name)

    def metric(self, name):
        """{labels: value} of one metric, as text."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.run / "poised.sock"))
            s.sendall(b'{"command": "metrics"}\n')
            text = ""
            while "\n" not in text:
                text += s.recv(1 << 20).decode()
        lines = json.loads(text)["result"].splitlines()
        matches = (re.match(name + r"(?:\{(.*)\})? (\S+)$", line) for line in lines)
        return {m[1] or "": float(m[2]) for m in matches if m}


class Lab:
    """Everything but the boxes' programs runs when it is made; use it in a with block. `edit(config)` changes what
    both boxes' file has."""

    def __init__(self, advert="200ms", protocol="smtp", pool=None, edit=None, **pair):
        self.advert = advert
        self.protocol, self.port = protocol, {"smtp": 25, "imap": 143}[protocol]
        self.pool = pool or {}
        self.edit = edit or (lambda config: None)
        self.pair = pair
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="poise-pair-"))
        self.folder.chmod(0o755)
        self.prefix = f"poise{os.getpid()}x{time.monotonic_ns() % 10**7}-"
        self._spaces, self.servers, self.keepalives, self.boxes = [], {}, {}, {}
        self.key = self.folder / "key"
        self.key.write_text("0123456789abcdef" * 4 + "\n")
        self.key.chmod(0o600)

    def __enter__(self):
        try:
            self._space("sw")
            ip("-n", self.prefix + "sw", "link", "add", "br0", "type", "bridge")
            ip("-n", self.prefix + "sw", "link", "set", "br0", "up")
            for name, address in {**BOXES, **SERVERS, "client": CLIENT}.items():
                self._host(name, address)
            for source in SOURCES:
                ip("-n", self.prefix + "client", "addr", "add", f"{source}/24", "dev", "eth0")
            for name in SERVERS:
                self.start_server(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in [*self.keepalives.values(), *self.servers.values()]:
            processes.stop(process)
        for name in self._spaces:
            subprocess.run(["ip", "netns", "del", self.prefix + name], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _space(self, name):
        ip("netns", "add", self.prefix + name)
        self._spaces.append(name)
        ip("-n", self.prefix + name, "link", "set", "lo", "up")

    def _host(self, name, address):
        self._space(name)
        ip("-n", self.prefix + name, "link", "add", "eth0", "type", "veth", "peer", "name", "p-" + name,
           "netns", self.prefix + "sw")
        ip("-n", self.prefix + "sw", "link", "set", "p-" + name, "master", "br0", "up")
        ip("-n", self.prefix + name, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", self.prefix + name, "addr", "add", f"{address6(address)}/64", "dev", "eth0", "nodad")
        ip("-n", self.prefix + name, "link", "set", "eth0", "up")

    def inside(self, name):
        return ["ip", "netns", "exec", self.prefix + name]

    def cable(self, name, state):
        ip("-n", self.prefix + "sw", "link", "set", "p-" + name, state)

    def start_server(self, name):
        self.servers[name] = processes.start(
            [*self.inside(name), str(poised.BIN / "poise-load"), "serve", "--protocol", self.protocol,
             "--listen", f"{SERVERS[name]}:{self.port}", "--name", name], stdout=subprocess.DEVNULL)

    def stop_servers(self):
        for process in self.servers.values():
            processes.stop(process)

    def config(self):
        """One file for both boxes."""
        config = {
            "version": 1, "hostname": "mx.poise.test", "workers": 1,
            "admin": {"socket": "${run}/poised.sock", "http": "off"},
            "shutdown": {"drain": "2s"},
            "services": [{"name": self.protocol, "listen": [f"0.0.0.0:{self.port}"], "protocol": self.protocol,
                          "pool": "mx"}],
            "pools": [{
                "name": "mx", "sticky": {"prefix_v4": 32}, "slow_start": "0s",
                "probe": {"interval": "1s", "fast_interval": "200ms", "down_interval": "1s", "rise": 1, "fall": 2},
                "backends": [{"name": n, "address": f"{a}:{self.port}", **self.pool.get("backend", {})}
                             for n, a in SERVERS.items()],
                **{key: value for key, value in self.pool.items() if key != "backend"}}],
            "pair": {
                "key_file": str(self.key), "pace": "2s",
                "nodes": [{"name": n, "address": f"{a}:9848", "variables": {"run": str(self.folder / f"run-{n}")}}
                          for n, a in BOXES.items()],
                "vrrp": [{"name": "mail", "interface": "eth0", "router_id": 51, "virtual_addresses": [f"{VIP}/24"],
                          "advert_interval": self.advert}],
                **self.pair},
        }
        self.edit(config)
        return config

    def box(self, name):
        self.boxes[name] = Box(self, name)
        return self.boxes[name]

    def start_both(self, enter):
        """Both boxes up and in sync, keepalived on both, lb1 active. `enter`: a test's enterContext."""
        one, two = enter(self.box("lb1")), enter(self.box("lb2"))
        processes.wait_until(lambda: one.in_sync() and two.in_sync(), within=30, what="in sync")
        # One after the other: who begins to listen later may on a busy machine be the one who hears nobody.
        self.start_keepalived("lb1")
        self.wait_for_holder("lb1", within=60)
        self.start_keepalived("lb2")
        processes.wait_until(lambda: two.pair()["peer_role"] == "master", within=20, what="lb2 hears of it")
        processes.wait_until(lambda: two.pair()["role"] == "backup", within=20, what="lb2 is backup")
        return one, two

    def keepalived_file(self, box):
        return box.done("vrrp-config", "-c", str(box.config_path))

    def start_keepalived(self, name):
        box = self.boxes[name]
        path = self.folder / f"{name}-keepalived.conf"
        path.write_text(self.keepalived_file(box))
        path.chmod(0o644)
        check = subprocess.run([*self.inside(name), "keepalived", "-t", "-f", str(path)], capture_output=True,
                               text=True, check=False)
        # Debian's 2.2.7 ends the test of a good file by SIGTERM to itself; of a bad one with 1 to 5, and words.
        if check.returncode not in (0, -signal.SIGTERM) or check.stdout + check.stderr:
            raise AssertionError(f"keepalived refuses its file: {check.returncode} {check.stdout}{check.stderr}")
        with open(self.folder / f"{name}-keepalived.log", "ab") as log:
            self.keepalives[name] = processes.start(
                [*self.inside(name), "keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={path}",
                 f"--pid={self.folder}/{name}.pid", f"--vrrp_pid={self.folder}/{name}-vrrp.pid"],
                stdout=log, stderr=log)

    def stop_keepalived(self, name):
        processes.stop(self.keepalives[name])

    def has_address(self, name, vip=VIP):
        said = subprocess.check_output(["ip", "-n", self.prefix + name, "-o", "addr"], text=True)
        return f" {vip}/" in said

    def holders(self, vip=VIP):
        return [name for name in BOXES if self.has_address(name, vip)]

    def wait_for_holder(self, name, within=20):
        processes.wait_until(lambda: self.holders() == [name], within=within, what=f"{name} alone has the address")

    def one_has_it(self, name, vip=VIP, seconds=1.0):
        """At rest: this one alone has the address, for that long."""
        processes.wait_until(lambda: self.holders(vip) == [name], within=20, what=f"{name} alone has {vip}")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.holders(vip) != [name]:
                raise AssertionError(f"{name} alone has {vip}, but for a moment {self.holders(vip)}")
            time.sleep(0.05)

    def session(self, source=CLIENT, vip=VIP):
        """The greeting that a new client from `source` reads; None: none."""
        done = subprocess.run([*self.inside("client"), "python3", "-c", _ONCE, vip, source], capture_output=True,
                              text=True, check=False, timeout=15)
        return done.stdout.strip() or None

    def servers_of(self, sources):
        """Where each source's session lands."""
        landed = {}
        for source in sources:
            said = processes.wait_until(lambda: self.session(source), what=f"a session from {source}")
            landed[source] = next((n for n in SERVERS if n in said), said)
        return landed


class PairTest(unittest.TestCase):
    """Both boxes up and in sync, lb1 active, a drain and stickiness known to both."""

    advert = "200ms"
    edit = None  # as Lab's

    def setUp(self):
        self.lab = self.enterContext(Lab(advert=self.advert, edit=self.edit))
        self.one, self.two = self.lab.start_both(self.enterContext)
        self.sources = SOURCES[:6]
        self.landed = self.lab.servers_of(self.sources)
        self.one.done("drain", "mx/mx3", "--reason", "new kernel")
        processes.wait_until(lambda: self.two.backend("mx3")["admin"] != "enabled", what="the drain is known to lb2")
        processes.wait_until(lambda: len(self.two.json("show", "sticky")["entries"]) >= len(self.sources),
                             what="the sticky table is known to lb2")
        self.watch = Watch(self.lab)
        self.addCleanup(processes.stop, self.watch.process)
        processes.wait_until(lambda: len(self.watch.attempts()) > 3, what="the watcher")

    def fails(self, what, fail, limit=OUTAGE_MAX_S):
        """`fail()` on lb1: lb2 has the address, sessions work, and know where they were."""
        begin = time.monotonic()
        fail()
        self.moves(what, begin, limit)

    def moves(self, what, begin, limit=OUTAGE_MAX_S):
        processes.wait_until(lambda: self.lab.has_address("lb2"), within=20, what="lb2 has the address")
        time.sleep(1.5)
        outage = self.watch.outage_since(begin)
        print(f"FIGURE {what}: new sessions after {outage:.2f} s", flush=True)
        self.assertLess(outage, limit)
        for source, server in self.lab.servers_of(self.sources).items():
            if self.landed[source] != "mx3":
                self.assertEqual(server, self.landed[source], f"{source} stays on its server")
            self.assertNotEqual(server, "mx3", "drained stays drained")
