"""What tests need to chat: the real server as a process, clients that wait for things, crowds, and the oracle."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import forked
import pytest

from loop import Kernel, Task, connect, join, recv, send, sleep

if TYPE_CHECKING:
    from loop.traps import Coroutine

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 15.0  # seconds until a test gives something up; nothing here takes that long unless it is broken
HERE = "127.0.0.1"
PREFIX = b"127.0.0.1: "
GREETING = b"Welcome to the chat: each line you send goes to everybody here."
MIB = 1 << 20
SMALL = 4096  # a receive buffer that is soon full

LINUX = sys.platform == "linux"
linux = pytest.mark.skipif(not LINUX, reason="this looks into /proc, or needs what only Linux has")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def eventually(condition: Callable[[], Any], what: str = "", timeout: float = PATIENCE, pause: float = 0.005) -> Any:
    """Wait until `condition()` is true, and return what it returned. `pause`: seconds between the first two looks."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what or 'what was waited for'} did not come true in {timeout:g} s"
        time.sleep(pause)
        pause = max(pause, min(pause * 1.2, 0.03))  # to look may start a process
    return result


def free_port() -> int:
    """A port nobody listens on, for a server that cannot tell which one it has taken.

    It is below those that systems give to connections, and each worker of pytest has a thousand of its own. So nothing
    else takes it meanwhile.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 20
    while True:
        port = 10_000 + 1000 * worker + random.SystemRandom().randrange(1000)
        try:
            with socket.create_server((HERE, port)):
                return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


# The server.


HANDLER = """
def handle(member, room):
    member.tell("Welcome")
    while messages := (yield from member.receive()):
