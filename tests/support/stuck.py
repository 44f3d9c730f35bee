"""One thread of a program that stands still, as one does that is caught in an endless loop or a lost lock, while all
others go on: ptrace(2). Must be root."""

import ctypes
import os
import pathlib
import sys
import subprocess

import processes

_SEIZE, _INTERRUPT = 0x4206, 0x4207
_WALL = 0x40000000


class StuckThread:
    """`name`: as the thread calls itself. From the beginning of a with block to its end; the tracer is a process of its
    own, and when it is gone, the thread goes on."""

    def __init__(self, pid, name):
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        self.thread = next(int(each.name) for each in tasks if (each / "comm").read_text().strip() == name)

    def __enter__(self):
        self._tracer = processes.start([sys.executable, "-B", __file__, str(self.thread)], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        if self._tracer.stdout.readline() != "stopped\n":
            self.__exit__()
            raise AssertionError(f"thread {self.thread} can't be stopped")
        return self

    def __exit__(self, *_):
        processes.stop(self._tracer)
        self._tracer.stdin.close()
        self._tracer.stdout.close()


def _main():
    thread = int(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for request in (_SEIZE, _INTERRUPT):
        if libc.ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(thread, _WALL)
    print("stopped", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _main()
