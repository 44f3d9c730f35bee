"""A real Prometheus scrapes poised, loads its alert rules and answers questions with the right numbers."""

import contextlib
import json
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

import ctl
import netns
import processes
from ctl import Ctl
from poised import ROOT, Poised, balanced
from smtp_server import SmtpServer

_START_S = 90  # it writes its first blocks to a busy disk


def setUpModule():
    netns.enter()


class Prometheus:
    """Debian's prometheus in the foreground, in a folder of its own, for the length of a with block."""

    def __init__(self, target):
        self._target = target

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="poise-prometheus-")))
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._address = "127.0.0.1:%d" % free.getsockname()[1]
            rules = sorted((ROOT / "packaging/prometheus").glob("*.yml"))
            settings = {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(path) for path in rules],
                "scrape_configs": [{"job_name": "poise", "static_configs": [{"targets": [self._target]}]}],
            }
            path = folder / "prometheus.yml"
            path.write_text(json.dumps(settings))  # JSON is YAML
            self.log = open(folder / "log", "w+", encoding="utf-8")
            stack.callback(self.log.close)
            process = processes.start(
                ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address={self._address}"],
                stdout=self.log, stderr=self.log,
            )  # fmt: skip
            stack.callback(processes.stop, process, grace=20)
            processes.wait_until(lambda: self._ready() or process.poll() is not None, within=_START_S, what="ready")
            if process.poll() is not None:
                self.log.seek(0)
                raise AssertionError(self.log.read()[-3000:])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _ready(self):
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5).status == 200

    def get(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]

    def value(self, expression):
        """Of an instant query with one answer; None when there is none."""
        result = self.get("query", query=expression)["result"]
        return float(result[0]["value"][1]) if result else None


class Scraped(unittest.TestCase):
    def test_queries_are_answered_with_what_happened(self):
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(SmtpServer()) for _ in range(2)]
            control = stack.enter_context(Ctl())
            config = balanced({"smtp": ("smtp", [s.endpoint for s in servers])}, workers=2, admin=control.admin())
            poised = stack.enter_context(Poised(config))
            prometheus = stack.enter_context(Prometheus(ctl.http_address(poised)))
            for _ in range(12):
                with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                    client.settimeout(10)
                    self.assertTrue(client.recv(4096).startswith(b"220"))
                    client.sendall(b"QUIT\r\n")
                    while client.recv(4096):
                        pass
            poised.sessions(at_least=12)
            control.done("drain", "smtp/be2")

            def asked(expression, expected):
                processes.wait_until(
                    lambda: prometheus.value(expression) == expected, within=60,
                    what=f"{expression} = {expected}; now {prometheus.value(expression)}",
                )  # fmt: skip

            asked('sum(poise_sessions_total{service="smtp"})', 12)
            asked('sum by (backend) (poise_sessions_total{backend="be1"})', 6)
            asked('count(poise_backend_up == 1)', 2)
            asked('poise_backend_state{backend="be2",state="disabled"}', 1)
            asked('sum(poise_session_duration_seconds_count)', 12)
            asked('up{job="poise"}', 1)
            counted = prometheus.value('histogram_quantile(0.5, sum by (le) (poise_connect_duration_seconds_bucket))')
            self.assertLess(counted, 1)
            # Each series carries the type and the help that poised gave it.
            described = prometheus.get("metadata", metric="poise_sessions_total")["poise_sessions_total"][0]
            self.assertEqual("counter", described["type"])
            groups = prometheus.get("rules")["groups"]
            self.assertGreater(sum(len(group["rules"]) for group in groups), 0)
            for group in groups:
                for rule in group["rules"]:
                    self.assertEqual("", rule.get("lastError", ""), rule["name"])
            # A daemon that is gone is seen, and one that is back counts from its own start.
            poised.stop()
            asked('up{job="poise"}', 0)
            time.sleep(0.1)


if __name__ == "__main__":
    unittest.main()
