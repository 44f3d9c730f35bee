"""Child processes that end with the test, however the test ends."""

import os
import signal
import subprocess
import sys
import time

# Reads "+GROUP" and "-GROUP" lines. When the test is gone, however it went, its end of the pipe closes, and the groups
# that are left are killed. (The kernel's own PR_SET_PDEATHSIG is lost by daemons that change their user.)
_GUARD = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
_guard = None


def _tell_guard(words):
    global _guard
    if _guard is None:
        _guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
    _guard.stdin.write(words + "\n")
    _guard.stdin.flush()


def start(command, **options):
    """Popen in a process group of its own, which is gone when the test is, whatever ends the test."""
    options.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen(command, start_new_session=True, **options)
    _tell_guard(f"+{process.pid}")
    return process


def stop(process, *, grace=5.0):
    """SIGTERM to the process, SIGKILL to its whole group once it is gone or `grace` seconds are over."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
    kill_group(process)
    return process.returncode


def kill_group(process):
    """SIGKILL to everything the process started; the group's id can't be reused while a member lives."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    _tell_guard(f"-{process.pid}")


def cpu_seconds(pid):
    """User and system time of the process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_until(condition, *, within=10.0, what="the condition"):
    """Returns what `condition()` returned once it is true; AssertionError after `within` seconds."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not so within {within:g} s: {what}")
        time.sleep(0.01)
