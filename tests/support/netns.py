"""Network namespaces: one for the whole test process, with its own loopback, sysctls and ports, and others by name."""

import contextlib
import ctypes
import os
import pathlib
import subprocess

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter(**sysctls):
    """Moves this process (its calling thread, and all threads and processes started later) into a new network
    namespace with loopback up. Sysctls are given as net_ipv4_tcp_wmem="4096 16384 65536". Must be root.
    """
    if _libc.unshare(_CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise RuntimeError(f"unshare: {os.strerror(code)}: this test needs root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, value in sysctls.items():
        area, family, key = name.split("_", 2)
        pathlib.Path("/proc/sys", area, family, key).write_text(value)


class Namespace:
    """A network namespace by its pid-bound name; gone with the test."""

    def __init__(self, name):
        self.name = f"poise-{os.getpid()}-{name}"

    def __enter__(self):
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def ip(self, *arguments, family="-4"):
        command = ["ip", "-n", self.name, family, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @property
    def wrap(self):
        return ["ip", "netns", "exec", self.name]

    @contextlib.contextmanager
    def inside(self):
        """Sockets made by this thread meanwhile are the namespace's."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(home)
            os.close(home)
            os.close(there)


def _setns(descriptor):
    if _libc.setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
