"""poisectl and the HTTP pages of a poised under test."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import urllib.error
import urllib.request

import poised as program


class Ctl:
    """A folder with a control socket in it; admin() goes into the config, the rest talks to it."""

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="poise-ctl-")
        os.chmod(self._directory.name, 0o755)
        self.socket = str(pathlib.Path(self._directory.name, "poised.sock"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._directory.cleanup()

    def admin(self, **more):
        return {"socket": self.socket, "http": "127.0.0.1:0", **more}

    def run(self, *arguments, timeout=30, wrap=()):
        command = [*wrap, str(program.BIN / "poisectl"), "-s", self.socket, *arguments]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )

    def json(self, *arguments):
        result = self.run("--json", *arguments)
        if result.returncode != 0:
            raise AssertionError(f"poisectl {arguments}: {result.returncode}\n{result.stderr}")
        return json.loads(result.stdout)

    def done(self, *arguments):
        result = self.run(*arguments)
        if result.returncode != 0:
            raise AssertionError(f"poisectl {arguments}: {result.returncode}\n{result.stderr}")
        return result.stdout

    def backend(self, path):
        pool, name = path.split("/")
        found = [b for b in self.json("show", "backends") if (b["pool"], b["name"]) == (pool, name)]
        return found[0]


def http_address(poised):
    return poised.events("http")[0]["address"]


def get(poised, path, method="GET"):
    """(status, headers, text)"""
    request = urllib.request.Request(f"http://{http_address(poised)}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read().decode()


_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def metrics(poised):
    """{(name, frozenset of labels): value}"""
    status, _, text = get(poised, "/metrics")
    if status != 200:
        raise AssertionError(f"/metrics: {status}")
    samples = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            name, labels, value = match.groups()
            samples[name, frozenset(_LABEL.findall(labels or ""))] = float(value)
    return samples


def value(samples, name, **labels):
    """The sum of the samples that have these labels."""
    wanted = set(labels.items())
    return sum(v for (n, have), v in samples.items() if n == name and wanted <= have)
