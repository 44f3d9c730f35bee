"""The greeting gate under load: as long as one of three servers is well, no client notices what ails another one.

Hundreds of sessions a second from poise-load, with nobody's health looked at, so that the sick server is met again and
again. The clients' ledger (messages with a 250) and the servers' must agree: nothing refused, lost or duplicated.
"""

import concurrent.futures
import contextlib
import imaplib
import pathlib
import select
import smtplib
import socket
import ssl
import tempfile
import threading
import time
import unittest

import bad_server
import mail_load
import mailpool
import processes
from mail_load import LoadServer
from poised import SCALE, Poised, balanced

RATE = max(20, round(300 * SCALE))
PATIENCE_S = 0.3 if SCALE == 1 else 2
PATIENCE = f"{round(PATIENCE_S * 1000)}ms"
FROZEN_S = max(1, PATIENCE_S * 1.3)
QUICK = {
    "service": {
        "timeouts": {"connect": PATIENCE},
        "greeting": {"timeout": PATIENCE, "budget": "15s", "tries": 3},
    },
    "shutdown": {"drain": "3s"},
}


class Flow(contextlib.ExitStack):
    """A service over `sick` and two good servers, and a load through it."""

    def __init__(self, protocol, sick, *, faults=(), service=None, seconds=2.0):
        super().__init__()
        self._protocol = protocol
        self._seconds = seconds
        self._rest = [self.enter_context(LoadServer(protocol, name=f"good{n}")) for n in (1, 2)]
        if faults:
            sick = self.enter_context(LoadServer(protocol, name="sick", faults=faults))
        self.sick = sick
        self.servers = [s for s in [sick, *self._rest] if isinstance(s, LoadServer)]
        endpoint = sick.endpoint if hasattr(sick, "endpoint") else sick
        backends = [endpoint, *(s.endpoint for s in self._rest)]
        settings = {**QUICK, "service": {**QUICK["service"], **(service or {})}}
        self.poised = self.enter_context(
            Poised(balanced({protocol: (protocol, backends)}, workers=2, **settings))
        )
        self._directory = self.enter_context(tempfile.TemporaryDirectory(prefix="poise-gate-"))
        self.sent = pathlib.Path(self._directory, "sent")
        self.sent.touch()

    def load(self):
        return mail_load.run(
            self._protocol,
            self.poised.endpoint(self._protocol),
            rate=RATE,
            duration=self._seconds,
            ledger=self.sent if self._protocol in ("smtp", "submission", "lmtp") else None,
        )


