"""The log on stdout, as one more slow reader.

A paused pager or a full pipe must not stop the chat, so lines are queued, and one writer hands them on as fast as they
are taken. When too many are waiting, new ones are counted instead of kept, and the count is told as soon as there is
room. If nobody reads any more (`./chatsrv | head -1`), or the disk is full, the chat goes on without its journal.
"""

from __future__ import annotations

from loop import WaitQueue, complain, writable

from ..escape import harmless, plain, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from loop.traps import Coroutine

    class Output(Protocol):
        def fileno(self) -> int: ...
        def write(self, data: memoryview) -> int | None: ...


BACKLOG = 8 << 20  # bytes of lines that may wait: minutes of a busy chat, and small beside the feed's own limit


class Journal:
    """Writes lines to `output`, at most `most` bytes at once; `quiet` leaves the messages' texts out."""

    def __init__(self, output: Output, most: int = 1 << 20, quiet: bool = False) -> None:
        self.output = output
        self.most = most
        self.quiet = quiet
        self.waiting: list[bytes] = []
        self.size = 0  # bytes in `waiting`
        self.lost = 0  # lines that were dropped since the last one that was kept
        self.failed = False
        self.closed = False  # for good
        self.news = WaitQueue()
        self.written = WaitQueue()

    def say(self, who: str, what: str) -> None:
        """One line about a connection."""
        self.queue(f"{who} {harmless(what)}\n".encode("utf-8", "backslashreplace"), 1)

    def messages(self, who: str, messages: list[bytes]) -> None:
        """The text of each message, a line each."""
        if self.quiet:
            return
        head = f"{who} > ".encode()
        separator = b"\n" + head
        text = separator.join(messages)
        if not plain(text):
            text = separator.join([visible(message).encode() for message in messages])
        self.queue(head + text + b"\n", len(messages))

    def queue(self, lines: bytes, count: int) -> None:
        if self.closed or self.size > BACKLOG:
            self.lost += count
            return
        if self.lost:
            lines = b"(%d lines were left out here: nobody took them in time)\n" % self.lost + lines
            self.lost = 0
        self.waiting.append(lines)
        self.size += len(lines)
        self.news.wake()

    def write(self) -> Coroutine[None]:
        """COROUTINE. The journal's one writer; ends when nobody can read it any more."""
        while not self.closed:
            while not self.waiting:
                self.written.wake_all()
                yield from self.news.wait()
            rest = memoryview(b"".join(self.waiting))
            self.waiting.clear()
            self.size = len(rest)
            while rest:
                yield from writable(self.output)
                try:
                    taken = self.output.write(rest[: self.most]) or 0
                except OSError as error:
                    self.fail(error)
                    self.lost += bytes(rest).count(b"\n")
                    taken = len(rest)
                rest = rest[taken:]
                self.size -= taken
        self.waiting.clear()
        self.size = 0
        self.written.wake_all()

    def flush(self, timeout: float) -> Coroutine[None]:
        """COROUTINE. Returns when all lines are written, or cannot be; raises TimedOut after `timeout` seconds."""
        while self.size and not self.closed:
            yield from self.written.wait(timeout)

    def fail(self, error: OSError) -> None:
        """A pipe without a reader stays one; anything else, like a full disk, may pass. Told once."""
        self.closed = isinstance(error, BrokenPipeError)
        if not self.failed:
            complain(f"chatsrv: the journal on stdout cannot be written ({error.strerror}); the chat goes on")
        self.failed = True
