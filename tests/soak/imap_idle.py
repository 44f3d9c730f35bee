"""Clients in IMAP IDLE for 31 minutes, 29 of them without a word: not cut, and told of new mail at once.

RFC 2177 has a client begin anew after 29 minutes; some take longer. Dovecot says "Still here" only once, after 29
minutes, without which it would itself end them at 30; the service has the defaults of its protocol.
"""

import re
import socket
import time
import unittest

import mailpool
from poised import Poised, balanced

MINUTES = 31
CLIENTS = 5


class Idling:
    def __init__(self, endpoint, user):
        self._socket = socket.create_connection(endpoint, 20)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        for number, words in enumerate([f"LOGIN {user} {mailpool.PASSWORD}", "SELECT INBOX"]):
            self._socket.sendall(f"a{number} {words}\r\n".encode())
            self.read_until(rf"a{number} OK")
        self._socket.sendall(b"i IDLE\r\n")
        self.read_until(r"\+ ")

    def read_until(self, pattern, patience=20):
        self._socket.settimeout(patience)
        while line := self._file.readline():
            if re.match(pattern, line.decode()):
                return line
        raise EOFError(f"the connection ended before {pattern}")

    def finish(self):
        self._socket.sendall(b"DONE\r\n")
        self.read_until("i OK")
        self._file.close()
        self._socket.close()


class ImapIdle(unittest.TestCase):
    def test_is_not_cut(self):
        pool = mailpool.MailPool(count=2)
        for server in pool:
            with (server.directory / "dovecot" / "dovecot.conf").open("a") as config:
                config.write("imap_idle_notify_interval = 29 mins\n")
        endpoints = [server.endpoint("imap") for server in pool]
        with pool, Poised(balanced({"imap": ("imap", endpoints)})) as poised:
            idling = [Idling(poised.endpoint("imap"), f"user{n}") for n in range(CLIENTS)]
            for minute in range(MINUTES):
                print(f"minute {minute} of {MINUTES}", flush=True)
                time.sleep(60)
            for number, each in enumerate(idling):
                for server in pool:
                    server.put(f"user{number}", "late", b"Subject: late\r\n\r\nHello.\r\n")
                each.read_until(r"\* 1 EXISTS")
                each.finish()
            reasons = {line["close_reason"] for line in poised.sessions(at_least=CLIENTS)}
        self.assertLessEqual(reasons, {"client_closed", "backend_closed"})


if __name__ == "__main__":
    unittest.main()
