#!/usr/bin/env python3
"""`poisectl pair push` when something goes wrong after both boxes have found the file good: both use it, or neither."""

import os
import signal
import subprocess
import unittest
import unittest.mock

import processes
from pair_lab import Lab

# Signals itself when it first replaces its configuration: $PUSH_SIGNAL, just before or after ($PUSH_WHEN).
_AT_THE_RENAME = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
int rename(const char *from, const char *to) {
  static int (*real)(const char *, const char *);
  if (!real) real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
  static int before;
  const char *name = strrchr(to, '/');
  int it = name && !strcmp(name, "/poise.json") && strstr(from, ".pushed") && !before++;
  if (it && !strcmp(getenv("PUSH_WHEN"), "before")) raise(atoi(getenv("PUSH_SIGNAL")));
  int done = real(from, to);
  if (it && !strcmp(getenv("PUSH_WHEN"), "after")) raise(atoi(getenv("PUSH_SIGNAL")));
  return done;
}
"""


def edit(config):
    config["pools"][0]["backends"][0]["weight"] = 3


class Push(unittest.TestCase):
    def setUp(self):
        self.lab = self.enterContext(Lab(protocol="imap", edit=edit))
        self.one = self.enterContext(self.lab.box("lb1"))

    def start_peer(self, **environment):
        with unittest.mock.patch.dict(os.environ, environment):
            self.two = self.enterContext(self.lab.box("lb2"))
        self.synced()
        self.before = self.two.config_path.read_text()
        self.two.config_path.chmod(0o640)

    def synced(self):
        processes.wait_until(lambda: self.one.in_sync() and self.two.in_sync(), within=30, what="in sync")

    def weights(self):
        return [box.backend("mx1")["weight"] for box in (self.one, self.two)]

    def push(self, change):
        """The words in which it is refused."""
        config = self.lab.config()
        config["pools"][0]["backends"][0]["weight"] = 5
        change(config)
        self.one.rewrite(config)
        self.pushed = self.one.config_path.read_text()
        said = self.one.ctl("pair", "push")
        self.assertEqual((said.returncode, said.stdout), (1, ""))
        return said.stderr

    def neither(self):
        """Both run what they ran, the peer has its file, and can be pushed to again."""
        self.assertEqual(self.weights(), [3, 3])
        self.assertEqual(self.two.config_path.read_text(), self.before)
        self.assertEqual(self.two.config_path.stat().st_mode & 0o777, 0o640, "readable by whom it was")
        self.assertEqual(self.one.config_path.read_text(), self.pushed, "it is the operator's")
        folder = self.two.config_path.parent
        self.assertFalse((folder / "poise.json.before-push").exists())
        self.synced()
        self.push_well()

    def push_well(self):
        config = self.lab.config()
        config["pools"][0]["backends"][0]["weight"] = 7
        self.one.rewrite(config)
        self.assertIn("runs on both boxes", self.one.done("pair", "push"))
        self.assertEqual(self.weights(), [7, 7])
        self.assertEqual(self.two.config_path.read_text(), self.one.config_path.read_text())
        self.assertFalse((self.two.config_path.parent / "poise.json.before-push").exists())

    def with_password_of(self, *names):
        """A login whose password only these boxes have; that it can be read is found out when the file is applied."""
        def change(config):
            login = {"user": "probe", "password_file": "${run}/password"}
            config["pools"][0]["probe"]["deep"] = {"login": login}
        for name in names:
            (self.lab.folder / f"run-{name}" / "password").write_text("secret\n")
        return change

    def test_peer_cannot_apply(self):
        self.start_peer()
        said = self.push(self.with_password_of("lb1"))
        self.assertRegex(said, r"nothing changed on either box: lb2: .*run-lb2/password")
        self.neither()

    def test_first_cannot_apply(self):
        """The peer runs it already, and goes back."""
        self.start_peer()
        said = self.push(self.with_password_of("lb2"))
        self.assertRegex(said, r"nothing changed on either box: lb1: .*run-lb1/password")
        for words in ("(pair push) by lb1", "(pair push taken back) by lb1"):
            self.two.wait_for_text(words)
        self.neither()

    def test_peer_cannot_write(self):
        self.start_peer()
        (self.two.config_path.parent / "poise.json.before-push.new").mkdir()
        said = self.push(lambda config: None)
        self.assertRegex(said, r"nothing changed on either box: lb2: .*before-push: cannot be written")
        (self.two.config_path.parent / "poise.json.before-push.new").rmdir()
        self.neither()

    def signalled(self, when, number):
        """The peer gets the signal in the very moment in which it replaces its file."""
        source, library = self.lab.folder / "rename.c", self.lab.folder / "rename.so"
        source.write_text(_AT_THE_RENAME)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True, timeout=60)
        self.start_peer(LD_PRELOAD=str(library), PUSH_WHEN=when, PUSH_SIGNAL=str(int(number)))
        said = self.push(lambda config: None)
        self.assertRegex(said, "nothing changed on either box: lb2: the link to lb2 is lost")
        self.assertEqual(self.one.backend("mx1")["weight"], 3)

    def test_peer_killed_before_it_replaces_its_file(self):
        self.signalled("before", signal.SIGKILL)
        self.two.wait()
        self.two.start_again()
        self.synced()
        self.neither()

    def test_peer_killed_after_it_replaced_its_file(self):
        """What it finds at its next start is half a push: it takes the file before, and says so."""
        self.signalled("after", signal.SIGKILL)
        self.two.wait()
        self.assertEqual(self.two.config_path.read_text(), self.pushed)
        self.two.start_again()
        self.two.wait_for_text("is the one before again")
        self.synced()
        self.neither()

    def test_peer_frozen_in_between(self):
        """It wakes up when the first has long given up, and goes on with what it was about to do."""
        self.signalled("after", signal.SIGSTOP)
        os.kill(self.two.pid, signal.SIGCONT)
        self.two.wait_for_text("pair push taken back")
        self.synced()
        self.neither()


if __name__ == "__main__":
    unittest.main()
