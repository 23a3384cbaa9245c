"""Signals as one more thing to read.

A Python signal handler runs between two instructions of the main program, and a poll that it interrupts goes on waiting
(PEP 475). So the interpreter is told to write to a socket when a signal comes, and a task that reads from that socket
is woken as by any other input. But not every byte there stands for a wanted signal: other signals can have handlers,
and a forked child's signals come to the same socket. So our handler notes which signals have come to this process.
"""

from __future__ import annotations

import atexit
import os

from .bare import signal, socket
from .stream import recv
from .traps import Coroutine


class Signals:
    """Catches the signals `numbers` from now until close(). Only in the main thread, and one such object at a time.

    A signal that is ignored stays ignored: nohup, or another program that started this one, wants it so.
    """

    def __init__(self, *numbers: int) -> None:
        self.caught: dict[int, None] = {}  # signals that wait() has not returned yet
        self.replaced = {}  # the handlers to restore, by signal
        self.reader, self.writer = socket.socketpair()
        self.reader.setblocking(False)
        self.writer.setblocking(False)
        self.wakeup_before = signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
        os.register_at_fork(before=self.hold, after_in_parent=self.release, after_in_child=self.close_in_child)
        # The functions registered above keep this object until the interpreter has ended. Python 3.9 crashes if it has
        # to close sockets so late.
        atexit.register(self.close)
        try:
            for number in numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self.replaced[number] = signal.signal(number, self.catch)
        except (OSError, ValueError):
            self.close()  # there is no such signal, or it cannot be caught
            raise

    def catch(self, number: int, frame: object) -> None:
        if number not in self.caught:
            self.caught[number] = None
            try:
                self.writer.send(bytes([number]))  # in case the interpreter's own write has failed
            except OSError:
                pass  # the socket is full, which wakes the task as well

    def wait(self) -> Coroutine[list[int]]:
        """COROUTINE. Returns the numbers of the signals that have come since the last call, at least one, each once."""
        data = yield from recv(self.reader, 4096)
        while data and not self.caught:  # another signal, or a signal to another process
            data = yield from recv(self.reader, 4096)
        caught, self.caught = self.caught, {}
        return list(caught)

    def dismiss(self, number: int) -> None:
        """Take the bytes of this signal out of the socket, so that they wake no task. Those of other signals stay."""
        try:
            self.writer.send(self.reader.recv(4096).replace(bytes([number]), b""))
        except OSError:
            pass  # the socket is empty

    def close(self) -> None:
        """Restore the handlers. Call this when no task waits here. Signals that were not returned stay in `caught`.

        Errors are ignored: nobody could act on them, and even a close() that fails has closed the descriptor.
        """
        for number, handler in self.replaced.items():
            try:
                signal.signal(number, handler or signal.SIG_DFL)
            except OSError:
                pass
        self.replaced.clear()
        if self.reader.fileno() >= 0:
            signal.set_wakeup_fd(self.wakeup_before)
        for sock in self.reader, self.writer:
            try:
                sock.close()
            except OSError:
                pass

    # A forked child gets the handlers that were there before this object. A signal that comes during a fork is held
    # back until the fork is over.

    def hold(self) -> None:
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, self.replaced)

    def release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def close_in_child(self) -> None:
        self.close()
        self.release()
