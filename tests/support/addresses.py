"""Loopback addresses and ports that no other test running now uses."""

import itertools
import os
import socket

_hosts = itertools.count(1)


def own_address():
    """An address of 127.0.0.0/8 that is this process's alone: the middle 16 bits come from its pid.

    Tests run side by side, and Postfix listens with SO_REUSEPORT: on a shared address two pools
    would start without a word and take half of each other's connections.
    """
    low = os.getpid() % 60000 + 256  # never 127.0.x.y, where everybody else lives
    host = next(_hosts)
    if host > 254:
        raise RuntimeError("one test process asked for more than 254 addresses")
    return f"127.{low >> 8}.{low & 255}.{host}"


def free_port(address="127.0.0.1"):
    """A port nobody listens on at `address`. Another process could take it before it is used,
    which own_address() makes impossible for the processes under test."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]
