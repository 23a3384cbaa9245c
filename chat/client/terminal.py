"""stdin and stdout as a terminal: its mode, its size, and what is written to it."""

from __future__ import annotations

import os
import signal
import termios
import time

from loop import writable

from ..stdout import PORTION, standard_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loop.traps import Coroutine

PASTE_ON, PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"  # bracketed paste: the terminal marks what is pasted
RESET = b"\x1b[m\x1b[?7h" + PASTE_OFF  # also ends a style, and turns wrapping on again
PATIENCE = 0.5  # seconds for a terminal to take what write_at_once() writes


class Terminal:
    """Between take() and give_back(), keys come one by one and are not echoed. write() works with any stdout."""

    def __init__(self) -> None:
        self.output = standard_output()
        self.before: list[Any] | None = None  # the mode before take(), for give_back()
        self.rest = memoryview(b"")  # what is to be written and was not taken yet

    def interactive(self) -> bool:
        """Whether stdin and stdout are a terminal whose cursor can be moved."""
        return os.isatty(0) and os.isatty(1) and os.environ.get("TERM", "dumb") != "dumb"

    def size(self) -> tuple[int, int]:
        """Columns and rows, at least 2 of each. Some terminals do not know, and say 0."""
        try:
            columns, rows = os.get_terminal_size(1)
        except OSError:
            columns = rows = 0
        return max(columns or 80, 2), max(rows or 24, 2)

    def take(self) -> None:
        """Change the mode: Ctrl-C, Ctrl-S and Ctrl-Z become keys like others. To be called again after SIGCONT."""
        try:
            mode = termios.tcgetattr(0)
        except termios.error:
            return  # the terminal is gone; the next read will fail
        self.before = self.before or [*mode[:6], list(mode[6])]
        mode[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
        mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        set_mode(mode, termios.TCSADRAIN)
        self.write_at_once(PASTE_ON)

    def give_back(self, last: str) -> None:
        """Write `last`, and make the terminal what it was before take(). Never raises: the terminal may be gone."""
        if self.before is not None:
            written = self.write_at_once(last.encode("utf-8", "backslashreplace") + PASTE_OFF)
            if not written:
                self.write_at_once(RESET)  # a slow terminal may have space for that
            set_mode(self.before, termios.TCSADRAIN if written else termios.TCSANOW)  # TCSADRAIN waits for the output
            self.before = None

    def suspend(self, last: str, pid: int = 0) -> None:
        """Give the terminal back and stop; returns, with the terminal taken, when the job is continued.

        With `pid` 0, all processes of the job stop, as Ctrl-Z does in other programs.
        """
        self.give_back(last)
        # Without our handlers, the process stops in kill(), and the next line runs after SIGCONT. If SIGTSTP was
        # ignored at the start, there is nobody to continue us: the signal stays ignored.
        caught = [number for number in (signal.SIGTSTP, signal.SIGCONT) if signal.getsignal(number) != signal.SIG_IGN]
        before = [(number, signal.signal(number, signal.SIG_DFL)) for number in caught]
        os.kill(pid, signal.SIGTSTP)
        for number, handler in before:
            signal.signal(number, handler)
        self.take()

    def write(self, text: str) -> Coroutine[None]:
        """COROUTINE. Writes to stdout, whenever there is space. Raises OSError."""
        self.rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while self.rest:
            yield from writable(self.output)
            self.rest = self.rest[self.output.write(self.rest[:PORTION]) or 0 :]

    def write_at_once(self, last: bytes) -> bool:
        """Write the rest of what is being written, and `last`. Return whether all was taken within PATIENCE. Blocks."""
        rest, self.rest = memoryview(bytes(self.rest) + last), memoryview(b"")
        deadline = time.monotonic() + PATIENCE
        try:
            while rest:
                taken = self.output.write(rest[:PORTION]) or 0
                rest = rest[taken:]
                if not taken:
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(0.01)
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.output.close()


def set_mode(mode: list[Any], when: int) -> None:
    """Change the mode; keys typed meanwhile are kept."""
    for _ in range(10):  # in the background, this call stops the process, and fails when the process is continued
        try:
            return termios.tcsetattr(0, when, mode)
        except termios.error:
            pass
