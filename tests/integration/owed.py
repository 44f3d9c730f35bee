"""A real Postfix that thinks for longer after the final dot than a session may be idle: its answer is owed, the session
is not cut, and the message is accepted once, even when poised is told to stop meanwhile.
"""

import concurrent.futures
import contextlib
import copy
import smtplib
import socket
import time
import unittest

import mailpool
import processes
from poised import Poised, balanced

THINKS = 5  # seconds after the final dot
IDLE = {"idle": "2s", "owed": "30s"}


class Owed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = mailpool.MailPool(count=2)
        for server in cls.pool:
            server.postconf("-e", f"smtpd_end_of_data_restrictions=sleep {THINKS}, permit")
        cls.enterClassContext(cls.pool)

    def start(self, stack, drain="20s", **timeouts):
        backends = [server.endpoint("smtp") for server in self.pool]
        config = balanced(
            {"smtp": ("smtp", backends)},
            service={"timeouts": {**IDLE, **timeouts}},
            shutdown={"drain": drain},
        )
        return stack.enter_context(Poised(config))

    @staticmethod
    def send(poised, identity):
        with smtplib.SMTP(*poised.endpoint("smtp"), timeout=60) as client:
            message = f"Message-ID: <{identity}>\r\n\r\nHello.\r\n"
            client.sendmail("sender@poise.test", ["reader@lab.test"], message)

    def demand_once(self, identities):
        stored = processes.wait_until(
            lambda: (found := self.pool.stored()) and set(identities) <= found.keys() and found,
            within=20,
            what="all messages delivered",
        )
        self.assertEqual({1}, {stored[identity] for identity in identities})

    def test_accepted_once_although_it_takes_longer_than_idle(self):
        names = [f"idle-{number}@owed.test" for number in range(10)]
        with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(10) as many:
            poised = self.start(stack)
            list(many.map(lambda name: self.send(poised, name), names))
            lines = poised.sessions(at_least=len(names))
            self.assertLess(THINKS, min(float(line["total_s"]) for line in lines))
        self.demand_once(names)

    def test_accepted_once_although_we_stop_meanwhile(self):
        names = [f"drain-{number}@owed.test" for number in range(10)]
        with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(11) as many:
            poised = self.start(stack)
            sending = [many.submit(self.send, poised, name) for name in names]
            time.sleep(THINKS / 2)  # past their final dots
            begun = time.monotonic()
            self.assertEqual(0, poised.stop())
            self.assertGreater(time.monotonic() - begun, 1)
            for each in sending:
                each.result()
        self.demand_once(names)

    def test_accepted_once_although_its_server_is_taken_out_of_the_file_meanwhile(self):
        names = [f"removed-{number}@owed.test" for number in range(10)]
        with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(11) as many:
            poised = self.start(stack)
            sending = [many.submit(self.send, poised, name) for name in names]
            time.sleep(THINKS / 2)
            config = copy.deepcopy(poised.config)
            del config["pools"][0]["backends"][0]
            poised.reload(config)
            self.assertEqual([], poised.events("session"))  # all of them are still owed their answer
            for each in sending:
                each.result()
            lines = poised.sessions(at_least=len(names))
            self.assertEqual({"be1", "be2"}, {line["backend"] for line in lines})
        self.demand_once(names)

    def test_whose_turn_it_is_is_cut_when_idle(self):
        """The same silence, on the client's side."""
        with contextlib.ExitStack() as stack:
            poised = self.start(stack)
            client = stack.enter_context(socket.create_connection(poised.endpoint("smtp"), 10))
            begun = time.monotonic()
            self.assertTrue(client.recv(4096).startswith(b"220"))
            self.assertEqual(b"", client.recv(4096))
            self.assertLess(time.monotonic() - begun, THINKS)
            line = poised.sessions(at_least=1)[0]
            self.assertEqual("idle_timeout", line["close_reason"])
            self.assertEqual("server", line["spoke_last"])

    def test_owed_has_its_limit_too(self):
        with contextlib.ExitStack() as stack:
            poised = self.start(stack, idle="1s", owed="2s")
            with self.assertRaises(smtplib.SMTPServerDisconnected):
                self.send(poised, "never@owed.test")
            line = poised.sessions(at_least=1)[0]
            self.assertEqual("owed_timeout", line["close_reason"])
            self.assertEqual("client", line["spoke_last"])


if __name__ == "__main__":
    unittest.main()
