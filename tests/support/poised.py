"""poised under test: started with a config given as a dict, its log lines as dicts, its end judged."""

import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import tempfile
import threading
import time

import processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("POISE_BIN_DIR", ROOT / "build/bin"))

# How much of a test's full size to run: sanitizer builds are five to fifteen times slower.
SCALE = float(os.environ.get("POISE_TEST_SCALE", "1"))

# A guest's processor may be emulated.
_READY_S = 120 if "POISE_GUEST" in os.environ else 30

# What a broken build prints, in any thread, and no good one ever does.
_ALARMS = re.compile(
    r"CHECK failed|ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|terminate called"
)

_FIELD = re.compile(r'(\w+)=((?:[^\s"]|"(?:[^"\\]|\\.)*")*)')
_LINE = re.compile(r"^(\S+) (debug|info|warning|error) (.*)$")


def balanced(services, *, listen="127.0.0.1:0", workers=1, service=None, pool=None, **top):
    """A config for {name: (protocol, [backend endpoints])}: every service with a pool of its own name.
    `service` and `pool` are more keys for each of them, `top` for the file. Nobody's health is looked at unless
    `pool` says so: most tests are about what clients meet."""
    config = {"version": 1, "hostname": "mx.poise.test", "workers": workers, **top}
    config["services"] = [
        {"name": name, "listen": [listen], "protocol": protocol, "pool": name, **(service or {})}
        for name, (protocol, _) in services.items()
    ]
    config["pools"] = [
        {
            "name": name,
            "probe": "off",
            "passive": "off",
            **(pool or {}),
            "backends": [
                {"name": f"be{i}", "address": endpoint_text(e)} for i, e in enumerate(backends, 1)
            ],
        }
        for name, (_, backends) in services.items()
    ]
    return config


def endpoint_text(endpoint):
    if isinstance(endpoint, str):
        return endpoint
    host, port = endpoint[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parsed(line):
    """A log line as {"time", "level", "event", "words", key: value ...}; None for what is no log line.
    `event` is the first word: ready, listening, session, ..."""
    match = _LINE.match(line)
    if not match:
        return None
    time, level, words = match.groups()
    fields = dict(_FIELD.findall(words))
    return {
        **fields,
        "time": time,
        "level": level,
        "words": words,
        "event": words.split(" ", 1)[0].rstrip(":"),
    }


def run(*arguments, config=None, timeout=30):
    """Runs poised to its end, as for --check; `config` (a dict, or the text of a file) is given with -c."""
    with tempfile.TemporaryDirectory(prefix="poise-") as directory:
        command = [str(BIN / "poised"), *arguments]
        if config is not None:
            path = pathlib.Path(directory, "poise.json")
            path.write_text(config if isinstance(config, str) else json.dumps(config))
            command += ["-c", str(path)]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )


