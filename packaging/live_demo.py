"""What packaging/demo runs once everything is built: three mail servers, poised before them, load through it, and a
display of where the sessions go. Standard library only.

    python3 packaging/live_demo.py BIN_FOLDER [--once]
"""

import collections
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SERVERS = ["mx1", "mx2", "mx3"]
BEGAN = time.monotonic()
PROTOCOLS = ["smtp", "imap", "pop3"]
STATUS_PORT = 9847
PORTS = {"smtp": 2525, "imap": 2143, "pop3": 2110}  # others if these are taken
ONCE_SECONDS = 10
FOREVER = "8760h"
# Sessions a second that are pleasant to watch and leave a small machine some air.
RATES = {"smtp": 300, "imap": 30, "pop3": 30}

_SESSION = re.compile(r" session id=.* service=(\S+) .* backend=(\S+) .* close_reason=(\S+)")


class Trouble(Exception):
    """Something that ends the demo, in words."""


def say(name, words):
    print(f"{name:<10} {words}", flush=True)


class Child:
    """A program of ours, in a process group of its own: Ctrl-C is for us, and we end them in order."""

    def __init__(self, name, command, **options):
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, text=True, **options
        )

    def running(self):
        return self.process.poll() is None

    def stop(self, number=signal.SIGTERM, within=15):
        if self.running():
            self.process.send_signal(number)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Trouble(f"{self.name} did not stop within {within} s") from None


