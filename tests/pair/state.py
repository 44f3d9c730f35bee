#!/usr/bin/env python3
"""What the boxes of a pair tell each other, without keepalived: decisions, bans, stickiness, files; and links that
can't be."""

import json
import os
import re
import signal
import subprocess
import time
import unittest
import unittest.mock

import processes
from pair_lab import Lab


# The wall clock, an hour ahead.
_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *out) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int done = real(id, out);
  if (id == CLOCK_REALTIME) out->tv_sec += 3600;
  return done;
}
"""


class State(unittest.TestCase):
    def boxes(self, **pair):
        self.lab = self.enterContext(Lab(**pair))
        self.one = self.enterContext(self.lab.box("lb1"))
        self.two = self.enterContext(self.lab.box("lb2"))

    def synced(self):
        processes.wait_until(lambda: self.one.in_sync() and self.two.in_sync(), within=30, what="in sync")

    def agree(self, what):
        processes.wait_until(lambda: what(self.one) == what(self.two), what="both say the same")

    def test_decisions_and_bans_follow(self):
        """What either box is told holds on both; the later decision wins, also over one made while the other was away;
        what was lifted stays lifted."""
        self.boxes()
        self.synced()
        self.one.done("disable", "mx/mx1", "--reason", "kernel")
        processes.wait_until(lambda: self.two.backend("mx1")["admin"] == "disabled", what="lb2 knows")
        self.assertEqual(self.two.backend("mx1")["reason"], "kernel")
        self.two.done("enable", "mx/mx1")
        processes.wait_until(lambda: self.one.backend("mx1")["admin"] == "enabled", what="lb1 knows")
        self.two.done("weight", "mx/mx2", "7")
        processes.wait_until(lambda: self.one.backend("mx2")["weight"] == 7, what="lb1 knows the weight")
        self.one.done("ban", "add", "198.51.100.0/24", "--for", "1h", "--reason", "spam")
        processes.wait_until(lambda: self.two.json("show", "bans"), what="lb2 bans")
        self.assertEqual(self.two.json("show", "bans")[0]["network"], "198.51.100.0/24")
        self.two.done("ban", "del", "198.51.100.0/24")
        processes.wait_until(lambda: not self.one.json("show", "bans"), what="lb1 lifts the ban")
        self.one.done("ban", "add", "203.0.113.9")
        self.one.done("disable", "smtp", "--reason", "test")
        processes.wait_until(lambda: self.two.json("show", "services")[0]["admin"] == "disabled", what="the service")
        processes.wait_until(lambda: self.two.json("show", "bans"), what="lb2 bans")
        # lb1 is away; lb2 decides, is restarted, and still knows that its decisions are the later ones.
        self.one.stop()
        time.sleep(1.1)
        self.two.done("enable", "smtp")
        self.two.done("ban", "del", "203.0.113.9")
        self.two.stop()
        with self.lab.box("lb2") as two, self.lab.box("lb1") as one:
            processes.wait_until(lambda: one.in_sync() and two.in_sync(), within=30, what="in sync")
            for box in (one, two):
                self.assertEqual(box.json("show", "services")[0]["admin"], "enabled", box.name)
                self.assertEqual(box.json("show", "bans"), [], box.name)
                self.assertEqual(box.backend("mx2")["weight"], 7)

    def test_diff_and_push(self):
        """A file that both can use runs on both; one that either can't use changes neither."""
        self.boxes()
        self.synced()
        self.assertEqual(self.one.done("pair", "diff"), "no difference\n")
        config = self.lab.config()
        config["pools"][0]["backends"][0]["weight"] = 5
        self.one.rewrite(config)
        self.two.config_path.chmod(0o640)
        self.assertIn("weight: 1", self.two.done("pair", "diff"))
        self.assertIn("weight: 5", self.one.done("pair", "diff"))
        self.assertIn("runs on both boxes", self.one.done("pair", "push", "--reason", "more for mx1"))
        self.agree(lambda box: box.backend("mx1")["weight"])
        self.assertEqual(self.two.backend("mx1")["weight"], 5)
        mode = self.two.config_path.stat().st_mode & 0o777
        self.assertEqual(mode, 0o640, "it is readable by whom it was")
        self.assertEqual(self.two.done("pair", "diff"), "no difference\n")
        processes.wait_until(lambda: self.two.pair()["same_config"], what="the same file")

        # What is wrong here.
        config["pools"][0]["backends"][0]["weight"] = 500
        self.one.rewrite(config)
        refused = self.one.ctl("pair", "push")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("nothing changed on either box: lb1", refused.stderr)
        # What only the other box can't: its variable names a port that somebody has there.
        config["pools"][0]["backends"][0]["weight"] = 6
        config["services"][0]["listen"].append("0.0.0.0:${more}")
        config["pair"]["nodes"][0]["variables"]["more"] = "2525"
        config["pair"]["nodes"][1]["variables"]["more"] = "9848"
        before = self.two.config_path.read_text()
        self.one.rewrite(config)
        refused = self.one.ctl("pair", "push")
        self.assertEqual(refused.returncode, 1, refused.stdout)
        self.assertIn("nothing changed on either box: lb2", refused.stderr)
        self.assertEqual(self.two.config_path.read_text(), before)
        self.assertEqual(self.one.backend("mx1")["weight"], 5)
        self.assertEqual(self.two.backend("mx1")["weight"], 5)

    def test_wrong_key(self):
        """No link, both say why and go on alone; the right key mends it."""
        self.lab = self.enterContext(Lab())
        one = self.enterContext(self.lab.box("lb1"))
        self.lab.key.write_text("f" * 64)
        two = self.lab.box("lb2")
        with two:
            for box in (one, two):
                box.wait_for_text("key_file on both nodes", within=15)
                self.assertFalse(box.pair()["linked"])
                self.assertEqual(box.json("status")["verdict"], "warning")
                self.assertEqual(box.ctl("pair", "push").returncode, 1)
            time.sleep(5)
            for box in (one, two):
                lines = [line for line in box.lines if "no link to" in line]
                self.assertLess(len(lines), 8, "rate-limited")
        self.lab.key.write_text("0123456789abcdef" * 4 + "\n")
        with self.lab.box("lb2") as right:
            processes.wait_until(lambda: one.in_sync() and right.in_sync(), within=30, what="in sync")

    def test_bad_keys_are_refused_at_start(self):
        self.lab = self.enterContext(Lab())
        self.lab.key.chmod(0o644)
        box = self.lab.box("lb1")
        box._wait_ready = False
        with box:
            self.assertEqual(box.wait(), 1)
            box.wait_for_text("chmod o=")

    def test_strangers_are_turned_away(self):
        """Nobody but the peer's address is listened to, and what it says without the key ends its call."""
        self.boxes()
        self.synced()
        program = ("import socket,sys; s=socket.create_connection(('10.77.0.3',9848),2);"
                   "s.settimeout(5); s.sendall(b'x'*100000) if len(sys.argv)>1 else None;"
                   "print(s.recv(10))")
        subprocess.run([*self.lab.inside("client"), "python3", "-c", program], capture_output=True, timeout=20,
                       check=False)
        self.two.wait_for_text("who is not the peer")
        for _ in range(5):
            subprocess.run([*self.lab.inside("lb1"), "python3", "-c", program, "junk"], capture_output=True,
                           timeout=20, check=False)
        self.assertTrue(self.two.in_sync(), "the link itself was not touched")

    def test_frozen_peer_is_lost_and_caught_up_with(self):
        """A peer that stands still loses the link, not the changes."""
        self.boxes()
        self.synced()
        self.two.signal(signal.SIGSTOP)
        try:
            self.one.wait_for_text("the link is lost", within=20)
            self.assertEqual(self.one.metric("poise_pair_in_sync"), {"": 0.0})
            self.one.done("disable", "mx/mx2")
        finally:
            self.two.signal(signal.SIGCONT)
        processes.wait_until(lambda: self.two.backend("mx2")["admin"] == "disabled", within=20, what="lb2 knows")
        self.synced()
        told = [line for line in self.one.lines if "is told everything" in line]
        self.assertEqual(len(told), 1, "what it knew it was not told again")

    def test_clocks_apart_are_warned_of(self):
        """A box whose clock is an hour ahead: both say so, once, and the status names it."""
        self.lab = self.enterContext(Lab())
        source, library = self.lab.folder / "clock.c", self.lab.folder / "clock.so"
        source.write_text(_CLOCK)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True, timeout=60)
        one = self.enterContext(self.lab.box("lb1"))
        with unittest.mock.patch.dict(os.environ, {"LD_PRELOAD": str(library)}):
            two = self.enterContext(self.lab.box("lb2"))
        for box, words in ((one, r"clock of lb2 is (3599|3600)\.\d s ahead of"),
                           (two, r"clock of lb1 is 360\d\.\d s behind")):
            box.wait_for(lambda line, words=words: re.search(words, line), within=20, what=words)
        self.assertRegex(" ".join(one.json("status")["problems"]), r"the clock of lb2 is \+(3599|3600)\.\d s from ours")
        time.sleep(3)
        self.assertEqual(len([line for line in one.lines if "the clock of" in line]), 1)

    def test_vrrp_config_needs_no_daemon(self):
        self.lab = self.enterContext(Lab(pace="10s"))
        box = self.lab.box("lb1")
        with box:
            path = box.config_path
            text = box.done("vrrp-config", "-c", str(path))
            self.assertEqual(json.loads(box.done("--json", "vrrp-config", "-c", str(path))), text)
            (path.parent / "node").write_text("lb2\n")
            other = box.done("vrrp-config", "-c", str(path))
        self.assertIn("priority 150", text)
        self.assertIn("priority 100", other)
        self.assertIn("unicast_src_ip 10.77.0.3", other)
        self.assertIn("advert_int 0.2", text)


if __name__ == "__main__":
    unittest.main()
