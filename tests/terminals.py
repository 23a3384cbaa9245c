"""A real server, and the real client in a real terminal: a pseudo-terminal read by the test, or tmux."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import struct
import subprocess
import termios
import uuid

import pytest
from chatting import PATIENCE, eventually
from forked import ENVIRONMENT, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any


class Pty:
    """A program in a pseudo-terminal of its own. `output` is all it has written."""

    def __init__(self, command: list[str], columns: int = 60, rows: int = 12, **environment: str) -> None:
        self.master, self.slave = os.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        environment = {**ENVIRONMENT, **environment}
        self.process = start(command, environment, stdin=self.slave, stdout=self.slave, stderr=self.slave)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str | bytes) -> None:
        os.write(self.master, keys if isinstance(keys, bytes) else keys.encode())

    def feed(self, keys: bytes) -> None:
        """Press many keys, as fast as they are taken, and read what is written meanwhile."""
        os.set_blocking(self.master, False)
        try:
            while keys:
                self.read()
                try:
                    keys = keys[os.write(self.master, keys[:65536]) :]
                except BlockingIOError:
                    select.select([self.master], [self.master], [], PATIENCE)
        finally:
            os.set_blocking(self.master, True)

    def read(self) -> bool:
        """Read what is there; whether there was anything."""
        found = False
        while select.select([self.master], [], [], 0)[0]:
            self.output += os.read(self.master, 65536)
            found = True
        return found

    def wait_for(self, what: str, since: int = 0) -> int:
        """Wait until `what` is written behind the byte `since`; returns where it ends."""

        def found() -> bool:
            self.read()
            return what.encode() in self.output[since:]

        eventually(found, f"{what!r}")
        return self.output.index(what.encode(), since) + len(what.encode())

    def exit_status(self) -> int:
        """Wait for the program's end."""

        def ended() -> bool:
            self.read()
            return self.process.poll() is not None

        eventually(ended, "the end of the program")
        self.read()
        return self.process.wait()

    def restored(self) -> bool:
        """Whether the terminal is what it was."""
        return termios.tcgetattr(self.slave) == self.before and self.output.count(b"\x1b[?2004h") == self.output.count(
            b"\x1b[?2004l"
        )

    def set_mode(self, mode: list[Any]) -> None:
        termios.tcsetattr(self.slave, termios.TCSANOW, mode)

    def hang_up(self) -> None:
        """What a terminal does whose window is closed."""
        os.close(self.master)
        self.master = os.open(os.devnull, os.O_RDWR)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        os.close(self.master)
        os.close(self.slave)

    def __enter__(self) -> Pty:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Tmux:
    """A tmux server of the test's own with one window, in which `command` (of the shell) runs."""

    def __init__(self, command: str, columns: int = 60, rows: int = 12, **environment: str) -> None:
        if shutil.which("tmux") is None:
            pytest.skip("tmux is not installed; it is the terminal of this test")
        self.name = f"chat-{uuid.uuid4().hex[:12]}"
        self.call("new-session", "-d", "-x", str(columns), "-y", str(rows),
                  *[part for name in environment for part in ("-e", f"{name}={environment[name]}")],
                  f"exec {command}")  # fmt: skip

    def call(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-u", "-f", os.devnull, "-L", self.name, *arguments],
            check=True,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            timeout=PATIENCE,
            text=True,
        ).stdout

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: Enter, C-a, M-b, Left. What is no name is typed."""
        self.call("send-keys", *keys)

    def write(self, text: str) -> None:
        self.call("send-keys", "-l", text)

    def resize(self, columns: int, rows: int) -> None:
        self.call("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self) -> list[str]:
        """The rows of the screen, without the empty ones at its end."""
        return [row.rstrip() for row in self.call("capture-pane", "-p").rstrip("\n").split("\n")]

    def history(self) -> str:
        """All that was ever shown, styles included."""
        return self.call("capture-pane", "-p", "-e", "-S", "-")

    def cursor(self) -> tuple[int, int]:
        """Column and row, from 0."""
        column, row = self.call("display-message", "-p", "#{cursor_x} #{cursor_y}").split()
        return int(column), int(row)

    def column_of(self, text: str) -> int:
        """The column where this is shown, the lowest on the screen."""
        self.call("copy-mode")
        self.call("send-keys", "-X", "search-backward", text)
        column = self.call("display-message", "-p", "#{copy_cursor_x}")
        self.call("send-keys", "-X", "cancel")
        return int(column)

    def wait_for(self, *rows: str) -> list[str]:
        """Wait until the last rows of the screen are these; returns all of them."""

        def last() -> list[str] | None:
            screen = self.screen()
            return screen if screen[-len(rows) :] == list(rows) else None

        try:
            screen: list[str] = eventually(last)
            return screen
        except AssertionError:
            raise AssertionError("\n".join(["the screen is", *self.screen(), "and should end with", *rows])) from None

    def close(self) -> None:
        subprocess.run(
            ["tmux", "-L", self.name, "kill-server"], env=ENVIRONMENT, stderr=subprocess.DEVNULL, timeout=PATIENCE
        )

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
