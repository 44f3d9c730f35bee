"""Many SMTP clients at once that know what became of each session."""

import dataclasses
import random
import smtplib
import threading
import time


@dataclasses.dataclass
class Result:
    """One session. `error` is None when all went well; `greeting` is None when none came."""

    identity: str
    greeting: str | None = None
    accepted: bool = False
    error: str | None = None


def session(endpoint, identity, *, timeout=30.0, pause=0.0):
    """connect, EHLO, MAIL, RCPT, DATA, QUIT, each after up to `pause` seconds."""
    result = Result(identity)
    client = smtplib.SMTP(timeout=timeout, local_hostname="client.poise.test")
    try:
        code, words = client.connect(*endpoint)
        if code != 220:
            result.error = f"greeted with {code} {words.decode()}"
            return result
        result.greeting = words.decode()

        def step(expected, what, reply):
            if reply[0] != expected:
                raise smtplib.SMTPException(f"{what}: {reply}")
            time.sleep(random.uniform(0, pause))

        step(250, "EHLO", client.ehlo())
        step(250, "MAIL", client.mail("sender@poise.test"))
        step(250, "RCPT", client.rcpt("reader@lab.test"))
        step(250, "DATA", client.data(f"Message-ID: <{identity}>\r\n\r\nHello.\r\n"))
        result.accepted = True
        step(221, "QUIT", client.quit())
    except (OSError, smtplib.SMTPException) as error:
        result.error = f"{type(error).__name__}: {error}"
    finally:
        client.close()
    return result


class Load:
    """`clients` threads, each with one session after the other, for the length of the with block."""

    def __init__(self, endpoint, *, clients=16, timeout=30.0, pause=0.02, name="load"):
        self.results = []
        self._endpoint = endpoint
        self._options = {"timeout": timeout, "pause": pause}
        self._name = name
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client):
        count = 0
        while not self._stopping.is_set():
            count += 1
            identity = f"{self._name}-{client}-{count}@poise.test"
            self.results.append(session(self._endpoint, identity, **self._options))

    def failed_before_greeting(self):
        return [r for r in self.results if r.error and not r.greeting]

    def failed_after_greeting(self):
        return [r for r in self.results if r.error and r.greeting]
