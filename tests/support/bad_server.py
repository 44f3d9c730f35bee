"""Servers that misbehave on purpose, each in one known way.

    with BadServer(silence) as server: ... server.endpoint, server.accepted

The behaviours are functions of the accepted socket. What can't be one, because no connection comes about:
refusing_endpoint() and black_hole().
"""

import contextlib
import ctypes
import socket
import struct
import threading
import time

import addresses


def refusing_endpoint():
    """An endpoint where nobody listens: connect() gets ECONNREFUSED."""
    address = addresses.own_address()
    return address, addresses.free_port(address)


@contextlib.contextmanager
def black_hole():
    """An endpoint whose packets vanish: connect() gets no answer at all, as from a dead host."""
    with socket.socket() as listener:
        listener.bind((addresses.own_address(), 0))
        listener.listen()
        swallow_packets(listener)
        yield listener.getsockname()


_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack(
    "HBBI", 0x06, 0, 0, 0
)  # one BPF instruction: return 0, keep nothing of the packet


def swallow_packets(sock):
    """From now on the kernel drops every packet that comes for this socket, a SYN or an ACK as well."""
    code = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HP", len(_DROP_ALL) // 8, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def reset(connection):
    """Closes with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# Behaviours


def accept_and_reset(connection):
    reset(connection)


def accept_and_close(connection):
    connection.close()


def silence(connection):
    """Accepts, never says a word; ends when the other side does."""
    while connection.recv(65536):
        pass


def say(words):
    """One line, then silence until the other side is done."""

    def behaviour(connection):
        connection.sendall(words)
        silence(connection)

    return behaviour


def reply_and_reset(words):
    """One reply and at once a RST, as postscreen ends a session with `521`."""

    def behaviour(connection):
        connection.sendall(words)
        reset(connection)

    return behaviour


def trickle(words, pause=0.05):
    """A byte at a time."""

    def behaviour(connection):
        for i in range(len(words)):
            connection.sendall(words[i : i + 1])
            time.sleep(pause)
        silence(connection)

    return behaviour


def slowly(*pieces, pause):
    """Pieces with pauses between them, then silence."""

    def behaviour(connection):
        for number, piece in enumerate(pieces):
            time.sleep(pause if number else 0)
            connection.sendall(piece)
        silence(connection)

    return behaviour


def answer(*replies, greeting=True, hang_up=False, unasked=False, more=False):
    """The first reply at once (unless not `greeting`), each further one to what the client says next; b"" closes.
    Then silence, or with `hang_up` the end, or with `more` whatever the caller does next, once the client has
    spoken. `unasked`: the second reply comes with the first, as to a PROXY header taken for a command."""

    def behaviour(connection):
        for number, reply in enumerate(replies):
            asks = number > 0 or not greeting
            if asks and not hang_up and not (unasked and number == 1) and not connection.recv(65536):
                return
            if not reply:
                connection.close()
                return
            connection.sendall(reply)
        if not more:
            silence(connection)

    return behaviour


busy = say(b"421 4.3.2 Service currently unavailable\r\n")
junk = say(b"\x16\x03\x01 what is this\r\n")


class BadServer:
    """Runs `behaviour` in a thread for every connection. `accepted` counts them."""

    def __init__(self, behaviour, backlog=1024):
        self._behaviour = behaviour
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((addresses.own_address(), 0))
        self._listener.listen(backlog)
        self._connections = set()
        self._lock = threading.Lock()
        self.endpoint = self._listener.getsockname()
        self.accepted = 0

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        # shutdown wakes a thread blocked in accept or recv; close alone would not
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError):
            self._behaviour(connection)
        with self._lock:
            self._connections.discard(connection)
        connection.close()
