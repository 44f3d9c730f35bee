"""Two boxes with keepalived beside poised, as docs/appliance.md has it until poised knows pairs: its configuration is
taken from there. Each box is a network namespace, as are the client and the mail server. Needs root."""

import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import poised
import processes

VIP = "10.77.0.10"
ADDRESSES = {"sw": None, "lb1": "10.77.0.2", "lb2": "10.77.0.3", "client": "10.77.0.4", "server": "10.77.0.5"}


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def manual():
    """keepalived's file out of the manual."""
    text = (poised.ROOT / "docs/appliance.md").read_text()
    block = re.search(r"\n    # /etc/keepalived.*?(?=\n\S)", text, re.S)[0]
    return block.replace("\n    ", "\n")


class PairByHand(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="poise-pair-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.prefix = f"poise{time.monotonic_ns() % 10**8}-"
        for number, (name, address) in enumerate(ADDRESSES.items()):
            ip("netns", "add", self.prefix + name)
            self.addCleanup(ip, "netns", "del", self.prefix + name)
            ip("-n", self.prefix + name, "link", "set", "lo", "up")
            if address is None:
                ip("-n", self.prefix + name, "link", "add", "br0", "type", "bridge")
                ip("-n", self.prefix + name, "link", "set", "br0", "up")
                continue
            ip("-n", self.prefix + name, "link", "add", "eth0", "type", "veth",
               "peer", "name", f"p{number}", "netns", self.prefix + "sw")
            ip("-n", self.prefix + "sw", "link", "set", f"p{number}", "master", "br0", "up")
            ip("-n", self.prefix + name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", self.prefix + name, "link", "set", "eth0", "up")

    def inside(self, name):
        return ["ip", "netns", "exec", self.prefix + name]

    def keepalived(self, name):
        peer = "lb2" if name == "lb1" else "lb1"
        text = manual().replace("script_user poise", "script_user nobody")
        text = text.replace("192.0.2.10/24", f"{VIP}/24")
        text = text.replace("192.0.2.2\n", f"{ADDRESSES[name]}\n").replace("192.0.2.3\n", f"{ADDRESSES[peer]}\n")
        if name == "lb2":
            text = text.replace("priority 150", "priority 100")
        path = self.folder / f"{name}.conf"
        path.write_text(text)
        path.chmod(0o644)
        check = subprocess.run([*self.inside(name), "keepalived", "-t", "-f", str(path)],
                               capture_output=True, text=True, check=False)
        # Debian's 2.2.7 ends the test of a good file by SIGTERM to itself; of a bad one with 1 to 5, and words.
        self.assertIn(check.returncode, (0, -signal.SIGTERM), check.stderr)
        self.assertEqual(check.stdout + check.stderr, "")
        with open(self.folder / f"{name}.log", "wb") as log:
            process = processes.start(
                [*self.inside(name), "keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={path}",
                 f"--pid={self.folder}/{name}.pid", f"--vrrp_pid={self.folder}/{name}-vrrp.pid"],
                stdout=log, stderr=log)
        self.addCleanup(processes.stop, process)

    def has_address(self, name):
        said = subprocess.check_output(["ip", "-n", self.prefix + name, "-o", "addr"], text=True)
        return f" {VIP}/" in said

    def session(self):
        """What a new client at the address reads first; None: nobody there."""
        program = (f"import socket; s = socket.create_connection(('{VIP}', 25), 1); s.settimeout(1);"
                   "print(s.recv(99).decode())")
        done = subprocess.run([*self.inside("client"), "python3", "-c", program],
                              capture_output=True, text=True, check=False, timeout=10)
        return done.stdout.strip() or None

    def test_address_and_new_sessions_move(self):
        """SIGKILL of poised on the active box, then SIGTERM on the other: each time the address moves and new sessions
        work; at rest one box has it. All servers dead: nothing moves, and clients read a refusal."""
        server = processes.start([*self.inside("server"), str(poised.BIN / "poise-load"), "serve",
                                  "--listen", "10.77.0.5:25", "--name", "mx1"], stdout=subprocess.DEVNULL)
        self.addCleanup(processes.stop, server)

        def balancer(name):
            config = poised.balanced({"smtp": ("smtp", ["10.77.0.5:25"])}, listen="0.0.0.0:25",
                                     admin={"socket": "off", "http": "127.0.0.1:9847"})
            return poised.Poised(config, wrap=self.inside(name))

        with balancer("lb1") as one, balancer("lb2") as two:
            for name in ("lb1", "lb2"):
                self.keepalived(name)
            processes.wait_until(lambda: self.has_address("lb1"), what="lb1 has the address", within=20)
            self.assertFalse(self.has_address("lb2"))
            self.assertIn("220", processes.wait_until(self.session, what="a session"))

            one.process.kill()
            one.wait()
            begin = time.monotonic()
            processes.wait_until(lambda: self.has_address("lb2") and self.session(), what="lb2 serves", within=20)
            print(f"killed: new sessions after {time.monotonic() - begin:.1f} s")
            processes.wait_until(lambda: not self.has_address("lb1"), what="lb1 lets go")

            with balancer("lb1"):
                time.sleep(4)
                self.assertTrue(self.has_address("lb2"), "nopreempt: it stays where it is")
                self.assertFalse(self.has_address("lb1"))
                processes.stop(server)
                processes.wait_until(lambda: (self.session() or "").startswith("421"), what="a refusal", within=20)
                time.sleep(3)
                self.assertTrue(self.has_address("lb2"))
                self.assertFalse(self.has_address("lb1"))
                two.stop()
                processes.wait_until(lambda: self.has_address("lb1"), what="lb1 has it again", within=20)


if __name__ == "__main__":
    unittest.main()
