"""Where the conversation is shown: at a terminal, above the line being typed; anywhere else, as lines of plain text."""

from __future__ import annotations

import os
import signal
import sys
import time
from codecs import utf_8_decode

from loop import WaitQueue, complain

from .editor import Editor
from .screen import Screen
from .speakers import Speakers, legible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from loop.traps import Coroutine

    from .terminal import Terminal

UNSEEN = 256 << 10  # while more bytes of lines than this wait for the terminal, nothing is read from the server
PARTIAL = 4096  # if a line has more bytes than this, it is shown only when its end has come


class Plain:
    """For a pipe or a file."""

    def __init__(self, terminal: Terminal, options: Namespace) -> None:
        self.terminal = terminal
        self.timestamps = options.timestamps
        self.written = 0  # how many bytes of the unfinished line are shown

    def show(self, lines: list[tuple[bytes, bool]]) -> Coroutine[None]:
        """COROUTINE. Shows lines, each with a flag that says whether it is our own."""
        text = ""
        for line, _ in lines:
            text += ("" if self.written else self.stamp()) + legible(line[self.written :]) + "\n"
            self.written = 0
        yield from self.write(text)

    def show_partial(self, line: bytes) -> Coroutine[None]:
        """COROUTINE. Shows what has come of a line: whole characters, and no \\r that perhaps belongs to its end."""
        bare = line[:-1] if line.endswith(b"\r") else line
        _, end = utf_8_decode(bare, "backslashreplace", False)
        text = ("" if self.written else self.stamp()) + legible(line[self.written : end])
        self.written = end
        yield from self.write(text)

    def tell(self, what: str) -> None:
        """Show a line that comes from the client itself."""
        complain(f"chatclient: {what}")

    def show_trouble(self, trouble: str) -> None:
        """Only a Window shows this."""

    def stamp(self) -> str:
        return time.strftime("%H:%M ") if self.timestamps else ""

    def write(self, text: str) -> Coroutine[None]:
        """COROUTINE. Writes to stdout. A failure ends the client, without a word if the reader of the pipe is gone."""
        try:
            yield from self.terminal.write(text)
        except BrokenPipeError:
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            sys.exit(f"chatclient: cannot write to stdout: {why(error)}")


class Window(Plain):
    """For a terminal: the conversation, and the line being typed. What changes is painted by paint()."""

    def __init__(self, terminal: Terminal, options: Namespace) -> None:
        super().__init__(terminal, options)
        self.bell = options.bell
        self.editor = Editor()
        self.screen = Screen(*terminal.size())
        self.speakers = Speakers(colour=not os.environ.get("NO_COLOR"))
        self.editor.names = self.speakers.names
        self.changed = WaitQueue()

    def show(self, lines: list[tuple[bytes, bool]]) -> Coroutine[None]:
        """COROUTINE. Shows lines, each with a flag: whether it is our own. Waits while too much is not shown yet."""
        if lines:
            self.screen.partial = ""
        self.screen.show([self.stamp() + self.speakers.dress(line, own) for line, own in lines])
        self.screen.bell = self.screen.bell or (self.bell and self.speakers.named)
        self.speakers.named = False
        self.changed.wake_all()
        while self.screen.unseen.size > UNSEEN:
            yield from self.changed.wait()

    def show_partial(self, line: bytes) -> Coroutine[None]:
        """COROUTINE. Shows an unfinished line, if it is short enough."""
        if len(line) <= PARTIAL:
            self.screen.partial = self.stamp() + legible(line)
            self.changed.wake_all()
        yield from ()  # makes this a coroutine, as in Plain, although nothing is waited for

    def tell(self, what: str) -> None:
        line = f"* {what}"
        if self.speakers.colour:
            line = f"\x1b[2m{line}\x1b[m"
        self.screen.show([self.stamp() + line])
        self.changed.wake_all()

    def show_trouble(self, trouble: str) -> None:
        """Show in the prompt why nothing can be sent now; "": all is well."""
        self.editor.trouble = trouble
        self.changed.wake_all()

    def paint(self) -> Coroutine[None]:
        """COROUTINE. Brings the screen up to date: all that has changed since the last time, in one go."""
        while True:
            while output := self.screen.refresh(*self.editor.view()):
                yield from self.write(output)
                self.changed.wake_all()
            yield from self.changed.wait()

    def resize(self) -> None:
        self.screen.resize(*self.terminal.size())
        self.changed.wake_all()

    def finish(self) -> str:
        """What to write at the end."""
        return self.screen.finish(*self.editor.view())


def why(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
