"""A scheduler built on raw generators: readable, sequential code for thousands of connections in one thread.

    from loop import Kernel, accept, recv, send

    def serve(kernel, listener):
        while True:
            for sock, address in (yield from accept(listener)):
                kernel.spawn(echo(kernel, sock), f"echo {address}")

    def echo(kernel, sock):
        try:
            while data := (yield from recv(sock, 4096)):
                yield from send(sock, data)
        finally:
            kernel.close(sock)

Read in this order: traps (what a task may ask for), task, waitqueue, kernel, poller, stream, signals, diagnose,
watchdog.

Most ideas are older. Tasks, traps and a kernel come from David Beazley's course on coroutines and from his curio. The
undo comes from early Tulip. Two ideas come from trio: only what can block is a coroutine, and errors guess what was
meant.
"""

from .diagnose import complain, explain, report, vital
from .kernel import Kernel
from .poller import EpollPoller, KqueuePoller, SelectPoller, default_poller
from .signals import Signals
from .stream import accept, connect, read, readable, recv, send, sleep, writable, write, write_some
from .task import Busy, Cancelled, Closed, Task, TimedOut, without_cancelled
from .traps import Coroutine, Park, ReadWait, Sleep, WriteWait
from .waitqueue import WaitQueue, join
from .watchdog import Watchdog

__all__ = [
    "Busy", "Cancelled", "Closed", "Coroutine", "EpollPoller", "Kernel", "KqueuePoller", "Park", "ReadWait",
    "SelectPoller", "Signals", "Sleep", "Task", "TimedOut", "WaitQueue", "Watchdog", "WriteWait", "accept", "complain",
    "connect", "default_poller", "explain", "join", "read", "readable", "recv", "report", "send", "sleep", "vital",
    "without_cancelled", "writable", "write", "write_some",
]  # fmt: skip
