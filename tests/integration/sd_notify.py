"""What poised tells the service manager: ready, reloading, status, alive, stopping. A socket stands for systemd."""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import tempfile
import threading
import time
import unittest
from unittest import mock

import ctl
import poised
import processes
import smtp_server

_libc = ctypes.CDLL(None, use_errno=True)
_PTRACE_DETACH, _PTRACE_SEIZE, _PTRACE_INTERRUPT, _WALL = 17, 0x4206, 0x4207, 0x40000000


class Manager:
    """The other end of NOTIFY_SOCKET: every message with the time it came."""

    def __init__(self, watchdog_ms):
        self.heard = []
        self._watchdog_us = watchdog_ms * 1000

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="poise-")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = f"{self._folder.name}/notify"
        self._socket.bind(path)
        self._environment = mock.patch.dict(
            os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC=str(self._watchdog_us)
        )
        self._environment.start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_):
        self._environment.stop()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._socket.close()
        self._folder.cleanup()

    def _read(self):
        while data := self._socket.recv(4096):
            self.heard.append((time.monotonic(), data.decode()))

    def said(self, word):
        return [text for _, text in list(self.heard) if word in text.split("\n") or text == word]

    def wait(self, condition, what, within=10):
        return processes.wait_until(lambda: condition(list(self.heard)), within=within, what=what)


@contextlib.contextmanager
def frozen(thread):
    """One thread stands still, the others of its process go on."""
    if _libc.ptrace(_PTRACE_SEIZE, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace: this test needs root")
    try:
        _libc.ptrace(_PTRACE_INTERRUPT, thread, None, None)
        os.waitpid(thread, _WALL)
        yield
    finally:
        _libc.ptrace(_PTRACE_DETACH, thread, None, None)


def thread_named(pid, name):
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise AssertionError(f"no thread {name}")


def alive_since(heard, begin):
    return [when for when, text in heard if text == "WATCHDOG=1" and when > begin]


class ServiceManager(unittest.TestCase):
    def test_life_of_the_service(self):
        """READY after the start, a status sentence, RELOADING then READY for a reload good or bad, STOPPING with the
        time that the drain may take."""
        with Manager(watchdog_ms=400) as manager, smtp_server.SmtpServer() as server:
            config = poised.balanced(
                {"smtp": ("smtp", [server.endpoint])}, shutdown={"drain": "2s"}
            )
            with poised.Poised(config) as daemon:
                manager.wait(lambda heard: manager.said("READY=1"), "READY=1")
                manager.wait(
                    lambda heard: any(t.startswith("STATUS=Mail flows") for _, t in heard), "STATUS"
                )
                manager.wait(lambda heard: len(alive_since(heard, 0)) >= 3, "WATCHDOG=1")
                for broken in (False, True):
                    ready = len(manager.said("READY=1"))
                    daemon.reload("{" if broken else None)
                    manager.wait(lambda heard: len(manager.said("READY=1")) > ready, "READY=1")
                order = [t.split("\n")[0] for _, t in manager.heard if "=1" in t]
                order = [word for word in order if word != "WATCHDOG=1"]
                self.assertEqual(order, ["READY=1"] + ["RELOADING=1", "READY=1"] * 2)
                daemon.rewrite(config)
                self.assertEqual(daemon.stop(), 0)
            stopping = manager.said("STOPPING=1")
            self.assertEqual(len(stopping), 1)
            self.assertIn("EXTEND_TIMEOUT_USEC=17000000", stopping[0])

    def test_no_sign_of_life_while_a_worker_is_stuck(self):
        """One of two workers stands still: the watchdog gets no sign until it goes on, and the log says which."""
        with Manager(watchdog_ms=400) as manager, smtp_server.SmtpServer() as server:
            config = poised.balanced({"smtp": ("smtp", [server.endpoint])}, workers=2)
            with poised.Poised(config) as daemon:
                manager.wait(lambda heard: len(alive_since(heard, 0)) >= 3, "WATCHDOG=1")
                with frozen(thread_named(daemon.pid, "worker-1")):
                    daemon.wait_for_text("worker 1 does not answer")
                    begin = time.monotonic()
                    time.sleep(1)
                    self.assertEqual(alive_since(manager.heard, begin), [])
                begin = time.monotonic()
                daemon.wait_for_text("worker 1 answers again")
                manager.wait(lambda heard: alive_since(heard, begin), "WATCHDOG=1 again")


if __name__ == "__main__":
    unittest.main()
