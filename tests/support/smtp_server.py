"""A small SMTP server in a process of its own that knows to the session what its own end breaks.

    with SmtpServer() as server:
        ... server.endpoint
        broken = server.die()         # sessions that were open; the process is gone by SIGKILL
        stuck = server.vanish()       # sessions that were open; its packets are dropped from now on

Both first shut the door (packets for the listener are dropped), then take in what has already come, then count: the
number is exact. A real daemon can't tell that.
"""

import asyncio
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys

import addresses
import bad_server
import processes


class SmtpServer:
    """The test's end of it."""

    def __init__(self, name="be"):
        self._name = name

    def __enter__(self):
        self._process = processes.start(
            [sys.executable, str(pathlib.Path(__file__)), addresses.own_address(), self._name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        host, _, port = self._answer().rpartition(":")
        self.endpoint = host, int(port)
        return self

    def __exit__(self, *_):
        processes.kill_group(self._process)
        self._process.stdin.close()
        self._process.stdout.close()

    def _answer(self):
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"SMTP server {self._name} ended by itself")
        return line

    def _ask(self, command):
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def sessions(self):
        """Sessions accepted so far."""
        return self._ask("sessions")

    def open(self):
        """Sessions accepted and not yet through with QUIT."""
        return self._ask("open")

    def die(self):
        return self._ask("die")

    def vanish(self):
        return self._ask("vanish")


class _Server:
    """What runs in the process: one thread, so between two of its steps nothing changes."""

    def __init__(self, address, name):
        self._name = name.encode()
        self._sessions = 0
        self._open = {}  # socket: its task
        self._listener = socket.socket()
        self._listener.bind((address, 0))
        self._listener.listen(4096)
        self._listener.setblocking(False)

    async def run(self):
        loop = asyncio.get_running_loop()
        commands = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        loop.add_reader(self._listener, self._accept)
        self._say("%s:%d" % self._listener.getsockname())
        while line := await commands.readline():
            command = line.decode().strip()
            if command == "sessions":
                self._say(self._sessions)
            elif command == "open":
                self._say(len(self._open))
            elif command == "die":
                self._shut_the_door()
                self._say(len(self._open))
                os.kill(os.getpid(), signal.SIGKILL)
            elif command == "vanish":
                self._shut_the_door()
                for connection in self._open:
                    bad_server.swallow_packets(connection)
                self._say(len(self._open))
                while True:
                    signal.pause()

    def _shut_the_door(self):
        bad_server.swallow_packets(self._listener)
        self._accept()

    @staticmethod
    def _say(words):
        print(words, flush=True)

    def _accept(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                self._sessions += 1
                self._open[connection] = asyncio.ensure_future(self._serve(connection))

    async def _serve(self, connection):
        loop = asyncio.get_running_loop()

        async def say(words):
            await loop.sock_sendall(connection, words)

        received = bytearray()

        async def line():
            while (end := received.find(b"\n")) < 0:
                chunk = await loop.sock_recv(connection, 65536)
                if not chunk:
                    return b""
                received.extend(chunk)
            words = bytes(received[: end + 1])
            del received[: end + 1]
            return words

        with contextlib.suppress(ConnectionError):
            await say(b"220 " + self._name + b" ESMTP\r\n")
            while words := await line():
                verb = words[:4].upper()
                if verb == b"QUIT":
                    del self._open[connection]  # nothing that happens now breaks it
                    await say(b"221 2.0.0 Bye\r\n")
                    break
                if verb == b"DATA":
                    await say(b"354 Go on\r\n")
                    while (await line()) not in (b".\r\n", b""):
                        pass
                await say(b"250 2.0.0 Ok\r\n")
        self._open.pop(connection, None)
        connection.close()


if __name__ == "__main__":
    asyncio.run(_Server(sys.argv[1], sys.argv[2]).run())