"""


def handler(directory: Path, *lines: str) -> str:
    """Write a handler that runs these lines for the `messages` it receives; returns what --handler takes."""
    path = directory / "handler.py"
    path.write_text(HANDLER + "".join(f"        {line}\n" for line in lines))
    return f"{path}:handle"


class Printed:
    """Everything a process writes to a pipe, read by a thread of its own, so that the process never waits for us."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.data = bytearray()
        self.ended = False
        self.pipe = pipe
        self.change = threading.Condition()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        while data := os.read(self.pipe.fileno(), 1 << 16):
            with self.change:
                self.data += data
                self.change.notify_all()
        with self.change:
            self.ended = True
            self.change.notify_all()

    def text(self) -> str:
        with self.change:
            return self.data.decode()

    def lines(self, having: str = "") -> list[str]:
        """The complete lines so far that have this text in them."""
        return [line for line in self.text().split("\n")[:-1] if having in line]

    def take(self) -> str:
        """All complete lines so far, which are forgotten here."""
        with self.change:
            text, newline, rest = self.data.rpartition(b"\n")
            self.data = bytearray(rest)
        return (text + newline).decode()

    def expect(self, having: str, count: int = 1, timeout: float = PATIENCE) -> list[str]:
        """Wait until `count` lines have this text in them; return all that have."""
        deadline = time.monotonic() + timeout
        with self.change:
            while len(found := [line for line in self.data.decode().split("\n")[:-1] if having in line]) < count:
                left = deadline - time.monotonic()
                assert left > 0 and not self.ended, f"{count} lines with {having!r} expected in:\n{self.data.decode()}"
                self.change.wait(left)
        return found

    def close(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "somebody still holds the other end of the pipe"
        self.pipe.close()


class Chatsrv:
    """A server of its own process. `through` stands before the command (strace, prlimit, ...); `program` runs
    instead of ./chatsrv.

    `journal` and `complaints` are its stdout and stderr; stdout may be given instead, then `port` must be, too.
    `more` is for Popen. See forked.py.
    """

    def __init__(
        self,
        *flags: str,
        through: Iterable[str] = (),
        program: Iterable[str] = forked.SERVER,
        port: int = 0,
        stdout: Any = None,
        **more: Any,
    ) -> None:
        self.clients: list[Client] = []
        self.finished = False
        self.process = forked.start(
            [*through, *program, "--port", str(port), *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
            **more,
        )
        self.pid = self.process.pid
        assert self.process.stderr
        self.complaints = Printed(self.process.stderr)
        self.journal: Printed | None = Printed(self.process.stdout) if self.process.stdout else None
        self.port = port
        try:
            if self.journal is not None:
                self.port = int(self.journal.expect("listens on port")[0].split()[-1])
            else:
                eventually(self.answers, "an answer")
        except BaseException:
            self.destroy()
            raise

    def answers(self) -> bool:
        """Whether one can connect."""
        with socket.socket() as probe:
            probe.settimeout(PATIENCE)
            return probe.connect_ex((HERE, self.port)) == 0

    def client(self, **more: Any) -> Client:
        """A client that is in, and has been greeted."""
        client = Client(self.port, **more)
        self.clients.append(client)
        client.expect(b"Welcome", starts=True)
        return client

    def accepted(self, count: int) -> None:
        """Wait until the journal has told of so many connections."""
        assert self.journal is not None
        self.journal.expect("accepted connection", count)

    def terminated(self, reason: str = "", count: int = 1, timeout: float = PATIENCE) -> list[str]:
        """Wait until the journal has told of so many connections that they are over, for this reason."""
        assert self.journal is not None
        return self.journal.expect(f"connection terminated: {reason}", count, timeout)

    def over(self, reason: str = "") -> list[str]:
        """What the journal has told so far of connections that are over, for this reason."""
        assert self.journal is not None
        return self.journal.lines(f"connection terminated: {reason}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait, and return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and until all that it has said is here; returns the exit status."""
        status = self.process.wait(PATIENCE)
        for output in filter(None, (self.complaints, self.journal)):
            output.thread.join(PATIENCE)
        return status

    def finish(self, status: int = 0, complaint: str | None = "") -> None:
        """End it with SIGTERM, unless it has ended; check that it went well, accounted for all, and left nothing.

        On stderr there is at most one line, and that has `complaint` in it. None: whatever it said there is fine.
        """
        if self.finished:
            return
        self.finished = True
        try:
            for client in self.clients:
                client.close()
            assert (self.process.poll() if self.process.poll() is not None else self.end()) == status
            self.complaints.close()
            said = self.complaints.text()
            assert complaint is None or (said.count("\n") == bool(complaint) and complaint in said), said
            if self.journal is not None:
                self.journal.close()
                if status == 0:
                    check_journal(self.journal.text())
            # Another server, of another worker, may have been given its port meanwhile: that one will end.
            eventually(lambda: not self.answers(), "that nobody listens on its port any more", pause=1)
            eventually(self.has_left, "the end of the last process of its session")
        finally:
            self.destroy()

    def has_left(self) -> bool:
        """Whether no process is left of those it was started with."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def destroy(self) -> None:
        """Whatever happened: let nothing of it remain."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for output in filter(None, (self.complaints, self.journal)):
            output.close()


def left_out(journal: str) -> int:
    """How many lines the journal says it has left out."""
    return sum(map(int, re.findall(r"^\((\d+) lines were left out here", journal, re.MULTILINE)))


def check_journal(text: str) -> None:
    """Every accepted connection is terminated, once; the counts are the same, if no line was left out."""
    accepted = Counter(re.findall(r"^(\S+) accepted connection$", text, re.MULTILINE))
    terminated = Counter(re.findall(r"^(\S+) connection terminated: .", text, re.MULTILINE))
    assert accepted == terminated or left_out(text)


Start = Callable[..., Chatsrv]  # the fixture `chatsrv`


# What the system knows of a process. Linux only.


def cpu_seconds(pid: int) -> float:
    """The processor time it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Bytes of memory it occupies now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def asleep(pid: int) -> bool:
    """Whether it waits for something to happen."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def enter_network_of(pid: int) -> bool:
    """Make the sockets this process creates from now on those of another's network namespace."""
    with open(f"/proc/{pid}/ns/net") as namespace:
        return bool(ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000) == 0)  # CLONE_NEWNET


# A client.


RUDE = struct.pack("ii", 1, 0)  # for SO_LINGER: close sends RST, and forgets what was not sent


class Client:
    """A blocking client; all it waits for has a timeout. `buffer` is its SO_RCVBUF: how much it takes unread."""

    def __init__(self, port: int, host: str = HERE, buffer: int = 0, source: str = "") -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.settimeout(PATIENCE)
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source:
            self.sock.bind((source, 0))
        self.rest = b""
        try:
            self.sock.connect((host, port))
        except OSError:
            self.sock.close()
            raise
        here, number = self.sock.getsockname()[:2]
        self.name = f"[{here}]:{number}" if ":" in here else f"{here}:{number}"  # what the journal calls it

    def say(self, *messages: bytes | str) -> None:
        """Send messages, each with a newline, in one piece."""
        self.send(b"".join((m.encode() if isinstance(m, str) else m) + b"\n" for m in messages))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> bytes:
        """The next line, without its newline. EOFError at the end of the stream."""
        while b"\n" not in self.rest:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError(f"the stream has ended after {self.rest!r}")
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def expect(self, *lines: bytes, starts: bool = False) -> None:
        """Read as many lines, which must be these, or (`starts`) begin like these."""
        for line in lines:
            heard = self.line()
            assert heard.startswith(line) if starts else heard == line, f"{heard!r} instead of {line!r}"

    def wait_for(self, text: bytes) -> bytes:
        """Read up to a line with this text in it; return that line."""
        while text not in (line := self.line()):
            pass
        return line

    def everything(self) -> bytes:
        """Read to the end of the stream, and close. A reset is no end, and raises ConnectionError."""
        pieces = [self.rest]
        while data := self.sock.recv(1 << 16):
            pieces.append(data)
        self.rest = b""
        self.close()
        return b"".join(pieces)

    def finish(self) -> None:
        """Say FIN, and go on listening."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave the rude way."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RUDE)
        self.close()

    def close(self) -> None:
        self.sock.close()


# Crowds: as many clients as wanted, as tasks of one kernel.


class Visitor:
    """One client of a crowd. What it has heard is in `heard`. `said` counts its messages, which carry its name."""

    def __init__(self, kernel: Kernel, name: str, buffer: int = 0) -> None:
        self.kernel = kernel
        self.name = name
        self.sock = socket.socket()
        self.sock.setblocking(False)
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.heard = bytearray()
        self.said = 0
        self.listening: Task | None = None
        self.cut_off = False  # a reset has ended what it hears, not the end of the stream

    def enter(self, port: int) -> Coroutine[None]:
        """COROUTINE. Connect, and wait for the greeting's first byte: from then on all is meant for it, too."""
        yield from connect(self.sock, (HERE, port), PATIENCE)
        self.heard += yield from recv(self.sock, 1, PATIENCE)

    def say(self, count: int, padding: int = 0) -> Coroutine[None]:
        """COROUTINE. Send `count` messages that the oracle can tell apart, with `padding` bytes behind the tag."""
        start, self.said = self.said, self.said + count
        yield from send(self.sock, b"".join(tagged(self.name, n, padding) for n in range(start, self.said)), PATIENCE)

    def listen(self) -> None:
        """Hear everything from now on, to the end of the stream or the connection's failure, and then close."""
        if self.listening is None:
            self.listening = self.kernel.spawn(self.hear(), f"{self.name} listens")

    def hear(self) -> Coroutine[None]:
        try:
            while data := (yield from recv(self.sock, 1 << 20)):  # more than a talker sends in a turn
                self.heard += data
        except OSError:
            self.cut_off = True
        self.close()

    def listen_up_to(self, last: bytes) -> Coroutine[None]:
        """COROUTINE. Hear everything up to something that nothing follows."""
        while not self.heard.endswith(last):
            self.heard += yield from recv(self.sock, 1 << 20, PATIENCE)

    def to_the_end(self) -> Coroutine[None]:
        """COROUTINE. Listen until the server closes."""
        self.listen()
        assert self.listening is not None
        yield from join(self.listening)

    def leave(self) -> Coroutine[None]:
        """COROUTINE. Say FIN and hear the rest: its own last message, and all that came before it."""
        self.sock.shutdown(socket.SHUT_WR)
        yield from self.to_the_end()

    def talk(self, count: int, padding: int = 0, pause: float = 0) -> Coroutine[None]:
        """COROUTINE. Listen, and say so many messages, a hundred at once, with a pause (seconds) between."""
        self.listen()
        for done in range(0, count, 100):
            yield from self.say(min(100, count - done), padding)
            yield from sleep(pause)

    def reset(self) -> None:
        """Leave the rude way."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RUDE)
        self.close()

    def close(self) -> None:
        self.kernel.close(self.sock)


class Crowd:
    """Visitors, and the kernel they live on."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.visitors: list[Visitor] = []

    def visitor(self, name: str, buffer: int = 0) -> Visitor:
        """A visitor that has not entered yet."""
        self.visitors.append(Visitor(self.kernel, name, buffer))
        return self.visitors[-1]

    def enter(self, port: int, *names: str, buffer: int = 0) -> list[Visitor]:
        """Visitors that are in. They do not listen yet."""
        visitors = [self.visitor(name, buffer) for name in names]
        self.run(*(visitor.enter(port) for visitor in visitors))
        return visitors

    def run(self, *coroutines: Coroutine[Any], timeout: float = 45) -> None:
        """Run these to their end, and the rest of the crowd meanwhile. That one fails or is late is an error."""
        tasks = [self.kernel.spawn(coroutine) for coroutine in coroutines]
        watch = self.kernel.spawn(self.stop_after(timeout))
        self.kernel.run(until=self.kernel.spawn(all_of(tasks)))
        watch.cancel()
        late = [task.name for task in tasks if task.outcome != "returned"]
        assert not late, f"not done, or failed: {', '.join(late)}"

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
        """Let the crowd go on until `condition()` is true. (Who waits otherwise keeps the whole crowd from reading.)"""

        def watch() -> Coroutine[None]:
            while not condition():
                yield from sleep(0.005)

        self.run(watch(), timeout=timeout)

    def stop_after(self, timeout: float) -> Coroutine[None]:
        yield from sleep(timeout)
        self.kernel.stop()

    def close(self) -> None:
        for task in list(self.kernel.tasks):
            task.cancel()
        if self.kernel.tasks:
            self.kernel.turn()
        for visitor in self.visitors:
            visitor.close()
        self.visitors.clear()
        self.kernel.poller.close()


def all_of(tasks: Iterable[Task]) -> Coroutine[None]:
    """COROUTINE. Wait until all of them have ended."""
    for task in tasks:
        yield from join(task)


# The oracle.


TAG = re.compile(rb"<(\S+) (\d+)>")


def tagged(sender: str, number: int, padding: int = 0) -> bytes:
    """A message the oracle can tell from all others, with its newline."""
    return b"<%s %d>%s\n" % (sender.encode(), number, b"." * padding)


def check_oracle(
    order: bytes | bytearray,
    streams: Mapping[str, bytes | bytearray],
    said: Mapping[str, int] | None = None,
    torn: Container[str] = (),
) -> int:
    """The one sentence that is always true: every stream is a contiguous slice of one global order.

    `order` is what a client heard that was there all the time; `streams` is what each client heard. The numbers of each
    sender have no gap and no repeat; those in `said` have sent so many messages, and all have arrived. A stream is cut
    at message borders only; those of `torn`, reset or not read to the end, may end anywhere. Lines of the
    server's own (its greeting, what begins with "* ") stand before and after the slice. Returns how many messages the
    streams have together.
    """
    lines = spoken("the order", bytes(order))
    place: dict[bytes, int] = {}
    following: dict[bytes, int] = {}
    for index, line in enumerate(lines):
        tag = TAG.search(line)
        assert tag, f"this is no message: {line[:100]!r}"
        sender, number = tag.group(1), int(tag.group(2))
        assert number == following.get(sender, 0), f"{line[:100]!r} came where {following.get(sender, 0)} was next"
        following[sender] = number + 1
        place[line] = index
    for name, count in (said or {}).items():
        heard = following.get(name.encode(), 0)
        assert heard == count, f"{name} said {count} messages, {heard} arrived"
    total = 0
    for name, stream in streams.items():
        slice = spoken(name, bytes(stream), torn=name in torn)
        if not slice:
            continue
        first = place.get(slice[0])
        assert first is not None, f"{name} begins with {slice[0][:100]!r}, which nobody else heard"
        expected = lines[first : first + len(slice)]
        if slice != expected:
            at = next((n for n, (a, b) in enumerate(zip(slice, expected)) if a != b), len(expected))
            raise AssertionError(f"{name}'s line {at} is {slice[at][:100]!r}, not the next of the order")
        total += len(slice)
    return total


def spoken(name: str, stream: bytes, torn: bool = False) -> list[bytes]:
    """The messages of a stream, without the server's own lines at both ends."""
    *lines, rest = stream.split(b"\n")
    assert torn or not rest, f"{name} ends within a message: {rest[:100]!r}"
    first, last = 0, len(lines)
    while first < last and lines[first].startswith((b"Welcome", b"* ")):
        first += 1
    while last > first and lines[last - 1].startswith(b"* "):
        last -= 1
    return lines[first:last]
