"""Alert rules, dashboard, systemd unit, sysctl file: judged by the programs that read them."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ["POISE_SOURCE_DIR"])
PACKAGING = ROOT / "packaging"
ALERTS = PACKAGING / "prometheus/alerts.yml"
UNIT = PACKAGING / "systemd/poised.service"

# alert: ({series: promtool's values, a minute apart}, fires at this minute)
FIRING = {
    "PoiseDown": ({'up{job="poise"}': "1 0x5"}, 4),
    "PoisePoolWithoutBackend": ({'poise_backend_up{pool="a",backend="x"}': "1 0x5"}, 4),
    "PoisePoolBelowHalf": (
        {
            'poise_backend_up{pool="a",backend="x"}': "1x15",
            'poise_backend_up{pool="a",backend="y"}': "0x15",
            'poise_backend_up{pool="a",backend="z"}': "0x15",
        },
        10,
    ),
    "PoiseClientsRefused": ({'poise_refusals_total{service="a",reason="no_backend"}': "0+60x15"}, 10),
    "PoiseManyRetries": (
        {
            'poise_retries_total{service="a",backend="x",reason="refused"}': "0+10x30",
            'poise_sessions_total{service="a",backend="x",close_reason="client_closed"}': "0+100x30",
        },
        25,
    ),
    "PoiseBackendFull": (
        {'poise_retries_total{service="a",backend="x",reason="busy"}': "0+60x15"},
        12,
    ),
    "PoiseLimitNear": ({'poise_limit_used_ratio{limit="process"}': "0.81x10"}, 5),
    "PoiseShedding": ({"poise_sessions_shed_total": "0 0 5 9 9"}, 4),
    "PoiseDrainedForADay": (
        {'poise_backend_state{pool="a",backend="x",state="draining"}': "1x1500"},
        1450,
    ),
    "PoiseReloadFailed": ({"poise_config_reload_successful": "1 0x5"}, 3),
    "PoiseRestarted": ({"poise_start_time_seconds": "10 100 200 300"}, 3),
    "PoiseLogDropped": ({"poise_log_dropped_total": "0+9x15"}, 12),
    "PoiseConfigNotLoaded": (
        {
            "poise_config_file_timestamp_seconds": "100x60",
            "poise_config_reload_success_timestamp_seconds": "99x60",
        },
        40,
    ),
    "PoiseProbeSuspect": ({'poise_probe_suspect{pool="a"}': "1x10"}, 7),
    "PoiseProbeCredentialsRefused": ({'poise_probe_login_refused{pool="a"}': "1x5"}, 3),
    "PoiseCertificateExpires": (
        {'poise_certificate_not_after_timestamp_seconds{pool="a",backend="x"}': "1209000x5"},
        3,
    ),
    "PoiseCertificateMismatch": (
        {
            'poise_certificate_not_after_timestamp_seconds{pool="a",backend="x"}': "9000000x90",
            'poise_certificate_not_after_timestamp_seconds{pool="a",backend="y"}': "1900000x90",
        },
        75,
    ),
    "PoiseQueueWait": (
        {
            'poise_queue_wait_seconds_bucket{pool="a",le="10"}': "0x20",
            'poise_queue_wait_seconds_bucket{pool="a",le="30"}': "0+9x20",
            'poise_queue_wait_seconds_bucket{pool="a",le="+Inf"}': "0+9x20",
        },
        15,
    ),
    "PoisePeerLost": ({"poise_pair_in_sync": "0x5"}, 4),
    "PoiseNoMaster": (
        {
            'poise_vrrp_state{exported_instance="v",instance="lb1",state="master"}': "0x5",
            'poise_vrrp_state{exported_instance="v",instance="lb2",state="master"}': "0x5",
        },
        3,
    ),
    "PoiseTwoMasters": (
        {
            'poise_vrrp_state{exported_instance="v",instance="lb1",state="master"}': "1x5",
            'poise_vrrp_state{exported_instance="v",instance="lb2",state="master"}': "1x5",
        },
        3,
    ),
}

# A day on which nothing is wrong, just this side of every threshold: no alert may fire.
QUIET = {
    'up{job="poise"}': "1x1500",
    'poise_backend_up{pool="a",backend="x"}': "1x1500",
    'poise_backend_up{pool="a",backend="y"}': "0x1500",
    'poise_backend_state{pool="a",backend="y",state="draining"}': "1x1400 0x100",
    'poise_refusals_total{service="a",reason="denied"}': "0+600x1500",
    'poise_refusals_total{service="a",reason="queue_full"}': "0+2x1500",
    'poise_retries_total{service="a",backend="x",reason="busy"}': "0+4x1500",
    'poise_sessions_total{service="a",backend="x",close_reason="client_closed"}': "0+100x1500",
    'poise_limit_used_ratio{limit="process"}': "0.79x1500",
    "poise_sessions_shed_total": "3x1500",
    "poise_config_reload_successful": "1x1500",
    "poise_start_time_seconds": "10x700 50x800",
    "poise_log_dropped_total": "7x1500",
    "poise_config_file_timestamp_seconds": "100x1500",
    "poise_config_reload_success_timestamp_seconds": "101x700 99x20 101x780",
    'poise_probe_suspect{pool="a"}': "0x700 1x4 0x796",
    'poise_probe_login_refused{pool="a"}': "0x1500",
    'poise_certificate_not_after_timestamp_seconds{pool="a",backend="x"}': "9000000x1500",
    'poise_certificate_not_after_timestamp_seconds{pool="a",backend="y"}': "9080000x1500",
    'poise_queue_wait_seconds_bucket{pool="a",le="10"}': "0+9x1500",
    'poise_queue_wait_seconds_bucket{pool="a",le="+Inf"}': "0+9x1500",
    "poise_pair_in_sync": "1x1500",
    'poise_vrrp_state{exported_instance="v",instance="lb1",state="master"}': "1x1500",
    'poise_vrrp_state{exported_instance="v",instance="lb2",state="master"}': "0x1500",
}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def catalog():
    text = (ROOT / "src/metrics/catalog.h").read_text()
    return set(re.findall(r'\{"((?:poise|process)_\w+)"', text))


def metrics_in(expressions):
    names = re.findall(r"\b((?:poise|process)_\w+)", expressions)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


class Alerts(unittest.TestCase):
    def promtool(self, tests):
        """promtool test rules; JSON is YAML too."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "test.yml")
            path.write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": tests}))
            code, said = run("promtool", "test", "rules", str(path))
        self.assertEqual(code, 0, said)

    @staticmethod
    def case(series, minute, alert, firing):
        expression = f'count(ALERTS{{alertname=~"{alert}",alertstate="firing"}}) > bool 0'
        return {
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "promql_expr_test": [
                {
                    "expr": expression,
                    "eval_time": f"{minute}m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if firing else [],
                }
            ],
        }

    def test_each_alert_fires(self):
        names = re.findall(r"- alert: (\w+)", ALERTS.read_text())
        self.assertEqual(sorted(names), sorted(FIRING), "an alert without a test")
        for name, (series, minute) in FIRING.items():
            with self.subTest(name):
                self.promtool([self.case(series, minute, name, True)])

    def test_a_good_day_is_quiet(self):
        minutes = (5, 20, 60, 720, 1390, 1490)
        self.promtool([self.case(QUIET, minute, ".+", False) for minute in minutes])

    def test_each_alert_says_what_to_do(self):
        code, said = run("promtool", "check", "rules", str(ALERTS))
        self.assertEqual(code, 0, said)
        for block in ALERTS.read_text().split("- alert: ")[1:]:
            with self.subTest(block.split("\n")[0]):
                for part in ("summary", "action"):
                    self.assertRegex(block, rf'\n +{part}: "[^"].{{30,}}"')
                self.assertRegex(block, r"severity: (page|ticket)")

    def test_names_are_those_of_the_catalog(self):
        expressions = re.sub(r"(summary|action): .*", "", ALERTS.read_text())
        self.assertEqual(metrics_in(expressions) - catalog(), set())


