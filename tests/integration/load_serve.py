"""poise-load's servers with real clients: Python's libraries, swaks, curl, fetchmail, with TLS and a PROXY header.

Each client must be content, and the server's counts must be what the clients did.
"""

import imaplib
import json
import os
import pathlib
import poplib
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import unittest

import processes
from poised import BIN

PROTOCOLS = ["smtp", "submission", "imap", "pop3", "smtps", "imaps", "pop3s"]


class Serving:
    """`poise-load serve`, one server for each protocol; `end()` gives its counts by protocol."""

    def __init__(self, protocols, *options):
        self.folder = tempfile.TemporaryDirectory()
        self.json = pathlib.Path(self.folder.name) / "servers.json"
        command = [BIN / "poise-load", "serve", "--json", self.json, *options]
        for protocol in protocols:
            command += ["--protocol", protocol, "--listen", "127.0.0.1:0", "--name", f"load-{protocol}"]
        self.process = processes.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port = {}
        for _ in protocols:
            _, address, _, protocol = self.process.stdout.readline().split()
            self.port[protocol] = int(address.rpartition(":")[2])

    def end(self):
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=10)
        assert self.process.returncode == 0, out + err
        counts = {s["protocol"]: s for s in json.loads(self.json.read_text())["servers"]}
        self.folder.cleanup()
        return counts


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class RealClients(unittest.TestCase):
    def test_pythons_libraries_with_tls_either_way(self):
        serving = Serving(PROTOCOLS, "--starttls")
        port = serving.port
        for name in ("smtp", "submission"):
            with smtplib.SMTP("127.0.0.1", port[name], timeout=10) as client:
                client.starttls(context=unverified())
                if name == "submission":
                    client.login("user", "secret")
                client.sendmail("a@b.test", ["c@d.test", "e@d.test"], b"Subject: x\r\n\r\n" + b".dots\r\n" * 20000)
        with smtplib.SMTP_SSL("127.0.0.1", port["smtps"], timeout=10, context=unverified()) as client:
            client.login("user", "secret")
            client.sendmail("a@b.test", "c@d.test", b"Subject: x\r\n\r\nbody\r\n")
        for client in (
            imaplib.IMAP4("127.0.0.1", port["imap"], timeout=10),
            imaplib.IMAP4_SSL("127.0.0.1", port["imaps"], timeout=10, ssl_context=unverified()),
        ):
            if "STARTTLS" in client.capabilities:
                client.starttls(unverified())
            client.login("user", "secret")
            self.assertEqual(client.select()[1], [b"10"])
            self.assertIn(b"Message-ID", client.fetch("3", "(BODY[])")[1][0][1])
            client.logout()
        clear = poplib.POP3("127.0.0.1", port["pop3"], timeout=10)
        clear.stls(unverified())
        for client in (clear, poplib.POP3_SSL("127.0.0.1", port["pop3s"], timeout=10, context=unverified())):
            client.user("user")
            client.pass_("secret")
            self.assertEqual(client.stat()[0], 10)
            self.assertGreater(len(client.retr(1)[1]), 10)
            client.quit()
        counts = serving.end()
        for protocol in PROTOCOLS:
            self.assertEqual(counts[protocol]["tls"], 1, protocol)
            self.assertEqual(counts[protocol]["finished"], 1, protocol)
            mail = "messages" if protocol in ("smtp", "submission", "smtps") else "served"
            self.assertEqual(counts[protocol][mail], 1, protocol)

    def test_swaks_and_curl(self):
        serving = Serving(PROTOCOLS, "--starttls", "--password", "p")
        there = {protocol: f"127.0.0.1:{port}" for protocol, port in serving.port.items()}
        words = ["--to", "c@d.test", "--from", "a@b.test"]
        self.succeeds("swaks", "--server", there["smtp"], *words, "--tls", "--pipeline")
        login = ["--auth", "PLAIN", "--auth-user", "u", "--auth-password", "p"]
        self.succeeds("swaks", "--server", there["submission"], *words, *login)
        self.succeeds("swaks", "--server", there["smtps"], *words, *login, "--tls-on-connect")
        curl = ["curl", "-sk", "--max-time", "20"]
        with tempfile.NamedTemporaryFile("w", suffix=".eml") as message:
            message.write("Subject: x\r\n\r\nbody\r\n")
            message.flush()
            send = ["--mail-from", "a@b.test", "--mail-rcpt", "c@d.test", "-T", message.name]
            self.succeeds(*curl, *send, "--ssl-reqd", "-u", "u:p", f"smtp://{there['submission']}")
            self.succeeds(*curl, "--ssl-reqd", "-u", "u:p", "-T", message.name, f"imap://{there['imap']}/INBOX")
        self.succeeds(*curl, "--ssl-reqd", f"imap://u:p@{there['imap']}/INBOX;MAILINDEX=2")
        self.succeeds(*curl, f"pop3s://u:p@{there['pop3s']}/1")
        counts = serving.end()
        self.assertEqual({p: counts[p]["messages"] for p in ("smtp", "submission", "smtps", "imap")},
                         {"smtp": 1, "submission": 2, "smtps": 1, "imap": 1})
        self.assertEqual((counts["imap"]["served"], counts["pop3s"]["served"]), (1, 1))
        tls = {"smtp": 1, "submission": 1, "smtps": 1, "imap": 2, "pop3s": 1}
        self.assertEqual({p: counts[p]["tls"] for p in tls}, tls)

    def test_fetchmail_takes_all_mail_and_what_it_deletes_is_gone_for_it(self):
        for protocol in ("pop3", "imap"):
            with self.subTest(protocol=protocol), tempfile.TemporaryDirectory() as home:
                serving = Serving([protocol], "--password", "p", "--messages", "5")
                taken = pathlib.Path(home) / "taken"
                config = pathlib.Path(home) / "fetchmailrc"
                config.write_text(
                    f'poll 127.0.0.1 service {serving.port[protocol]} protocol {protocol} auth password timeout 15\n'
                    f'  user "u" password "p" sslproto "" fetchall mda "cat >>{taken}"\n'
                )
                config.chmod(0o600)
                environment = dict(os.environ, HOME=home, FETCHMAILHOME=home)
                self.succeeds("fetchmail", "-v", "--nosyslog", "-f", str(config), env=environment)
                lines = taken.read_text(errors="replace").splitlines()
                ids = [line for line in lines if line.startswith("Message-ID:")]
                self.assertEqual(ids, [f"Message-ID: <{n}.mailbox@poise-load.test>" for n in range(1, 6)])
                counts = serving.end()[protocol]
                self.assertEqual((counts["served"], counts["finished"], counts["broken"]), (5, 1, 0))

    def test_managesieve_with_the_probe_and_our_own_client(self):
        serving = Serving(["managesieve"], "--starttls", "--password", "secret")
        address = f"127.0.0.1:{serving.port['managesieve']}"
        for tls in ("none", "starttls"):
            self.succeeds(BIN / "poised", "--probe", address, "--type", "managesieve", "--tls", tls)
        words = ["--protocol", "managesieve", "--target", address, "--sessions", "20", "--clients", "4"]
        self.succeeds(BIN / "poise-load", "run", *words, "--auth", "--do", "noop*2", "--tls", "starttls")
        counts = serving.end()["managesieve"]
        self.assertEqual((counts["sessions"], counts["finished"], counts["tls"]), (22, 22, 21))

    def succeeds(self, *command, **options):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=40, **options)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_proxy_header_in_front(self):
        serving = Serving(["smtp"], "--proxy")
        for header, answer in (
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 25\r\n", b"220 "),
            (b"EHLO without\r\n", b""),
        ):
            with socket.create_connection(("127.0.0.1", serving.port["smtp"]), timeout=10) as client:
                client.sendall(header)
                self.assertEqual(client.recv(4), answer)
        counts = serving.end()["smtp"]
        self.assertEqual((counts["proxied"], counts["proxy_bad"]), (1, 1))

    def test_failure_at_its_time_and_recovery(self):
        serving = Serving(["smtp"], "--at", "0.5s:stop", "--at", "1s:start")
        words = ["--target", f"127.0.0.1:{serving.port['smtp']}", "--rate", "100", "--duration", "2s"]
        command = [BIN / "poise-load", "run", "--json", "-", *words, "--fail-if", "errors==0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertGreater(report["failures"]["refused"], 20)
        self.assertGreater(report["sessions"]["ok"], 100)
        self.assertEqual(report["sessions"]["ok"] + report["sessions"]["failed"], 200)
        self.assertEqual(serving.end()["smtp"]["messages"], report["submits"])


if __name__ == "__main__":
    unittest.main()