class Gate(unittest.TestCase):
    def demand_nobody_noticed(self, flow, report, what):
        self.assertEqual({}, mail_load.failures(report), what)
        self.assertEqual(0, report["sessions"]["failed"], what)
        self.assertGreater(report["sessions"]["ok"], RATE * 1.5, what)
        self.demand_ledgers_agree(flow, report, what)
        p99 = report["latency_seconds"]["session"]["p99"]
        print(f"{what}: {report['sessions']['ok']} sessions, p99 {p99 * 1000:.0f} ms", flush=True)

    def demand_ledgers_agree(self, flow, report, what):
        counts = mail_load.compare(flow.sent, flow.servers)
        self.assertEqual(report["submits"], counts["accepted"], what)
        self.assertEqual((0, 0), (counts["lost"], counts["duplicated"]), f"{what}: {counts}")

    def through(self, protocol, what, *, sick=None, faults=(), tried=None):
        with self.subTest(what), Flow(protocol, sick, faults=faults) as flow:
            report = flow.load()
            self.demand_nobody_noticed(flow, report, f"{protocol}, {what}")
            self.demand_tried(flow, tried or what, report["sessions"]["ok"])

    def demand_tried(self, flow, outcome, sessions):
        """The sick server was met, and not by luck left out: its brakes let somebody try it now and then."""
        lines = flow.poised.sessions(at_least=sessions)
        met = sum(f"be1:{outcome}" in line["tries"] for line in lines)
        self.assertGreaterEqual(met, 3, f"be1 was never {outcome}")

    # One server in three is sick

    def test_refused(self):
        self.through("smtp", "refused", sick=bad_server.refusing_endpoint())

    def test_black_hole(self):
        with bad_server.black_hole() as endpoint:
            self.through("smtp", "timeout", sick=endpoint)

    def test_reset(self):
        self.through("smtp", "reset", faults=["reset"])

    def test_silent(self):
        self.through("smtp", "silent", faults=["silence"])

    def test_greets_421(self):
        self.through("smtp", "421", faults=["greet=421"])

    def test_closed(self):
        self.through("smtp", "closed", faults=["close"])

    def test_greets_with_junk(self):
        self.through("smtp", "garbage", faults=["greet=What is this?"])

    def test_lmtp_421(self):
        self.through("lmtp", "421", faults=["greet=421"])

    def test_imap_bye(self):
        self.through("imap", "busy", faults=["greet=* BYE Too many connections"])

    def test_pop3_err(self):
        self.through("pop3", "busy", faults=["greet=-ERR [SYS/TEMP] Too many connections"])

    def test_frozen(self):
        """Stopped for a second, again and again: who is past its greeting waits, all others go elsewhere."""
        seconds = 4 * FROZEN_S
        with LoadServer(name="frozen") as sick, Flow("smtp", sick, seconds=seconds) as flow:
            over = threading.Event()

            def freeze():
                while not over.is_set():
                    sick.freeze()
                    over.wait(FROZEN_S)
                    sick.thaw()
                    over.wait(0.4)

            with concurrent.futures.ThreadPoolExecutor() as pool:
                freezing = pool.submit(freeze)
                try:
                    report = flow.load()
                finally:
                    over.set()
                freezing.result()
            self.demand_nobody_noticed(flow, report, "smtp, frozen now and then")
            self.demand_tried(flow, "silent", report["sessions"]["ok"])

    def test_killed_and_restarted_every_second(self):
        """Only sessions past the greeting may end with it; what it had accepted by then is accepted once."""
        with LoadServer(name="dying") as sick, Flow("smtp", sick, seconds=6) as flow:
            over = threading.Event()

            def kill():
                while not over.wait(0.6):
                    sick.kill()
                    over.wait(0.4)
                    sick.start()

            with concurrent.futures.ThreadPoolExecutor() as pool:
                killing = pool.submit(kill)
                try:
                    report = flow.load()
                finally:
                    over.set()
                killing.result()
            failed = mail_load.failures(report)
            past_the_greeting = failed.pop("closed", 0) + failed.pop("reset", 0)
            self.assertEqual({}, failed)
            self.assertLess(past_the_greeting, report["sessions"]["started"] / 20)
            self.demand_ledgers_agree(flow, report, "killed every second")
            print(f"killed every second: {past_the_greeting} of {report['sessions']['started']}"
                  " sessions ended past their greeting")
            self.demand_tried(flow, "refused", report["sessions"]["ok"])

    def test_at_its_process_limit(self):
        """A real Postfix with two smtpd, both taken: the kernel accepts for it, and nobody speaks."""
        pool = mailpool.MailPool(count=1)
        server = pool[0]
        server.postconf("-F", f"{server.smtp}/inet/process_limit=2")
        with pool, contextlib.ExitStack() as taken:
            for _ in range(2):
                client = taken.enter_context(smtplib.SMTP(*server.endpoint("smtp"), timeout=10))
                self.assertEqual(250, client.noop()[0])
            self.through("smtp", "at its process limit", sick=server.endpoint("smtp"), tried="silent")

    # TLS ports: the server's first byte is what a ClientHello brings

    def test_a_client_hello_is_said_again_on_tls_ports(self):
        """The sick server takes the ClientHello and resets before its first byte."""

        def take_hello_and_reset(connection):
            connection.recv(65536)
            bad_server.reset(connection)

        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE

        def smtps(endpoint):
            with smtplib.SMTP_SSL(*endpoint, timeout=20, context=tls) as client:
                return client.noop()[0] == 250

        def imaps(endpoint):
            with imaplib.IMAP4_SSL(*endpoint, timeout=20, ssl_context=tls) as client:
                return client.noop()[0] == "OK"

        sessions = max(20, round(100 * SCALE))
        with mailpool.MailPool(count=2) as pool:
            for protocol, session in (("smtps", smtps), ("imaps", imaps)):
                with self.subTest(protocol), bad_server.BadServer(take_hello_and_reset) as sick:
                    backends = [sick.endpoint, *(server.endpoint(protocol) for server in pool)]
                    config = balanced({protocol: (protocol, backends)}, shutdown={"drain": "3s"})
                    with Poised(config) as poised, concurrent.futures.ThreadPoolExecutor(8) as many:
                        endpoint = poised.endpoint(protocol)
                        self.assertTrue(all(many.map(session, [endpoint] * sessions)))
                        lines = poised.sessions(at_least=sessions)
                    met = sum("be1:reset" in line["tries"] for line in lines)
                    self.assertGreaterEqual(met, 3)

    # What passes

    def test_a_554_passes_unchanged_from_the_one_server_that_said_it(self):
        words = b"554 5.7.1 We do not know you\r\n"
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(bad_server.BadServer(bad_server.say(words))) for _ in "123"]
            backends = [server.endpoint for server in servers]
            poised = stack.enter_context(Poised(balanced({"smtp": ("smtp", backends)}, **QUICK)))
            count = 30
            for _ in range(count):
                with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                    self.assertEqual(words, client.recv(4096))
            self.assertEqual(count, sum(server.accepted for server in servers))
            lines = poised.sessions(at_least=count)
            self.assertEqual({1}, {line["tries"].count(":") for line in lines})
            self.assertNotIn("gets no new sessions", poised.tail(1000))

    def test_when_all_say_421_the_last_reply_is_passed_verbatim(self):
        with contextlib.ExitStack() as stack:
            replies = [f"421 4.3.2 be{n} is full, \x09 sorry\r\n".encode() for n in (1, 2, 3)]
            servers = [stack.enter_context(bad_server.BadServer(bad_server.say(r))) for r in replies]
            backends = [server.endpoint for server in servers]
            poised = stack.enter_context(Poised(balanced({"smtp": ("smtp", backends)}, **QUICK)))
            for number in range(12):
                with socket.create_connection(poised.endpoint("smtp"), 10) as client:
                    got = client.recv(4096)
                line = poised.sessions(at_least=number + 1)[-1]
                last = line["tries"].split(",be")[-1].removeprefix("be")[0]
                self.assertEqual(replies[int(last) - 1], got, line["tries"])
                self.assertEqual(number + 1, servers[0].accepted)
            self.assertEqual([12, 12, 12], [server.accepted for server in servers])

    def test_a_pool_that_greets_late_is_waited_for(self):
        """Every server thinks longer than greeting.timeout, as with a greet delay of 20 s: no one is refused."""
        with contextlib.ExitStack() as stack:
            servers = [
                stack.enter_context(LoadServer(name=f"be{n}", faults=["delay=1500"])) for n in (1, 2, 3)
            ]
            greeting = {"timeout": "500ms", "budget": "20s", "tries": 3}
            config = balanced(
                {"smtp": ("smtp", [server.endpoint for server in servers])},
                service={"greeting": greeting},
            )
            poised = stack.enter_context(Poised(config))
            report = mail_load.run("smtp", poised.endpoint("smtp"), rate=RATE / 3, duration=3)
            self.assertEqual({}, mail_load.failures(report))
            refused = [line for line in poised.events("session") if line.get("refusal")]
            self.assertEqual([], refused)

    def test_a_greeting_timeout_below_the_connects_holds(self):
        """The next server is asked after greeting.timeout, not only when the connect's own time is over."""
        with bad_server.BadServer(bad_server.silence) as silent, LoadServer() as good:
            config = balanced(
                {"smtp": ("smtp", [silent.endpoint, good.endpoint])},
                service={"greeting": {"timeout": "500ms", "budget": "60s"}, "timeouts": {"connect": "30s"}},
            )
            with Poised(config) as poised:
                for _ in range(3):
                    with socket.create_connection(poised.endpoint("smtp"), 15) as client:
                        self.assertEqual(b"220", client.recv(4096)[:3])
                        client.sendall(b"QUIT\r\n")
                tried = [line["tries"] for line in poised.sessions(at_least=3)]
            self.assertIn("be1:silent,be2:ok", tried)

    def test_a_silent_server_never_keeps_more_than_max_pending_waiting(self):
        """Clients come a few at a time, so that the good server always has fewer waiting; half of their turns are the
        silent one's, and it gets 32 of them."""
        clients, silent_most = 200, 32
        with bad_server.BadServer(bad_server.silence) as silent, LoadServer() as good:
            config = balanced(
                {"smtp": ("smtp", [silent.endpoint, good.endpoint])},
                workers=2,
                service={"greeting": {"timeout": "60s", "budget": "100s"}},
                shutdown={"drain": "0s"},
            )
            with Poised(config) as poised, contextlib.ExitStack() as stack:
                waiting = []
                for _ in range(clients // 10):
                    waiting += [
                        stack.enter_context(socket.create_connection(poised.endpoint("smtp"), 10))
                        for _ in range(10)
                    ]
                    processes.wait_until(
                        lambda: self.ungreeted(waiting) <= silent_most,
                        within=5,
                        what="all but those at the silent server are greeted",
                    )
                self.assertEqual(silent_most, self.ungreeted(waiting))
                self.assertEqual(silent_most, silent.accepted)

    @staticmethod
    def ungreeted(clients):
        """Takes those that were greeted off the list; how many are left."""
        readable = select.select(clients, [], [], 0)[0]
        for client in readable:
            if not client.recv(4096).startswith(b"220"):
                raise AssertionError("a client got something else than a greeting")
            clients.remove(client)
        return len(clients)

    def test_a_server_that_rejects_its_probe_as_well_is_taken_out(self):
        """554 to everybody: some clients read it, then the probes have seen it too and nobody meets it any more."""
        with LoadServer(name="sick", faults=["greet=554"]) as sick, LoadServer(name="good") as good:
            probe = {"type": "smtp", "interval": "1s", "fast_interval": "200ms", "fall": 3, "deep": "off"}
            config = balanced(
                {"smtp": ("smtp", [sick.endpoint, good.endpoint])}, pool={"probe": probe}, **QUICK
            )
            with Poised(config) as poised:
                poised.wait_for(
                    lambda line: "smtp/be1" in line and "down" in line, within=20, what="be1 down"
                )
                processes.wait_until(
                    lambda: mail_load.failures(
                        mail_load.run("smtp", poised.endpoint("smtp"), rate=RATE, duration=0.3)
                    )
                    == {},
                    within=5,
                )
                report = mail_load.run("smtp", poised.endpoint("smtp"), rate=RATE, duration=1)
                self.assertEqual({}, mail_load.failures(report))
                self.assertEqual({"good"}, set(report["sessions_by_server"]))

    # A real sender, whose queue remembers

    def test_a_real_senders_queue_arrives_once(self):
        """A sending Postfix empties its queue through us into two real servers and one that says 421."""
        count = max(20, round(150 * SCALE))
        servers = mailpool.MailPool(count=3)
        sender, receivers = servers[0], servers.servers[1:]
        with LoadServer(name="sick", faults=["greet=421"]) as sick, contextlib.ExitStack() as stack:
            backends = [sick.endpoint, *(server.endpoint("smtp") for server in receivers)]
            # A Postfix may take a second to its greeting when it has to start fifty processes.
            poised = stack.enter_context(
                Poised(balanced({"smtp": ("smtp", backends)}, workers=2, shutdown={"drain": "3s"}))
            )
            host, port = poised.endpoint("smtp")
            sender.postconf("-e", f"virtual_transport=smtp:[{host}]:{port}")
            stack.enter_context(servers)
            with smtplib.SMTP(*sender.endpoint("smtp"), timeout=20) as client:
                for number in range(count):
                    message = f"Message-ID: <{number}@queue.test>\r\n\r\nHello.\r\n"
                    client.sendmail("sender@poise.test", [f"user{number % 5}@lab.test"], message)
            stored = processes.wait_until(
                lambda: (found := servers.stored()) and len(found) >= count and found,
                within=40,
                what=f"{count} messages delivered",
            )
            self.assertEqual({f"{number}@queue.test": 1 for number in range(count)}, stored)
            deferred = [l for l in sender.log("smtp").splitlines() if "status=deferred" in l]
            self.assertEqual([], deferred)
            # It keeps connections for more messages, so that the sessions' lines come later.
            processes.wait_until(
                lambda: any("be1:421" in line["tries"] for line in poised.events("session")),
                within=20,
                what="a session that met be1",
            )
            self.assertLessEqual({s["backend"] for s in poised.events("session")}, {"be2", "be3"})


if __name__ == "__main__":
    unittest.main()
