"""A small DNS server whose answers a test changes while it runs.

    with DnsServer() as dns:
        dns.zone["mx.poise.test"] = ["127.1.2.3", "::1"]
        dns.mode = "silent"        # or "servfail", or "answer"
        poised gets POISE_DNS_SERVERS=dns.text
"""

import ipaddress
import socket
import struct
import threading

import addresses

_A, _AAAA = 1, 28
_NOERROR, _SERVFAIL, _NXDOMAIN = 0, 2, 3


class DnsServer:
    """Answers A and AAAA over UDP; a name that is not in the zone does not exist. `asked` counts questions by name."""

    def __init__(self, ttl=0):
        self.zone = {}
        self.ttl = ttl
        self.mode = "answer"
        self.asked = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((addresses.own_address(), 0))
        self.text = "%s:%d" % self._socket.getsockname()

    def __enter__(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        host, port = self._socket.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (host, port))  # an empty datagram ends the thread
        self._thread.join(5)
        self._socket.close()

    def _run(self):
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            reply = self._reply(query)
            if reply:
                self._socket.sendto(reply, client)

    def _reply(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii"))
            at += 1 + query[at]
        kind = struct.unpack_from("!H", query, at + 1)[0]
        question = query[12 : at + 5]
        name = ".".join(labels).lower()
        self.asked[name] = self.asked.get(name, 0) + 1
        if self.mode == "silent":
            return None
        answers, code = [], _NOERROR
        if self.mode == "servfail":
            code = _SERVFAIL
        elif name not in self.zone:
            code = _NXDOMAIN
        else:
            version = {_A: 4, _AAAA: 6}.get(kind)
            for text in self.zone[name]:
                address = ipaddress.ip_address(text)
                if address.version == version:
                    data = address.packed
                    answers.append(struct.pack("!HHHIH", 0xC00C, kind, 1, self.ttl, len(data)) + data)
        header = query[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(answers), 0, 0)
        return header + question + b"".join(answers)
