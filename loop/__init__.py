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

Read in this order: traps (what a task may ask for), task, waitqueue, kernel, poller, stream, signals, diagnose.
"""

from .diagnose import complain as complain
from .diagnose import explain as explain
from .diagnose import report as report
from .kernel import Kernel as Kernel
from .poller import EpollPoller as EpollPoller
from .poller import KqueuePoller as KqueuePoller
from .poller import SelectPoller as SelectPoller
from .signals import Signals as Signals
from .stream import accept as accept
from .stream import connect as connect
from .stream import read as read
from .stream import readable as readable
from .stream import recv as recv
from .stream import send as send
from .stream import sleep as sleep
from .stream import writable as writable
from .stream import write as write
from .task import Busy as Busy
from .task import Cancelled as Cancelled
from .task import Closed as Closed
from .task import Task as Task
from .task import TimedOut as TimedOut
from .traps import Park as Park
from .traps import ReadWait as ReadWait
from .traps import Sleep as Sleep
from .traps import WriteWait as WriteWait
from .waitqueue import WaitQueue as WaitQueue
from .waitqueue import join as join
