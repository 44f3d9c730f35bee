"""A real Exim and a real OpenSMTPD on loopback, beside the machine's Postfix.

    with Exim() as server: ... server.endpoint, server.log()

Debian's mail transport agents conflict with each other, so each of these is installed, for real and once, into an
overlay of the machine's own root: it lives in a mount namespace of its own, nothing of it is seen on the machine.
The packages stand in packaging/dependencies, section [test-overlay]. Must be root.
"""

import fcntl
import os
import pathlib
import socket
import subprocess
import sys
import textwrap

import addresses
import processes

_STORE = pathlib.Path(os.environ.get("POISE_BUILD_DIR", "/var/tmp")) / "poise-overlays"

_ENTER = """
set -e
root=$1/root; mkdir -p "$1/upper" "$1/work" "$root"
mount -t overlay poise -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"; mkdir -p "$root/run/lock"
shift
exec chroot "$root" "$@"
"""

_INSTALL = """
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -q --no-install-recommends "$0" ||
  { apt-get update -q && apt-get install -y -q --no-install-recommends "$0"; }
"""


class OtherMta:
    """Runs `command()` in its overlay; the names of files are those inside."""

    package = ""

    def __init__(self):
        if os.getuid() != 0:
            raise RuntimeError("an overlay of the root file system needs root")
        self.address = addresses.own_address()
        self.endpoint = (self.address, 2525)
        self._overlay = _STORE / self.package
        self._process = None

    def _inside(self, *command):
        enter = ["unshare", "-m", "--propagation", "private", "bash", "-c", _ENTER, "_"]
        return [*enter, str(self._overlay), *command]

    def file(self, path):
        """Where a file that was written inside is found from outside."""
        return self._overlay / "upper" / path.lstrip("/")

    def _write(self, path, text):
        self.file(path).parent.mkdir(parents=True, exist_ok=True)
        self.file(path).write_text(text)

    def _install(self):
        if (self._overlay / "installed").exists():
            return
        done = subprocess.run(
            self._inside("bash", "-c", _INSTALL, self.package),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=150,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{self.package} did not install:\n{done.stdout[-3000:]}")
        (self._overlay / "installed").touch()

    def __enter__(self):
        self._overlay.mkdir(parents=True, exist_ok=True)
        self._lock = open(self._overlay / "lock", "w")  # one user of an overlay at a time
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._install()
            self.configure()
            self.output = self._overlay / "output"
            with open(self.output, "wb") as output:
                self._process = processes.start(
                    self._inside(*self.command()), stdout=output, stderr=output
                )
            self._wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_ready(self):
        def accepts():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.package} did not start:\n{self.log()[-3000:]}")
            with socket.socket() as probe:
                probe.settimeout(1)
                return probe.connect_ex(self.endpoint) == 0

        processes.wait_until(accepts, within=20, what=f"{self.package} accepts")

    def __exit__(self, *_):
        if self._process:
            processes.stop(self._process)
        self._lock.close()

    def log(self):
        return self.output.read_text(errors="replace")


class Exim(OtherMta):
    """As Debian configures it, on an address of its own, with STARTTLS switched on."""

    package = "exim4-daemon-light"

    def configure(self):
        subprocess.run(
            [
                *"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=exim.lab.test".split(),
                *("-keyout", self.file("/etc/exim4/exim.key")),
                *("-out", self.file("/etc/exim4/exim.crt")),
            ],
            check=True,
            capture_output=True,
        )
        self.file("/etc/exim4/exim.key").chmod(0o644)  # its own user reads it; it is a test's
        for name in ("mainlog", "paniclog", "rejectlog"):
            self.file(f"/var/log/exim4/{name}").unlink(missing_ok=True)

    def command(self):
        listen = f"[{self.address}]:{self.endpoint[1]}"
        options = ["-DMAIN_TLS_ENABLE=yes", "-oX", listen, "-oP", "/run/exim.pid"]
        return ["/usr/sbin/exim4", "-bdf", *options]

    def log(self):
        logs = [self.file(f"/var/log/exim4/{name}") for name in ("mainlog", "paniclog", "rejectlog")]
        texts = [path.read_text(errors="replace") for path in logs if path.exists()]
        return super().log() + "".join(texts)


class OpenSmtpd(OtherMta):
    """Plain only: Debian 12's build fails every TLS handshake with OpenSSL 3."""

    package = "opensmtpd"

    def configure(self):
        self._write(
            "/etc/poise-smtpd.conf",
            textwrap.dedent(
                f"""\
            listen on {self.address} port {self.endpoint[1]} hostname osmtpd.lab.test
            action "drop" maildir "/var/poise-mail" virtual {{ "@lab.test" = "root" }}
            match from any for domain "lab.test" action "drop"
            """
            ),
        )

    def command(self):
        return ["/usr/sbin/smtpd", "-d", "-f", "/etc/poise-smtpd.conf"]


if __name__ == "__main__":
    with {"exim": Exim, "opensmtpd": OpenSmtpd}[sys.argv[1]]() as server:
        print(server.endpoint, flush=True)
        input("Enter ends it: ")
        print(server.log())
