"""The terminal: its mode, its size, and what is written to it."""

from __future__ import annotations

import os
import select
import signal
import termios

from .journal import standard_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PASTE_ON, PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"  # bracketed paste: the terminal marks what was not typed
PATIENCE = 1.0  # seconds for a terminal to take the last words


class Terminal:
    """stdin and stdout. Between take() and give_back() every key comes at once and is not echoed."""

    def __init__(self) -> None:
        self.output, self.most = standard_output()
        self.before: list[Any] | None = None  # the mode to go back to, while it is changed
        self.rest = b""  # what is being written and was not taken yet

    def interactive(self) -> bool:
        """Whether somebody sits on both ends, at a terminal where the cursor can be moved."""
        return os.isatty(0) and os.isatty(1) and os.environ.get("TERM", "dumb") != "dumb"

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            columns, rows = os.get_terminal_size(1)
        except OSError:
            columns = rows = 0
        return columns or 80, rows or 24

    def take(self) -> None:
        """Change the mode: keys come one by one, Ctrl-C, Ctrl-Z and Ctrl-S among them. Also after SIGCONT."""
        mode = termios.tcgetattr(0)
        if self.before is None:
            self.before = list(mode)
        mode[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
        mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        mode[6] = [*mode[6]]
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        set_mode(mode)
        self.put(PASTE_ON)

    def give_back(self, last: bytes) -> None:
        """Write `last`, and make the terminal what it was before take(). Never raises: it may be gone."""
        if self.before is not None:
            before, self.before = self.before, None
            self.put(last + PASTE_OFF)
            set_mode(before)

    def suspend(self, last: bytes) -> None:
        """Give the terminal back and stop, as Ctrl-Z does; returns when `fg` or SIGCONT goes on."""
        self.give_back(last)
        os.kill(0, signal.SIGTSTP)  # 0: all of this job, as the terminal would have done
        self.take()

    def put(self, data: bytes) -> None:
        """Write behind what is being written already; give up on a terminal that takes nothing for PATIENCE."""
        rest, self.rest = self.rest + data, b""
        try:
            while rest and select.select([], [self.output], [], PATIENCE)[1]:
                rest = rest[self.output.write(rest[: self.most]) or 0 :]
        except OSError:
            pass


def set_mode(mode: list[Any]) -> None:
    """Change the mode once what is written has been shown; typed keys are kept."""
    for _ in range(10):  # being stopped for doing this in the background, and continued, interrupts it
        try:
            return termios.tcsetattr(0, termios.TCSADRAIN, mode)
        except termios.error:
            pass
