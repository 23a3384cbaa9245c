"""Signals as one more thing to read.

A Python signal handler runs between two instructions of the main program, and a poll that it interrupts goes on waiting
(PEP 475). So the handler does nothing: the interpreter also writes the signal's number to a socket, and a task that
reads from it is woken like by any other input.
"""

from __future__ import annotations

import signal
import socket

from .stream import recv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .traps import Coroutine


class Signals:
    """Catches the signals `numbers` from now until close(). Only in the main thread, and one such object at a time."""

    def __init__(self, *numbers: int) -> None:
        self.reader, self.writer = socket.socketpair()
        self.reader.setblocking(False)
        self.writer.setblocking(False)
        self.wakeup_before = signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
        self.before = {number: signal.signal(number, lambda *_: None) for number in numbers}

    def wait(self) -> Coroutine[list[int]]:
        """COROUTINE. Returns the numbers of the signals that have come since the last call, at least one."""
        return list((yield from recv(self.reader, 64)))

    def close(self) -> None:
        """Put everything back as it was. Nobody may be waiting any more."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.wakeup_before)
        self.reader.close()
        self.writer.close()
