"""Bytes through poised: random chunks, slow readers, half-close on either side, resets.

A GiB goes each way (less under sanitizers); every stream is hashed at both ends, and poised's memory stays flat.
"""

import contextlib
import concurrent.futures
import hashlib
import random
import select
import socket
import threading
import time
import unittest

import bad_server
import processes
from poised import SCALE, Poised, balanced

KIB = 1 << 10
MIB = 1 << 20
STREAM_BYTES = int(1024 * MIB * SCALE) // 12

_BLOCK = random.Random(1).randbytes(2 * MIB)


def send_stream(connection, size, seed):
    """Sends `size` bytes that `seed` decides, in chunks of 1 byte to 256 KiB; returns their hash."""
    rng = random.Random(seed)
    digest = hashlib.sha256()
    block = memoryview(_BLOCK)
    while size:
        length = min(size, rng.choice((rng.randint(1, 200), rng.randint(1, 256 * KIB))))
        start = rng.randrange(len(block) - length)
        chunk = block[start : start + length]
        connection.sendall(chunk)
        digest.update(chunk)
        size -= length
    return digest.digest()


def receive_stream(connection, seed, slow=False):
    """Reads until EOF in pieces of random size, a slow reader with pauses at first; returns the hash."""
    rng = random.Random(seed)
    digest = hashlib.sha256()
    pauses = 100 if slow else 0
    while chunk := connection.recv(
        rng.choice((1, 700, 64 * KIB, 256 * KIB)) if not slow or not pauses else 900
    ):
        digest.update(chunk)
        if pauses:
            pauses -= 1
            time.sleep(0.005)
    return digest.digest()


class StreamServer(bad_server.BadServer):
    """Reads "ORDER BYTES SEED SLOW\\n", then streams as the order says; keeps the hashes by seed.

    together: both directions at once. client_first: the client's stream and its EOF come before the server's
    first byte. server_first: the other way round.
    """

    def __init__(self):
        super().__init__(self._stream)
        self.received = {}
        self.sent = {}

    def _stream(self, connection):
        line = b""
        while not line.endswith(b"\n"):
            line += connection.recv(1)
        order, size, seed, slow = line.decode().split()
        size, seed, slow = int(size), int(seed), slow == "1"

        def send():
            self.sent[seed] = send_stream(connection, size, ~seed)
            connection.shutdown(socket.SHUT_WR)

        def receive():
            self.received[seed] = receive_stream(connection, ~seed, slow)

        in_order(order, send, receive, own_first=order == "server_first")


def in_order(order, send, receive, own_first):
    if order == "together":
        sender = threading.Thread(target=send)
        sender.start()
        receive()
        sender.join()
    elif own_first:
        send()
        receive()
    else:
        receive()
        send()


class Relay(unittest.TestCase):
    def test_streams_arrive_whole_in_any_order_and_memory_stays_flat(self):
        with StreamServer() as server, Poised(
            balanced({"tcp": ("tcp", [server.endpoint])}, workers=2)
        ) as poised:
            self.session(poised, server, ("together", MIB, 1000, 0))  # what is allocated once
            base = processes.resident_bytes(poised.pid)
            peak = base
            work = [
                (order, STREAM_BYTES, 4 * n + k, int(k == 3))
                for n, order in enumerate(("together", "client_first", "server_first"))
                for k in range(4)
            ]
            with concurrent.futures.ThreadPoolExecutor(4) as threads:
                running = [threads.submit(self.session, poised, server, item) for item in work]
                while not all(future.done() for future in running):
                    peak = max(peak, processes.resident_bytes(poised.pid))
                    time.sleep(0.02)
                for future in running:
                    future.result()
            if SCALE == 1:
                self.assertLess(peak - base, 16 * MIB, "resident memory grew with the traffic")
            lines = poised.sessions(at_least=len(work) + 1)
            for line in lines:
                self.assertIn(line["close_reason"], ("client_closed", "backend_closed"))
            self.assertEqual(12 * STREAM_BYTES + MIB, sum(int(line["to_client"]) for line in lines))

    def session(self, poised, server, item):
        order, size, seed, slow = item
        hashes = {}
        with socket.socket() as client:
            client.settimeout(60)
            if slow:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * KIB)
            client.connect(poised.endpoint("tcp"))
            client.sendall(f"{order} {size} {seed} {slow}\n".encode())

            def send():
                hashes["sent"] = send_stream(client, size, seed)
                client.shutdown(socket.SHUT_WR)

            def receive():
                hashes["received"] = receive_stream(client, seed, slow)

            in_order(order, send, receive, own_first=order == "client_first")
        processes.wait_until(lambda: seed in server.received and seed in server.sent)
        self.assertEqual(server.sent[seed], hashes["received"], f"{item}: server to client")
        self.assertEqual(hashes["sent"], server.received[seed], f"{item}: client to server")


class Reset(unittest.TestCase):
    ROUNDS = 200 if SCALE == 1 else 50

    def test_a_reply_followed_at_once_by_a_reset_arrives_every_time(self):
        """As postscreen does: 521 and a RST. A 5yz is a verdict on the client and passes unchanged."""
        reply = b"521 5.3.2 Service currently unavailable\r\n"
        self.rounds("smtp", reply, bad_server.reply_and_reset(reply), b"")

    def test_a_last_reply_in_a_running_session_arrives_before_the_reset(self):
        reply = b"554-" + b"x" * 8000 + b"\r\n554 5.7.1 no\r\n"

        def behaviour(connection):
            connection.sendall(b"220 mx ESMTP\r\n")
            connection.recv(4096)
            connection.sendall(reply)
            bad_server.reset(connection)

        self.rounds("smtp", b"220 mx ESMTP\r\n" + reply, behaviour, b"EHLO client\r\n")

    def test_a_clients_reset_reaches_the_server(self):
        seen = []

        def behaviour(connection):
            connection.sendall(b"220 mx ESMTP\r\n")
            try:
                while connection.recv(4096):
                    pass
                seen.append("EOF")
            except ConnectionResetError:
                seen.append("reset")

        with bad_server.BadServer(behaviour) as server, Poised(
            balanced({"smtp": ("smtp", [server.endpoint])})
        ) as poised:
            for _ in range(self.ROUNDS):
                client = socket.create_connection(poised.endpoint("smtp"), 10)
                client.recv(4096)
                bad_server.reset(client)
            processes.wait_until(lambda: len(seen) == self.ROUNDS)
            self.assertEqual({"reset"}, set(seen))
            lines = poised.sessions(at_least=self.ROUNDS)
            self.assertEqual({"client_reset"}, {line["close_reason"] for line in lines})

    def rounds(self, protocol, expected, behaviour, question):
        with bad_server.BadServer(behaviour) as server, Poised(
            balanced({protocol: (protocol, [server.endpoint])})
        ) as poised:
            for n in range(self.ROUNDS):
                with socket.socket() as client:
                    client.setblocking(False)
                    # The reset may be here before connect() returns, which is then what a blocking one would report,
                    # throwing away what was received.
                    client.connect_ex(poised.endpoint(protocol))
                    select.select([client], [], [], 20)
                    client.settimeout(10)
                    got = b""
                    if question:
                        got = client.recv(4096)
                        client.sendall(question)
                    with contextlib.suppress(ConnectionResetError):
                        while chunk := client.recv(4096):
                            got += chunk
                self.assertEqual(expected, got, f"round {n}")


if __name__ == "__main__":
    unittest.main()
