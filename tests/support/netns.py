"""A network namespace for the whole test process: its own loopback, its own sysctls, its own ports."""

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
