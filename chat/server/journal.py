"""The log on stdout, whose reader may be slow.

A paused pager or a full pipe must not stop the chat. So lines are queued, and one task writes them as fast as stdout
takes them. When too many lines wait, new lines are only counted, and a later line says how many were left out.
If stdout cannot be written (`./chatsrv | head -1`, a full disk), the chat goes on.
"""

from __future__ import annotations

import errno
import select
import time

from loop import WaitQueue, complain, sleep, writable

from ..escape import plain, visible
from ..framing import join
from ..stdout import PORTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Protocol

    from loop.traps import Coroutine

    class Output(Protocol):
        def fileno(self) -> int: ...
        def write(self, data: memoryview) -> int | None: ...


WAITING = 8 << 20  # bytes of lines that may wait: minutes of a busy chat
PAUSE = 0.1  # seconds before another attempt, when waiting for space has failed
LAST_WAIT = 0.2  # seconds without progress after which finish() gives up
LAST_TIME = 1.0  # seconds after which finish() gives up in any case


class Journal:
    """Writes lines to `output`, at most `most` bytes at once.

    `quiet` leaves the messages' texts out, `timestamps` puts the local time before each line.
    """

    def __init__(self, output: Output, most: int = PORTION, quiet: bool = False, timestamps: bool = False) -> None:
        self.output = output
        self.most = most
        self.quiet = quiet
        self.timestamps = timestamps
        # Each entry is (lines, 0), or ([report], n): the line `report` says that n lines were left out.
        self.waiting: list[tuple[list[bytes], int]] = [([], 0)]
        self.rest = memoryview(b"")  # what is being written, and comes before `waiting`
        self.reported = 0  # how many lines `rest` reports as left out; 0 if it is no report
        self.size = 0  # bytes in `rest` and `waiting`
        self.left_out = 0  # how many lines were left out and not reported yet
        self.torn = False  # whether what has been written ends within a line
        self.failed = False  # whether a failure was told on stderr
        self.closed = False  # whether nothing can be written any more
        self.before_writing: Callable[[], None] | None = None  # called before each write
        self.news = WaitQueue()
        self.written = WaitQueue()

    def say(self, who: str, what: str) -> None:
        """Write a line about a connection or the server. Text from outside must have gone through harmless()."""
        line = f"{who} {what}\n"
        if self.timestamps:
            line = self.stamp() + line
        self.queue(line.encode("utf-8", "backslashreplace"))

    def messages(self, who: str, messages: list[bytes]) -> None:
        """Write the text of each message, on a line of its own."""
        if self.quiet:
            return
        if not plain(join(b"", messages)):
            messages = [visible(message).encode() for message in messages]
        self.queue(join(f"{self.stamp()}{who} > ".encode(), messages))

    def stamp(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S ") if self.timestamps else ""

    def queue(self, lines: bytes) -> None:
        if self.closed or self.size > WAITING:
            self.left_out += lines.count(b"\n")
            return
        if not self.size:  # while anything is queued, write() does not wait for news
            self.news.wake()
        if self.left_out:
            report = f"{self.stamp()}({self.left_out} lines were left out here: they could not be written in time)\n"
            self.waiting.append(([report.encode()], self.left_out))
            self.waiting.append(([], 0))  # for the lines after this report
            self.size += len(report)
            self.left_out = 0
        self.waiting[-1][0].append(lines)
        self.size += len(lines)

    def write(self) -> Coroutine[None]:
        """COROUTINE. The journal's only writer. Ends when the journal can no longer be written."""
        while not self.closed:
            while not self.size:
                self.written.wake_all()
                yield from self.news.wait()
            self.put()  # without waiting: there is nearly always space
            if not self.size or self.closed:
                continue
            try:
                yield from writable(self.output)
            except OSError as error:
                if error.errno == errno.EBADF:
                    self.fail(error)
                yield from sleep(PAUSE)  # perhaps out of memory: no reason to lose anything
        self.waiting.clear()
        self.size = 0
        self.written.wake_all()

    def put(self) -> None:
        """Write once, as much as is taken."""
        if self.before_writing:
            self.before_writing()
        if not self.rest:
            self.rest = memoryview(self.next_text())
        try:
            taken = self.output.write(self.rest[: self.most]) or 0
        except OSError as error:
            self.fail(error)
        else:
            if taken:
                self.torn = self.rest[taken - 1] != ord("\n")
                self.rest = self.rest[taken:]
                self.size -= taken

    def next_text(self) -> bytes:
        """Take what comes next."""
        lines, self.reported = self.waiting.pop(0)
        self.waiting = self.waiting or [([], 0)]
        text = b"".join(lines)
        if self.torn:  # fail() has left out the rest of a line: end that line first
            self.size += 1
            return b"\n" + text
        return text

    def flush(self, timeout: float) -> Coroutine[None]:
        """COROUTINE. Returns when all lines are written, or cannot be; raises TimedOut after `timeout` seconds."""
        while self.size and not self.closed:
            yield from self.written.wait(timeout)

    def finish(self) -> None:
        """Write what is left, without the kernel, as long as stdout takes it, but for at most LAST_TIME."""
        end = time.monotonic() + LAST_TIME
        ready = select.poll()
        ready.register(self.output, select.POLLOUT)
        while self.size and not self.closed and time.monotonic() < end and ready.poll(LAST_WAIT * 1000):
            self.put()

    def fail(self, error: OSError) -> None:
        """Leave out what was to be written. A pipe without a reader ends the journal; other failures may pass soon."""
        self.closed = error.errno in (errno.EPIPE, errno.EBADF)
        if not self.failed:
            self.failed = True
            complain(f"chatsrv: the journal on stdout cannot be written ({error.strerror}); the chat goes on")
        rest = bytes(self.rest)
        lines = rest.count(b"\n")
        if self.torn and rest.startswith(b"\n"):  # this newline ends a line that was written or counted already
            lines -= 1
        self.left_out += self.reported or lines
        self.size -= len(self.rest)
        self.rest = memoryview(b"")