class Poised:
    """poised for the length of a with block. At its end SIGTERM, exit code 0 and a clean log are demanded,
    unless the test stopped it itself with stop().

    nofile: RLIMIT_NOFILE of the process. wrap: a command that runs it, such as ["ip", "netns", "exec", NAME].
    state: a folder for what survives a restart.
    """

    def __init__(
        self, config, *, nofile=None, wrap=(), wait_ready=True, arguments=(), state=None
    ):
        self.config = config
        self.lines = []
        self._nofile = nofile
        self._wrap = list(wrap)
        self._wait_ready = wait_ready
        self._arguments = list(arguments)
        self._state = state
        self._changed = threading.Condition()
        self._stopped = False
        self._reading = True
        self._reloads = 0

    def __enter__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="poise-")
        try:
            # World-readable: a config may be read again after the user was changed.
            os.chmod(self._directory.name, 0o755)
            self.config_path = pathlib.Path(self._directory.name, "poise.json")
            # The usual places are taken by whatever else runs on this machine.
            self.config.setdefault("admin", {"socket": "off", "http": "off"})
            self.rewrite(self.config)
            self._launch()
        except BaseException:
            self._cleanup()
            raise
        return self

    def _launch(self):
        environment = dict(os.environ)
        # Operators' decisions of one test are no other's.
        environment.setdefault("STATE_DIRECTORY", self._state or self._directory.name)
        environment.setdefault("ASAN_OPTIONS", "exitcode=99:detect_leaks=1")
        environment.setdefault("TSAN_OPTIONS", "exitcode=99:second_deadlock_stack=1")
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        self.process = processes.start(
            [*self._wrap, str(BIN / "poised"), *self._arguments, "-c", str(self.config_path)],
            preexec_fn=self._limit if self._nofile else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if self._wait_ready:
            self.wait_for_event("ready", within=_READY_S)

    def start_again(self):
        """After its end: the same command and the files as they are now; a log of its own."""
        processes.kill_group(self.process)
        self._reader.join(5)
        self.process.stderr.close()
        self.lines, self._stopped, self._reading = [], False, True
        self._launch()

    def __exit__(self, kind, *_):
        try:
            if kind is None and not self._stopped:
                code = self.stop()
                if code != 0:
                    raise AssertionError(f"poised exited with {code}:\n{self.tail()}")
        finally:
            self._cleanup()
        if kind is None:
            self.assert_clean()

    def _limit(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._nofile, self._nofile))

    def _read(self):
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._reading = False
            self._changed.notify_all()

    def _cleanup(self):
        if hasattr(self, "process"):
            processes.kill_group(self.process)
            self._reader.join(5)
            self.process.stderr.close()
        self._directory.cleanup()

    # Its log

    def wait_for(self, matches, *, within=10.0, what="a log line"):
        """The first line, already there or to come, for which matches(line) is true."""
        end = time.monotonic() + within
        seen = 0
        with self._changed:
            while True:
                for seen in range(seen, len(self.lines)):
                    if matches(self.lines[seen]):
                        return self.lines[seen]
                seen = len(self.lines)
                if not self._reading or not self._changed.wait(end - time.monotonic()):
                    break
        how = f"within {within:g} s" if self._reading else "before it ended"
        raise AssertionError(f"poised did not log {what} {how}:\n{self.tail()}")

    def wait_for_event(self, event, *, within=10.0):
        return parsed(
            self.wait_for(
                lambda line: (parsed(line) or {}).get("event") == event,
                within=within,
                what=f"'{event}'",
            )
        )

    def wait_for_text(self, text, *, within=10.0):
        return self.wait_for(lambda line: text in line, within=within, what=repr(text))

    def events(self, event):
        with self._changed:
            lines = list(self.lines)
        found = (parsed(line) for line in lines)
        return [fields for fields in found if fields and fields["event"] == event]

    def sessions(self, *, at_least=0, within=10.0):
        """The session lines so far, as dicts; waits until there are `at_least` so many."""
        processes.wait_until(
            lambda: len(self.events("session")) >= at_least,
            within=within,
            what=f"{at_least} session lines",
        )
        return self.events("session")

    def tail(self, count=30):
        with self._changed:
            return "\n".join(self.lines[-count:])

    def assert_clean(self):
        with self._changed:
            alarms = [i for i, line in enumerate(self.lines) if _ALARMS.search(line)]
            if alarms:
                raise AssertionError(
                    "poised raised an alarm:\n" + "\n".join(self.lines[alarms[0] :][:60])
                )

    # Reaching and stopping it

    @property
    def pid(self):
        return self.process.pid

    def endpoint(self, service):
        """(host, port) of the service's first listener; port 0 in the config is resolved from the log."""
        for fields in self.events("listening"):
            if fields.get("service") == service:
                host, _, port = fields["address"].rpartition(":")
                return host.strip("[]"), int(port)
        raise AssertionError(f"poised logged no listener of service {service}:\n{self.tail()}")

    def rewrite(self, config):
        """Writes the configuration file anew: a dict, or a text."""
        text = config if isinstance(config, str) else json.dumps(config, indent=1)
        self.config_path.write_text(text)

    def reload(self, config=None, *, within=20.0):
        """SIGHUP, after rewrite(config) if given; the words of the log line that says how it ended."""
        if config is not None:
            self.rewrite(config)
        self.signal(signal.SIGHUP)

        def ended():
            lines = [*self.events("reload"), *self.events("reload_failed")]
            over = [f for f in lines if f["words"].startswith(("reload /", "reload_failed /"))]
            return [f["words"] for f in sorted(over, key=lambda f: f["time"])][self._reloads :]

        words = processes.wait_until(ended, within=within, what="the end of the reload")
        self._reloads += 1
        return words[0]

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, *, within=40.0):
        """SIGTERM, then its exit code."""
        self._stopped = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(within=within)

    def wait(self, *, within=40.0):
        self._stopped = True
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"poised did not end within {within:g} s:\n{self.tail()}"
            ) from None
        self._reader.join(5)
        return code