class Dashboard(unittest.TestCase):
    def setUp(self):
        self.board = json.loads((PACKAGING / "grafana/poise.json").read_text())
        self.panels = [p for p in self.board["panels"] if p["type"] != "row"]

    def test_names_are_those_of_the_catalog(self):
        names = metrics_in(json.dumps([p["targets"] for p in self.panels]))
        self.assertGreater(len(names), 15)
        self.assertEqual(names - catalog(), set())

    def test_expressions_parse(self):
        """As recording rules: promtool reads PromQL nowhere else."""
        rules = []
        for panel in self.panels:
            for target in panel["targets"]:
                expression = target["expr"].replace("$__rate_interval", "5m")
                rules.append({"record": "a:b", "expr": re.sub(r"\$\w+", "x", expression),
                              "labels": {"n": str(len(rules))}})
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
            file.flush()
            code, said = run("promtool", "check", "rules", file.name)
        self.assertEqual(code, 0, said)

    def test_panels_do_not_overlap(self):
        taken = {}
        for panel in self.board["panels"]:
            place = panel["gridPos"]
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} on {taken.get((x, y))}")
                    taken[x, y] = panel["title"]
                    self.assertLess(x, 24)
        self.assertEqual(len({p["id"] for p in self.board["panels"]}), len(self.board["panels"]))


class Unit(unittest.TestCase):
    # systemd 252's score; what keeps it from 0 is explained in the unit.
    EXPOSURE_MAX = 1.6

    def setUp(self):
        """A root where the programs are where the package puts them."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.unit = pathlib.Path(folder.name, UNIT.name)
        text = UNIT.read_text()
        for program in ("/usr/sbin/poised", "/usr/bin/poisectl"):
            self.assertIn(f"={program}", text)
            text = text.replace(f"={program}", "=/bin/true")
        self.unit.write_text(text)

    def test_verify(self):
        code, said = run("systemd-analyze", "verify", "--man=no", str(self.unit))
        self.assertEqual((code, [s for s in said.splitlines() if self.unit.name in s]), (0, []), said)

    def test_exposure(self):
        code, said = run("systemd-analyze", "security", "--offline=true", "--no-pager",
                         f"--threshold={round(self.EXPOSURE_MAX * 10)}", str(self.unit))
        print(said.splitlines()[-1])
        self.assertEqual(code, 0, said)

    def test_each_exception_is_explained(self):
        """What systemd-analyze holds against the unit with a weight that matters stands in its comments."""
        _, said = run("systemd-analyze", "security", "--offline=true", "--no-pager", str(self.unit))
        comments = "\n".join(l for l in UNIT.read_text().splitlines() if l.startswith("#"))
        for line in said.splitlines():
            match = re.match(r"✗ (\w+)=.* \d\.\d\s*$", line)
            if match:
                self.assertIn(match[1], comments, f"the unit doesn't explain: {line}")


class OtherFiles(unittest.TestCase):
    def test_each_sysctl_exists_and_is_explained(self):
        above = ""
        seen = 0
        for line in (PACKAGING / "sysctl/60-poise.conf").read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                key = line.split("=")[0].strip()
                self.assertTrue(pathlib.Path("/proc/sys", key.replace(".", "/")).exists(), key)
                self.assertTrue(above.startswith("#"), f"{key} has no reason")
                seen += 1
            above = line
        self.assertGreaterEqual(seen, 6)


if __name__ == "__main__":
    unittest.main()
