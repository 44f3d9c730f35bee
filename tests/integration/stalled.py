"""A thousand clients that asked for much and read nothing, all on one worker: nobody else is held up, memory is
bounded, and when they read at last they get every byte.
"""

import contextlib
import random
import select
import socket
import threading
import time
import unittest

import addresses
import bad_server
import netns
import processes
from poised import SCALE, Poised, balanced

KIB = 1 << 10
CLIENTS = 1000 if SCALE == 1 else 100
BYTES = 1024 * KIB

_BLOCK = bytes(64 * KIB)


class Stalled(unittest.TestCase):
    """Clients that ask for much and read nothing, all on one worker."""

    def test_stalled_readers_hold_nobody_up_and_little_memory(self):
        with Source(BYTES) as source, bad_server.BadServer(echo) as echoing, Poised(
            balanced({"bulk": ("tcp", [source.endpoint]), "echo": ("tcp", [echoing.endpoint])})
        ) as poised, contextlib.ExitStack() as stack:
            base = processes.resident_bytes(poised.pid)
            stalled = [self.stalled_client(poised, stack) for _ in range(CLIENTS)]
            source.wait_until_blocked(CLIENTS)

            for n in range(200):
                words = random.Random(n).randbytes(random.Random(n).randint(1, 256 * KIB))
                self.assertEqual(words, self.echoed(poised, words))
            if SCALE == 1:
                # A direction stops receiving at 64 KiB; what was under way by then comes on top.
                grown = processes.resident_bytes(poised.pid) - base
                self.assertLess(grown, CLIENTS * 160 * KIB)

            self.assertEqual([BYTES] * CLIENTS, self.read_all(stalled))

    def stalled_client(self, poised, stack):
        client = stack.enter_context(socket.socket())
        client.settimeout(30)
        client.connect(poised.endpoint("bulk"))
        return client

    def echoed(self, poised, words):
        with socket.create_connection(poised.endpoint("echo"), 30) as client:
            sender = threading.Thread(target=client.sendall, args=(words,))
            sender.start()
            got = b""
            while len(got) < len(words):
                got += client.recv(64 * KIB) or self.fail("EOF in the middle of an echo")
            sender.join()
        return got

    def read_all(self, clients):
        counts = {client.fileno(): 0 for client in clients}
        by_fd = {client.fileno(): client for client in clients}
        poll = select.epoll()
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        open_count = len(clients)
        end = time.monotonic() + 60
        while open_count and time.monotonic() < end:
            for fd, _ in poll.poll(1):
                chunk = by_fd[fd].recv(64 * KIB)
                counts[fd] += len(chunk)
                if not chunk:
                    poll.unregister(fd)
                    open_count -= 1
        poll.close()
        return list(counts.values())


def echo(connection):
    while chunk := connection.recv(64 * KIB):
        connection.sendall(chunk)


class Source:
    """Sends every connection the same number of bytes, then EOF; one thread for any number of them."""

    def __init__(self, size):
        self._size = size
        self._listener = socket.socket()
        self._listener.bind((addresses.own_address(), 0))
        self._listener.listen(4096)
        self._listener.setblocking(False)
        self.endpoint = self._listener.getsockname()
        self._left = {}
        self._changed = time.monotonic()
        self._stopping = False

    def __enter__(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping = True
        self._thread.join(10)
        self._listener.close()

    def wait_until_blocked(self, count):
        """Until `count` connections have come and nothing has moved for 300 ms, with all unfinished."""
        processes.wait_until(
            lambda: len(self._left) == count and time.monotonic() - self._changed > 0.3,
            within=30,
            what=f"{count} stalled sessions, have {len(self._left)}",
        )
        if not all(self._left.values()):
            raise AssertionError("the kernel's buffers took it all: nothing is stalled")

    def _run(self):
        connections = {}
        with select.epoll() as poll, contextlib.ExitStack() as stack:
            poll.register(self._listener, select.EPOLLIN)
            while not self._stopping:
                for fd, _ in poll.poll(0.2):
                    if fd == self._listener.fileno():
                        connection, _ = self._listener.accept()
                        connection.setblocking(False)
                        connections[connection.fileno()] = stack.enter_context(connection)
                        self._left[connection.fileno()] = self._size
                        poll.register(connection, select.EPOLLOUT)
                    elif not self._send(fd, connections[fd]):
                        poll.unregister(fd)
                    self._changed = time.monotonic()

    def _send(self, fd, connection):
        """False when there is nothing more to do for it."""
        try:
            while self._left[fd]:
                self._left[fd] -= connection.send(_BLOCK[: self._left[fd]])
            connection.shutdown(socket.SHUT_WR)
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False


def setUpModule():
    # Loopback's own buffers would swallow megabytes a session; here it is poised that has to hold what comes.
    netns.enter(net_ipv4_tcp_wmem="4096 16384 65536", net_ipv4_tcp_rmem="4096 32768 131072")


if __name__ == "__main__":
    unittest.main()