class Demo:
    def __init__(self, folder, once):
        self.folder = pathlib.Path(folder).resolve()
        self.once = once
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="poise-demo-"))
        self.servers = []
        self.backends = collections.defaultdict(
            list
        )  # protocol: addresses, in the order of SERVERS
        self.poised = None
        self.listeners = {}
        self.status_page = "-"
        self.loads = {}
        self.counts = collections.Counter()  # (service, backend): sessions that ended
        self.refused = 0
        self.log = []
        self.interrupted = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.interrupted.set())

    # Starting

    def start_servers(self):
        for n, name in enumerate(SERVERS):
            command = [self.folder / "poise-load", "serve"]
            for protocol in PROTOCOLS:
                command += [
                    "--protocol",
                    protocol,
                    "--listen",
                    f"127.0.0.{11 + n}:0",
                    "--name",
                    name,
                ]
            if self.once:  # a ledger grows for as long as mail comes
                command += ["--ledger", self.directory / f"{name}.received"]
            command += ["--json", self.directory / f"{name}.json"]
            server = Child(name, command, stdout=subprocess.PIPE)
            self.servers.append(server)
            for _ in PROTOCOLS:
                words = server.process.stdout.readline().split()
                if not words or words[0] != "ready":
                    raise Trouble(f"mail server {name} did not start (its words are above)")
                self.backends[words[3]].append(words[1])
            say(name, "  ".join(f"{p} {self.backends[p][n]}" for p in PROTOCOLS))

    def start_poised(self):
        config = {
            "version": 1,
            "hostname": "mail.example.org",
            "admin": {
                "socket": str(self.directory / "poised.sock"),
                "http": f"127.0.0.1:{free_port(STATUS_PORT)}",
            },
            "services": [
                {
                    "name": p,
                    "listen": [f"127.0.0.1:{free_port(PORTS[p])}"],
                    "protocol": p,
                    "pool": p,
                }
                for p in PROTOCOLS
            ],
            "pools": [
                {
                    "name": p,
                    "backends": [
                        {"name": name, "address": address}
                        for name, address in zip(SERVERS, self.backends[p])
                    ],
                }
                for p in PROTOCOLS
            ],
        }
        path = self.directory / "poise.json"
        path.write_text(json.dumps(config, indent=2) + "\n")
        self.poised = Child(
            "poised",
            [self.folder / "poised", "-c", path],
            stderr=subprocess.PIPE,
            env={**os.environ, "STATE_DIRECTORY": str(self.directory)},
        )
        ready = threading.Event()
        self.reader = threading.Thread(target=self.read_log, args=(ready,), daemon=True)
        self.reader.start()
        ready.wait(20)
        if not self.poised.running() or not ready.is_set() or len(self.listeners) < len(PROTOCOLS):
            raise Trouble("poised did not start:\n" + "\n".join(self.log[-20:]))
        say(
            "poised",
            "  ".join(f"{p} {self.listeners[p]}" for p in PROTOCOLS) + f"  (config {path})",
        )

    def read_log(self, ready):
        """Counts the session lines, keeps the others."""
        for line in self.poised.process.stderr:
            match = _SESSION.search(line)
            if match:
                service, backend, reason = match.groups()
                self.counts[service, backend] += 1
                self.refused += reason == "refused"
                continue
            self.log = self.log[-100:] + [line.rstrip()]
            listening = re.search(r" listening service=(\S+) address=(\S+)", line)
            if listening:
                self.listeners[listening[1]] = listening[2]
            page = re.search(r" info http address=(\S+)", line)
            if page:
                self.status_page = f"http://{page[1]}/"
            if re.search(r" info ready\b", line):
                ready.set()
        ready.set()

    def start_load(self):
        for protocol in PROTOCOLS:
            command = [self.folder / "poise-load", "run", "--protocol", protocol]
            command += ["--target", self.listeners[protocol]]
            command += ["--json", self.directory / f"{protocol}.json"]
            if self.once and protocol == "smtp":
                command += ["--ledger", self.directory / "sent"]
                command += ["--clients", "16"]  # as fast as it goes
            else:
                command += ["--rate", f"{RATES[protocol]}/s"]
            command += ["--duration", f"{ONCE_SECONDS}s" if self.once else FOREVER]
            output = open(self.directory / f"{protocol}.log", "w", encoding="utf-8")
            self.loads[protocol] = Child(
                f"poise-load run ({protocol})", command, stdout=output, stderr=subprocess.STDOUT
            )
        say("load", "SMTP sessions of one 4 KiB message, IMAP and POP3 logins that fetch")

    # Watching

    def watch(self):
        if not self.once:
            say("try", f"point a mail program at {self.listeners['smtp']} from another terminal")
            say("look", f"at {self.status_page} or poisectl -s {self.directory}/poised.sock top")
            say("end", "Ctrl-C")
        print()
        display = Display(self)
        start = time.monotonic()
        while not self.interrupted.wait(0.5 if sys.stdout.isatty() else 2):
            display.show(time.monotonic() - start)
            if not self.poised.running():
                raise Trouble("poised ended by itself:\n" + "\n".join(self.log[-20:]))
            if not any(load.running() for load in self.loads.values()):
                break
        display.show(time.monotonic() - start)
        print()

    # Judging

    def finish(self):
        faults = []
        for load in self.loads.values():
            code = load.stop(signal.SIGINT, within=60)
            if code != 0:
                faults.append(f"{load.name} ended with {code}")
        code = self.poised.stop(within=60)
        self.reader.join(5)
        if code != 0:
            faults.append(f"poised ended with {code}:\n" + "\n".join(self.log[-20:]))
        served = []
        for server in self.servers:
            code = server.stop()
            if code == 0:
                served += self.result(server.name)["servers"]
            else:
                faults.append(f"mail server {server.name} ended with {code}")

        clients = {p: self.result(p) for p in PROTOCOLS}
        errors = sum(c["connection_errors"] for c in clients.values())
        sessions = sum(c["sessions"]["ok"] + c["sessions"]["failed"] for c in clients.values())
        taken = {(p, name): self.counts[p, name] for p in PROTOCOLS for name in SERVERS}
        for server in served:
            name, protocol, number = server["name"], server["protocol"], server["sessions"]
            # Besides clients, poised's own probes come, every ten seconds and when in doubt every two.
            probes = number - taken[protocol, name]
            if not 0 <= probes <= 2 + (time.monotonic() - BEGAN) / 2:
                faults.append(
                    f"poised logged {taken[protocol, name]} {protocol} sessions on {name}, which had {number}"
                )

        print("sessions per server")
        print(f"  {'':<8}" + "".join(f"{name:>10}" for name in [*SERVERS, "total"]))
        for protocol in PROTOCOLS:
            row = [taken[protocol, name] for name in SERVERS]
            print(f"  {protocol.upper():<8}" + "".join(f"{n:>10}" for n in [*row, sum(row)]))
            if max(row) - min(row) > max(3, sum(row) // 50):
                faults.append(f"{protocol} was not spread evenly")
        print()
        print(f"submits/s           {clients['smtp']['submits_per_second']:.1f}")
        print(f"connection errors   {errors} of {sessions} sessions")
        received = sum(server["messages"] for server in served)
        print(
            f"messages            {clients['smtp']['submits']} accepted, {received} received",
            end="",
        )
        print(self.compare_ledgers(faults) if self.once else "")
        print()

        if errors:
            faults.append(f"{errors} connection errors")
        for protocol in PROTOCOLS:
            if clients[protocol]["sessions"]["failed"]:
                faults.append(
                    f"{clients[protocol]['sessions']['failed']} {protocol} sessions failed"
                )
            if not clients[protocol]["sessions"]["ok"]:
                faults.append(f"no {protocol} session came through")
        return faults

    def compare_ledgers(self, faults):
        """What clients were told is accepted against what servers wrote down, message by message."""
        command = [self.folder / "poise-load", "ledger", "--sent", self.directory / "sent"]
        for name in SERVERS:
            command += ["--received", self.directory / f"{name}.received"]
        ledger = subprocess.run(command, capture_output=True, text=True, check=False)
        if ledger.returncode != 0:
            faults.append("messages were lost or came twice:\n" + ledger.stdout + ledger.stderr)
        words = [line.split() for line in ledger.stdout.splitlines()]
        count = {word[0]: word[1] for word in words if len(word) == 2}
        return f", {count.get('lost', '?')} lost, {count.get('duplicated', '?')} twice"

    def result(self, name):
        try:
            return json.loads((self.directory / f"{name}.json").read_text())
        except (OSError, ValueError) as error:
            log = self.directory / f"{name}.log"
            words = log.read_text() if log.exists() else ""
            raise Trouble(f"no result of {name}: {error}\n{words}") from None

    def clean_up(self):
        for child in [*self.loads.values(), self.poised, *self.servers]:
            if child and child.running():
                child.process.kill()
                child.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Display:
    """The counts so far: redrawn in place on a terminal, a line at a time elsewhere."""

    def __init__(self, demo):
        self._demo = demo
        self._lines = 0
        self._before = (0.0, 0)
        self._per_second = 0.0

    def show(self, elapsed):
        counts = self._demo.counts.copy()
        total = sum(counts.values())
        then, before = self._before
        if elapsed - then >= 0.4:
            self._per_second = (total - before) / (elapsed - then)
            self._before = (elapsed, total)
        if not sys.stdout.isatty():
            spread = "  ".join(f"{s} {sum(counts[p, s] for p in PROTOCOLS)}" for s in SERVERS)
            print(
                f"{elapsed:6.0f} s  {self._per_second:7.0f} sessions/s  {spread}  "
                f"refused {self._demo.refused}",
                flush=True,
            )
            return
        widest = max(1, *(sum(counts[p, s] for p in PROTOCOLS) for s in SERVERS))
        lines = [
            f"{elapsed:6.0f} s   {self._per_second:.0f} sessions/s   refused {self._demo.refused}",
            "",
        ]
        lines.append(f"  {'sessions':<9}" + "".join(f"{p.upper():>10}" for p in PROTOCOLS))
        for server in SERVERS:
            row = [counts[p, server] for p in PROTOCOLS]
            bar = "#" * round(36 * sum(row) / widest)
            lines.append(f"  {server:<9}" + "".join(f"{n:>10}" for n in row) + f"  {bar}")
        up = f"\x1b[{self._lines}A" if self._lines else ""
        print(up + "".join(f"\x1b[K{line}\n" for line in lines), end="", flush=True)
        self._lines = len(lines)


def free_port(wanted):
    """`wanted`, or 0 (the kernel's choice) when somebody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


def main():
    demo = Demo(sys.argv[1], once="--once" in sys.argv[2:])
    try:
        demo.start_servers()
        demo.start_poised()
        demo.start_load()
        demo.watch()
        faults = demo.finish()
    except Trouble as trouble:
        faults = [str(trouble)]
    finally:
        demo.clean_up()
    for fault in faults:
        print(f"demo: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
