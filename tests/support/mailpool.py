"""Real Postfix and Dovecot servers on loopback: as many as wanted, nothing system-wide but the packages.

    with MailPool(count=3) as pool:
        for server in pool: ... server.address, server.smtp, server.imap, server.log("smtp")

Each server is one Postfix and one Dovecot on an address of its own. Any user, password "secret";
USER@lab.test lands in that server's maildir for USER, which its Dovecot serves. nosuch@lab.test is
refused with 550, defer@lab.test with 450, anything@discard.test is thrown away. Must be root.

    python3 mailpool.py [COUNT]      keeps a pool up until Ctrl-C, for work by hand
"""

import collections
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import typing

import addresses
import processes

DOMAIN = "lab.test"
PASSWORD = "secret"
_START_S = 120 if "POISE_GUEST" in os.environ else 20  # a guest's processor may be emulated
_MAIL_UID = 5000  # owns the maildirs; no such user needs to exist

# Ports, the same on every server's own address. *_proxy ports demand a PROXY header.
PORTS = {
    "smtp": 2525,
    "smtps": 2465,
    "submission": 2587,
    "postscreen": 2527,
    "smtp_proxy": 2526,
    "lmtp": 2424,
    "lmtp_proxy": 2425,
    "imap": 2143,
    "imaps": 2993,
    "imap_proxy": 2144,
    "imaps_proxy": 2994,
    "pop3": 2110,
    "pop3s": 2995,
    "pop3_proxy": 2111,
    "sieve": 2419,
    "sieve_proxy": 2420,
}


class Host(typing.NamedTuple):
    """A network namespace that servers live in, reached at `address`; they listen on all addresses there, and
    logins share processes: it may be a guest's, whose processor is slow. `wrap`: the command that runs another one
    inside."""

    address: str
    wrap: list


