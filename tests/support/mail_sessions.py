"""Mail clients in a process of their own, in another network namespace if wanted: whole sessions, and held ones.

    with MailSessions("cl") as clients:
        clients.smtp(target, 9)      # {"be1": 3, ...}: messages sent, by the server that greeted
        clients.imap(target, 9)      # logins
        clients.hold(target, 6)      # ["be1", "be2", ...]: SMTP sessions that stay open
        clients.noop()               # ["be1", None, ...]: who still answers; None: the session is broken
        clients.quit()               # the same, with a goodbye
        clients.first_line(target)   # what a client reads first; "" when it can't connect
"""

import collections
import imaplib
import json
import os
import pathlib
import smtplib
import socket
import subprocess
import sys

import processes

_TIMEOUT_S = 120 if "POISE_GUEST" in os.environ else 20  # a guest's processor may be emulated
_BODY = "Subject: through the kernel\r\n\r\n" + "a line of a message\r\n" * 400  # more than one segment


class MailSessions:
    """The test's end of it."""

    def __init__(self, namespace=None):
        self._wrap = ["ip", "netns", "exec", namespace] if namespace else []

    def __enter__(self):
        self._process = processes.start(
            [*self._wrap, sys.executable, "-B", str(pathlib.Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        processes.kill_group(self._process)
        self._process.stdin.close()
        self._process.stdout.close()

    def _ask(self, *words):
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '["error", "the clients ended"]')
        if answer[0] == "error":
            raise AssertionError(f"{' '.join(map(str, words))}: {answer[1]}")
        return answer[1]

    def smtp(self, target, count):
        return self._ask("smtp", *target, count)

    def imap(self, target, count):
        return self._ask("imap", *target, count)

    def hold(self, target, count):
        return self._ask("hold", *target, count)

    def noop(self):
        return self._ask("noop")

    def quit(self):
        return self._ask("quit")

    def first_line(self, target):
        return self._ask("first_line", *target)


# The process's end


def _greeted(text):
    """mailpool's servers name themselves: "ESMTP be1", "be1 ready."."""
    return next(word for word in text.decode().split() if word.startswith("be") and "." not in word)


class _Session(smtplib.SMTP):
    def __init__(self, host, port):
        super().__init__(timeout=_TIMEOUT_S)
        self.name = _greeted(self.connect(host, port)[1])


def _smtp(host, port, count):
    seen = collections.Counter()
    for _ in range(count):
        with _Session(host, port) as session:
            session.sendmail("a@lab.test", ["bob@discard.test"], _BODY)
            seen[session.name] += 1
    return seen


def _imap(host, port, count):
    seen = collections.Counter()
    for _ in range(count):
        session = imaplib.IMAP4(host, port, timeout=_TIMEOUT_S)
        seen[_greeted(session.welcome)] += 1
        session.login("bob", "secret")
        session.select()
        session.logout()
    return seen


_held = []


def _hold(host, port, count):
    fresh = [_Session(host, port) for _ in range(count)]
    for session in fresh:
        session.ehlo()
    _held.extend(fresh)
    return [session.name for session in fresh]


def _each(step):
    answers = []
    for session in _held:
        try:
            answers.append(session.name if step(session)[0] in (221, 250) else None)
        except (OSError, smtplib.SMTPException):
            answers.append(None)
    return answers


def _quit():
    answers = _each(lambda session: session.quit())
    _held.clear()
    return answers


def _first_line(host, port):
    try:
        with socket.create_connection((host, port), _TIMEOUT_S) as client:
            return client.makefile("rb").readline().decode().rstrip()
    except ConnectionError:
        return ""


_COMMANDS = {
    "first_line": _first_line,
    "smtp": _smtp,
    "imap": _imap,
    "hold": _hold,
    "noop": lambda: _each(lambda session: session.noop()),
    "quit": _quit,
}


def _main():
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            answer = ["ok", _COMMANDS[command](*arguments)]
        except (OSError, smtplib.SMTPException, imaplib.IMAP4.error) as error:
            answer = ["error", f"{type(error).__name__}: {error}"]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main()
