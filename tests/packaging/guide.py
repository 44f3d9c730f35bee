"""Every command of the operator's guide, run as it stands there.

In an overlay of this machine's root where the packages' files are where the packages put them, and in a network of its
own with the addresses of the guide. `systemctl` there is tests/packaging/systemctl, which does what the unit says.
Blocks of the guide with a note behind `sh` are not for this test: debian_package.py runs "install" and "upgrade",
nobody the others.
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
NOTES = {"", "build", "install", "upgrade", "systemd", "server-dependent", "second-box"}
SERVERS = {  # who answers where in the guide
    "smtp": [f"192.0.2.{n}:25" for n in (11, 12, 13)],
    "submission": [f"192.0.2.{n}:587" for n in (11, 12)],
    "imaps": [f"192.0.2.{n}:993" for n in (11, 12)],
}

_ENTER = """
set -e
root=$1/root; mkdir -p "$1/upper" "$1/work" "$root"
mount -t overlay poise -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"; mkdir -p "$root/run/lock"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
shift
exec chroot "$root" "$@"
"""


class Box:
    """The overlay. run(script) is bash in it, one process tree for all: what it starts goes on."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        folder = self.folder / "upper"
        for package in ("poise", "poise-load"):
            for source, place in installed_files(ROOT, package):
                source = BIN / source.rpartition("/")[2] if source.startswith("build/") else ROOT / source
                # Where / has links to /usr, a folder of its own would hide them.
                target = folder / re.sub("^/lib/", "/usr/lib/", place).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target)
                else:
                    shutil.copy(source, target)
        bin_folder = folder / "usr/local/sbin"
        bin_folder.mkdir(parents=True)
        shutil.copy(ROOT / "tests/packaging/systemctl", bin_folder)
        sysusers = (ROOT / "packaging/debian/poise.sysusers").read_text()
        (folder / "usr/lib/sysusers.d").mkdir(parents=True)
        (folder / "usr/lib/sysusers.d/poise.conf").write_text(sysusers)
        for path in [self.folder, folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)

    def __enter__(self):
        command = ["unshare", "-m", "--propagation", "private", "bash", "-c", _ENTER, "_", str(self.folder), "bash"]
        self.process = processes.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True)
        return self

    def __exit__(self, *_):
        processes.kill_group(self.process)
        self.process.stdin.close()
        self.process.stdout.close()

    def run(self, script):
        """(exit code, output)"""
        self.process.stdin.write(f"(set -e\n{script}\n) 2>&1 </dev/null; echo \"@@@ $?\"\n")
        self.process.stdin.flush()
        said = []
        for line in self.process.stdout:
            if line.startswith("@@@ "):
                return int(line.split()[1]), "".join(said)
            said.append(line)
        raise AssertionError("the box is gone:\n" + "".join(said))


class Guide(unittest.TestCase):
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
        box = Box(folder.name)
        box.__enter__()
        self.addCleanup(box.__exit__)
        self.box = box
        code, said = box.run("systemd-sysusers poise.conf && id poise")
        self.assertEqual(0, code, said)

    def test_every_command_of_the_guide(self):
        commands = 0
        self.addCleanup(self.box.run, "systemctl stop poised")
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
                    log = self.box.run("tail -n 20 /var/log/poised.log")[1] if code else ""
                    self.assertEqual(0, code, f"{command}\n{said}\n{log}")
        self.assertGreater(commands, 35)
        self.what_it_led_to()

    def what_it_led_to(self):
        """The daemon that the guide's commands have left: its own user, one capability, all up, nothing forgotten."""
        code, said = self.box.run("cat /proc/$(cat /run/poised.pid)/status")
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

    def test_a_reload_by_the_unit_checks_first(self):
        code, said = self.box.run("cat >/etc/poise/poise.json <<'END'\n" + next(
            block.text for block in blocks(GUIDE) if block.kind == "json") + "\nEND\nsystemctl enable --now poised")
        self.assertEqual(0, code, said)
        self.addCleanup(self.box.run, "systemctl stop poised")
        code, said = self.box.run("sed -i 's/least_conn/fastest/' /etc/poise/poise.json; systemctl reload poised")
        self.assertNotEqual(0, code)
        self.assertIn("fastest", said)
        _, said = self.box.run("curl -s http://127.0.0.1:9847/metrics")
        self.assertIn('poise_config_reloads_total{result="failure"} 0\n', said)  # it never came to the daemon


if __name__ == "__main__":
    unittest.main()