class MailServer:
    """One Postfix and one Dovecot; made by MailPool."""

    def __init__(self, directory, name, certificate, stock, host=None):
        self.name = name
        self.address = host.address if host else addresses.own_address()
        self._listen = None if host else self.address
        self._wrap = host.wrap if host else []
        self.directory = directory / name
        self.mail = self.directory / "mail"
        self._certificate = certificate
        self._stock = stock
        self._postfix = None
        self._dovecot = None
        self._write_postfix()
        self._write_dovecot()

    def __getattr__(self, name):
        if name in PORTS:
            return f"{self.address}:{PORTS[name]}"
        raise AttributeError(name)

    def endpoint(self, service):
        return self.address, PORTS[service]

    def log(self, daemon):
        """All that the daemon, "smtp" or "imap", has logged."""
        folder = {"smtp": "postfix", "imap": "dovecot"}[daemon]
        path = self.directory / folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def maildir(self, user):
        return self.mail / user

    def messages(self, user=None):
        """Paths of the messages delivered, to one user or to all."""
        users = [self.maildir(user)] if user else [p for p in self.mail.iterdir() if p.is_dir()]
        return [p for u in users for part in ("new", "cur") for p in (u / part).glob("*")]

    def stored(self):
        """Counter of the Message-IDs in all its maildirs."""
        found = collections.Counter()
        for path in self.messages():
            for line in path.read_text(errors="replace").splitlines():
                if line.startswith("Message-ID: <"):
                    found[line[len("Message-ID: <") : -1]] += 1
        return found

    def put(self, user, name, content):
        """Lays a message into a maildir, as a delivery would. Lines end in CRLF: it is served as it is."""
        folder = self.maildir(user)
        for part in ("tmp", "new", "cur"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "cur" / f"{name}:2,S").write_bytes(content)
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, _MAIL_UID, _MAIL_UID)

    def postconf(self, *arguments):
        """postconf(1) on its Postfix, whose answer is returned. What it changes holds from the next start on."""
        command = ["postconf", "-c", str(self.directory / "postfix/etc"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    # Running it

    def start(self):
        self.start_imap()
        self.start_smtp()

    def start_smtp(self):
        # Without -w the master stays our child and leads the group that all Postfix processes live in.
        etc = str(self.directory / "postfix/etc")
        self._postfix = self._run(
            "postfix",
            ["/usr/lib/postfix/sbin/master", "-c", etc],
            env=dict(os.environ, MAIL_CONFIG=etc, MAIL_LOGTAG="postfix"),
        )

    def start_imap(self):
        config = str(self.directory / "dovecot/dovecot.conf")
        self._dovecot = self._run("dovecot", ["dovecot", "-F", "-c", config])

    def _run(self, folder, command, **options):
        with open(self.directory / folder / "start.log", "wb") as log:
            return processes.start(
                [*self._wrap, *command],
                stdout=subprocess.DEVNULL,
                stderr=log,
                **options,
            )

    def wait_ready(self, services):
        for service in services:
            in_postfix = service in ("smtp", "submission", "postscreen")
            daemon = self._postfix if in_postfix else self._dovecot

            def accepts(service=service, daemon=daemon):
                if daemon.poll() is not None:
                    raise RuntimeError(f"{self.name} {service} did not start:\n{self._why()}")
                with socket.socket() as probe:
                    probe.settimeout(1)
                    return probe.connect_ex(self.endpoint(service)) == 0

            try:
                processes.wait_until(accepts, within=_START_S, what=f"{self.name} {service} accepts")
            except AssertionError as error:
                raise RuntimeError(f"{error}\n{self._why()}") from None

    def _why(self):
        logs = [
            self.directory / d / f for d in ("postfix", "dovecot") for f in ("start.log", "log")
        ]
        return "\n".join(p.read_text(errors="replace")[-2000:] for p in logs if p.exists())

    def stop(self):
        for process in (self._postfix, self._dovecot):
            if process:
                processes.stop(process)
        self._postfix = self._dovecot = None

    def kill_smtp(self):
        """Dies as a crash would: every Postfix process at once, no goodbye."""
        processes.kill_group(self._postfix)

    def kill_imap(self):
        processes.kill_group(self._dovecot)

    # Their configuration

    def _write_postfix(self):
        home = self.directory / "postfix"
        spool = home / "spool"
        private = [
            "active",
            "bounce",
            "corrupt",
            "defer",
            "deferred",
            "flush",
            "hold",
            "incoming",
            "private",
            "saved",
            "trace",
        ]
        for folder in [
            "etc",
            "data",
            *(f"spool/{p}" for p in [*private, "maildrop", "public", "pid"]),
        ]:
            (home / folder).mkdir(parents=True)
        for folder in [home / "data", *(spool / p for p in private)]:
            shutil.chown(folder, "postfix")
            folder.chmod(0o700)
        for folder, mode in (("maildrop", 0o730), ("public", 0o710)):
            shutil.chown(spool / folder, "postfix", "postdrop")
            (spool / folder).chmod(mode)
        self.mail.mkdir()
        os.chown(self.mail, _MAIL_UID, _MAIL_UID)

        stock = (
            ""
            if self._stock
            else textwrap.dedent(
                """\
            mynetworks = 127.0.0.0/8 10.0.0.0/8
            smtpd_client_connection_count_limit = 0
            smtpd_client_connection_rate_limit = 0
            smtpd_peername_lookup = no
            """
            )
        )
        (home / "etc/main.cf").write_text(
            textwrap.dedent(
                f"""\
            compatibility_level = 3.6
            queue_directory = {spool}
            data_directory = {home}/data
            command_directory = /usr/sbin
            daemon_directory = /usr/lib/postfix/sbin
            meta_directory = /etc/postfix
            shlib_directory = /usr/lib/postfix
            mail_owner = postfix
            setgid_group = postdrop
            multi_instance_name = postfix-{self.name}
            multi_instance_enable = yes
            myhostname = {self.name}.{DOMAIN}
            mydomain = {DOMAIN}
            mydestination =
            inet_interfaces = all
            inet_protocols = all
            maillog_file = {home}/log
            maillog_file_prefixes = /
            smtpd_banner = $myhostname ESMTP {self.name}
            virtual_mailbox_domains = {DOMAIN}
            virtual_mailbox_maps = static:any
            virtual_transport = lmtp:unix:{self.directory}/dovecot/run/lmtp
            transport_maps = inline:{{ discard.test=discard: }}
            relay_domains = discard.test
            smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated reject_unauth_destination
            smtpd_recipient_restrictions = check_recipient_access inline:{{
                {{ nosuch@{DOMAIN} = 550 5.1.1 no such user }}, {{ defer@{DOMAIN} = 450 4.2.0 try later }} }}
            smtpd_tls_cert_file = {self._certificate}
            smtpd_tls_key_file = {self._certificate}
            smtpd_tls_security_level = may
            smtpd_sasl_type = dovecot
            smtpd_sasl_path = {self.directory}/dovecot/run/auth-smtp
            smtp_host_lookup = native
            smtp_dns_support_level = disabled
            message_size_limit = 52428800
            mailbox_size_limit = 0
            virtual_mailbox_limit = 0
            minimal_backoff_time = 5s
            maximal_backoff_time = 30s
            queue_run_delay = 5s
            alias_maps =
            alias_database =
            local_recipient_maps =
            """
            )
            + stock
        )

        on = f"{self._listen}:" if self._listen else ""
        proxied = "-o smtpd_upstream_proxy_protocol=haproxy -o smtpd_upstream_proxy_timeout=5s"
        (home / "etc/master.cf").write_text(
            textwrap.dedent(
                f"""\
            {on}{PORTS['smtp']} inet n - n - - smtpd
            {on}{PORTS['smtps']} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes -o syslog_name=postfix/smtps
            {on}{PORTS['smtp_proxy']} inet n - n - - smtpd {proxied} -o syslog_name=postfix/smtp_proxy
            {on}{PORTS['submission']} inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes -o smtpd_tls_auth_only=no
            {on}{PORTS['postscreen']} inet n - n - 1 postscreen
            smtpd pass - - n - - smtpd
            dnsblog unix - - n - 0 dnsblog
            tlsproxy unix - - n - 0 tlsproxy
            pickup unix n - n 60 1 pickup
            cleanup unix n - n - 0 cleanup
            qmgr unix n - n 300 1 qmgr
            tlsmgr unix - - n 1000? 1 tlsmgr
            rewrite unix - - n - - trivial-rewrite
            bounce unix - - n - 0 bounce
            defer unix - - n - 0 bounce
            trace unix - - n - 0 bounce
            verify unix - - n - 1 verify
            flush unix n - n 1000? 0 flush
            proxymap unix - - n - - proxymap
            proxywrite unix - - n - 1 proxymap
            smtp unix - - n - - smtp
            relay unix - - n - - smtp
            showq unix n - n - - showq
            error unix - - n - - error
            retry unix - - n - - error
            discard unix - - n - - discard
            local unix - n n - - local
            virtual unix - n n - - virtual
            lmtp unix - - n - - lmtp
            anvil unix - - n - 1 anvil
            scache unix - - n - 1 scache
            postlog unix-dgram n - n - 1 postlogd
            """
            )
        )

    def _write_dovecot(self):
        home = self.directory / "dovecot"
        (home / "run").mkdir(parents=True)
        (home / "state").mkdir()

        def listener(name, *options):
            port = f"port = {PORTS[name]}"
            return f"inet_listener {name} {{\n" + "\n".join([port, *options]) + "\n}\n"

        # A wrong password would make every login from that address wait: behind a balancer that is everybody.
        relaxed = (
            ""
            if self._stock
            else textwrap.dedent(
                """\
            auth_failure_delay = 0
            mail_max_userip_connections = 0
            service anvil {
              unix_listener anvil-auth-penalty {
                mode = 0
              }
            }
            """
            )
        )
        (home / "dovecot.conf").write_text(
            textwrap.dedent(
                f"""\
            instance_name = {self.name}
            hostname = {self.name}.{DOMAIN}
            base_dir = {home}/run
            state_dir = {home}/state
            log_path = {home}/log
            listen = {self._listen or "*, ::"}
            protocols = imap pop3 lmtp sieve
            login_greeting = {self.name} ready.
            disable_plaintext_auth = no
            auth_mechanisms = plain login
            ssl = yes
            ssl_cert = <{self._certificate}
            ssl_key = <{self._certificate}
            haproxy_trusted_networks = 127.0.0.0/8 10.0.0.0/8
            haproxy_timeout = 3s
            mail_location = maildir:{self.mail}/%n
            first_valid_uid = 500
            passdb {{
              driver = static
              args = password={PASSWORD}
            }}
            userdb {{
              driver = static
              args = uid={_MAIL_UID} gid={_MAIL_UID} home={self.mail}/%n allow_all_users=yes
            }}
            service auth {{
              unix_listener auth-smtp {{
                mode = 0666
              }}
            }}
            service stats {{
              unix_listener stats-writer {{
                mode = 0666
              }}
            }}
            """
            )
            + "service imap-login {\n"
            + ("" if self._listen else "service_count = 0\n")
            + listener("imap")
            + listener("imaps", "ssl = yes")
            + listener("imap_proxy", "haproxy = yes")
            + listener("imaps_proxy", "ssl = yes", "haproxy = yes")
            + "}\n"
            + "service pop3-login {\n"
            + listener("pop3")
            + listener("pop3s", "ssl = yes")
            + listener("pop3_proxy", "haproxy = yes")
            + "}\n"
            + "service lmtp {\nunix_listener lmtp {\nmode = 0666\n}\n"
            + listener("lmtp")
            + listener("lmtp_proxy", "haproxy = yes")
            + "}\n"
            + "service managesieve-login {\n"
            + listener("sieve")
            + listener("sieve_proxy", "haproxy = yes")
            + "}\n"
            + relaxed
        )


class MailPool:
    """`count` servers in `directory` (one of its own when not given), up and accepting inside the with block.

    stock: leave Postfix's and Dovecot's limits per client address as they come, which a balancer runs into first.
    hosts: one Host a server, instead of `count` addresses of loopback.
    services: what is waited for at the start, of PORTS.
    """

    def __init__(
        self,
        count=3,
        directory=None,
        stock=False,
        hosts=None,
        services=("smtp", "submission", "postscreen", "lmtp", "imap", "pop3", "sieve"),
    ):
        if os.getuid() != 0:
            raise RuntimeError("real mail servers change users: run this as root")
        self._owned = directory is None
        self._services = services
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix="poise-mail-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)  # the daemons' own users have to get in
        self.servers = []
        try:
            certificate = self._make_certificate()
            self.servers = [
                MailServer(self.directory, f"be{i}", certificate, stock, host)
                for i, host in enumerate(hosts or [None] * count, 1)
            ]
        except BaseException:
            self._remove()
            raise

    def _make_certificate(self):
        pem = self.directory / "certificate.pem"  # key and certificate in one file
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "30",
                "-subj",
                f"/CN=mail.{DOMAIN}",
                "-addext",
                f"subjectAltName=DNS:mail.{DOMAIN},DNS:localhost,IP:127.0.0.1",
                "-keyout",
                str(pem),
                "-out",
                str(pem) + ".crt",
            ],
            check=True,
            capture_output=True,
        )
        with pem.open("ab") as file:
            file.write(pem.with_suffix(".pem.crt").read_bytes())
        pem.chmod(0o600)
        return pem

    def __enter__(self):
        try:
            for server in self.servers:
                server.start()
            for server in self.servers:
                server.wait_ready(self._services)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.stop()
        self._remove()

    def _remove(self):
        if self._owned:
            shutil.rmtree(self.directory, ignore_errors=True)

    def stored(self):
        """Counter of the Message-IDs in all maildirs of all servers."""
        return sum((server.stored() for server in self.servers), collections.Counter())

    def __iter__(self):
        return iter(self.servers)

    def __getitem__(self, index):
        return self.servers[index]

    def __len__(self):
        return len(self.servers)


def main():
    with MailPool(int(sys.argv[1]) if len(sys.argv) > 1 else 3) as pool:
        for server in pool:
            print(server.name, " ".join(f"{name}={getattr(server, name)}" for name in PORTS))
        print(f"directory {pool.directory}; Ctrl-C ends it", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
