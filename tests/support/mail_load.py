"""poise-load in a test: servers and clients whose ledgers must agree.

    with LoadServer("smtp", faults=["silence"]) as bad, LoadServer("smtp") as good:
        report = run("smtp", endpoint, rate=300, duration=3, ledger=sent)
    compare(sent, [bad, good])["lost"]
"""

import json
import pathlib
import signal
import subprocess
import tempfile

import addresses
import poised
import processes

_PROGRAM = str(poised.BIN / "poise-load")


class LoadServer:
    """One `poise-load serve` on an address of its own; its ledger outlives its deaths."""

    def __init__(self, protocol="smtp", *, name="be", faults=(), arguments=()):
        address = addresses.own_address()
        self.endpoint = address, addresses.free_port(address)
        self.name = name
        self._directory = tempfile.TemporaryDirectory(prefix="poise-load-")
        self.ledger = pathlib.Path(self._directory.name, "received")
        self.ledger.touch()
        self._command = [_PROGRAM, "serve", "--protocol", protocol, "--name", name]
        self._command += ["--listen", poised.endpoint_text(self.endpoint)]
        self._command += ["--ledger", str(self.ledger), *arguments]
        for fault in faults:
            self._command += ["--fault", fault]
        self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()
        self._directory.cleanup()

    def start(self):
        self._process = processes.start(self._command, stdout=subprocess.PIPE, text=True)
        if not self._process.stdout.readline().startswith("ready"):
            raise RuntimeError(f"server {self.name} did not start")

    def turn(self, *faults):
        """From now on it has these."""
        self.kill()
        for fault in faults:
            self._command += ["--fault", fault]
        self.start()

    def kill(self):
        """Dies as a crash would."""
        if self._process:
            processes.kill_group(self._process)
            self._process.stdout.close()
            self._process = None

    def freeze(self):
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)


def run(protocol, endpoint, *arguments, ledger=None, patience=20, timeout=60, **amount):
    """The report of `poise-load run`. `amount`: rate, duration (s), sessions, clients, as its options. `patience`: s
    for a greeting."""
    command = [_PROGRAM, "run", "--protocol", protocol, "--json", "-"]
    command += ["--target", poised.endpoint_text(endpoint), "--greeting-timeout", f"{patience}s"]
    for name, value in amount.items():
        command += [f"--{name}", f"{value}s" if name == "duration" else str(value)]
    command += arguments
    if ledger:
        command += ["--ledger", str(ledger)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if done.returncode not in (0, 1):  # 1: sessions failed
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def failures(report):
    """{kind: how many} of a run's sessions that failed."""
    return {kind: count for kind, count in report["failures"].items() if count}


def compare(sent, servers):
    """What `poise-load ledger` says: accepted, received, lost, duplicated."""
    command = [_PROGRAM, "ledger", "--json", "-", "--sent", str(sent)]
    for server in servers:
        command += ["--received", str(server.ledger)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode not in (0, 1):  # 1: they disagree
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout[done.stdout.index("{") :])
