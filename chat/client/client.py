"""The terminal client: the keyboard and the socket, each read by a coroutine of its own, on select.

At a terminal there is a line editor (editor.py) below the conversation, and a third coroutine paints it. Anywhere else
the bytes of stdin go to the server as they are, and what comes back is printed as lines of plain text.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections import deque
from zlib import crc32

from loop import Kernel, SelectPoller, Signals, TimedOut, WaitQueue, complain, connect, read, recv, send, sleep

from ..escape import plain, visible
from ..framing import split
from .editor import Editor
from .terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from loop import Task
    from loop.traps import Coroutine

    Address = tuple[int, Any]  # the family, and what connect(2) takes

ESCAPE = 0.1  # seconds after which Esc was a key, not the beginning of one
SLOW = 1.0  # seconds of connecting after which that is said
FAREWELL = 1.0  # seconds after Ctrl-D for the server to take the last line and close the connection
LONGEST_PAUSE = 30  # seconds between two attempts to reach the server again
PIECE = 64 << 10  # bytes read or sent at once; as many of a line without an end are shown as one
BACKLOG = 1000  # lines not shown yet, from which nothing more is read from the server
COLOURS = 31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96  # to be read on dark and on light


class Client:
    """One run. `addresses` are those of the server, tried in turn.

    Whatever ends it raises SystemExit, which the kernel lets pass, with the exit status or a last line for stderr.
    """

    def __init__(self, options: Namespace, addresses: list[Address]) -> None:
        self.options = options
        self.addresses = addresses
        self.kernel = Kernel(SelectPoller())
        self.terminal = Terminal()
        self.interactive = self.terminal.interactive()
        self.editor = Editor(*self.terminal.size())  # idle if that is not so
        self.colour = self.interactive and not os.environ.get("NO_COLOR")
        self.outgoing = bytearray()  # for the server
        self.said: deque[bytes] = deque(maxlen=1000)  # one's own messages that have not come back yet
        self.ended = False  # there is no more to send
        self.news = WaitQueue()  # here wait all who wait for one of these, or for the editor, to change
        self.hurry = WaitQueue()  # here, in vain or not, the pause before another attempt to connect

    def run(self) -> None:
        """Run to the end, which is SystemExit."""
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
        if self.interactive:
            numbers += [signal.SIGWINCH, signal.SIGCONT]
        self.spawn(self.obey(Signals(*numbers)))
        self.spawn(self.converse())
        if self.interactive:
            self.terminal.take()
            self.spawn(self.type())
            self.spawn(self.paint())
        else:
            self.spawn(self.pipe())
        try:
            self.kernel.run()
        finally:
            self.terminal.give_back(self.editor.finish())

    def spawn(self, coroutine: Coroutine[None]) -> Task:
        return self.kernel.spawn(self.watch(coroutine))

    def watch(self, coroutine: Coroutine[None]) -> Coroutine[None]:
        """COROUTINE. Runs another. A failure is a bug: it ends the client, with its traceback for a last line."""
        try:
            yield from coroutine
        except Exception:
            import traceback  # only now: it takes long to import

            sys.exit(f"chatclient failed\n{traceback.format_exc().rstrip()}")

    def obey(self, signals: Signals) -> Coroutine[None]:
        """COROUTINE. Does what signals say."""
        while True:
            for number in (yield from signals.wait()):
                if number == signal.SIGCONT:  # it was stopped, not by us: a shell may have used the terminal
                    self.terminal.take()
                    self.editor.repaint()
                elif number != signal.SIGWINCH:
                    sys.exit(128 + number)
            self.editor.resize(*self.terminal.size())
            self.news.wake_all()

    # The keyboard.

    def pipe(self) -> Coroutine[None]:
        """COROUTINE. Passes stdin on to the server, no faster than it goes out."""
        try:
            while data := (yield from read(0, PIECE)):
                self.outgoing += data
                self.news.wake_all()
                while len(self.outgoing) >= PIECE:
                    yield from self.news.wait()
        except OSError as error:
            sys.exit(f"chatclient: cannot read stdin: {why(error)}")
        self.end()

    def type(self) -> Coroutine[None]:
        """COROUTINE. Passes keys on to the editor, and does what it makes of them."""
        while True:
            self.news.wake_all()
            try:
                keys = yield from read(0, PIECE, ESCAPE if self.editor.undecided else None)
            except TimedOut:
                self.editor.settle()
                continue
            except OSError:
                keys = b""
            if not keys:
                sys.exit(128 + signal.SIGHUP)  # the terminal is gone
            for what, text in self.editor.press(keys):
                if what == "say":
                    self.say(text)
                elif what == "again":
                    self.hurry.wake()
                elif what == "suspend":
                    self.terminal.suspend(self.editor.hide())
                    self.editor.resize(*self.terminal.size())
                elif what == "interrupt":
                    sys.exit(128 + signal.SIGINT)
                elif what == "end":
                    self.end()
                    if not self.editor.trouble:
                        yield from sleep(FAREWELL)
                    sys.exit(0)

    def say(self, text: str) -> None:
        """Send what was entered, a message a line. A newline at its end, from a paste, begins no further one."""
        for line in text[: -1 if text.endswith("\n") else None].split("\n"):
            message = line.encode("utf-8", "surrogateescape")
            self.outgoing += message + b"\n"
            self.said.extend(split(message))

    def end(self) -> None:
        """There is no more to send: the server is told so when it has got everything, and closes the connection."""
        self.ended = True
        self.news.wake_all()

    # The socket.

    def converse(self) -> Coroutine[None]:
        """COROUTINE. Connects and shows what comes, again and again with --reconnect."""
        lost, pause = False, 1
        while True:
            try:
                sock = yield from self.connect()
                if lost:
                    self.tell("connected again")
                lost, since = False, self.kernel.clock()
                yield from self.listen(sock)
                if self.ended:
                    sys.exit(0)
                trouble = "the server has closed the connection"
                if self.kernel.clock() - since > LONGEST_PAUSE:  # not one of those that accept and close at once
                    pause = 1
            except OSError as error:
                trouble = str(error)
            if not self.options.reconnect:
                sys.exit(f"chatclient: {trouble}")
            if not lost:
                self.tell(f"{trouble}; trying again")
                lost = True
            for left in range(pause, 0, -1):
                self.prompt(f"again in {left} s")
                try:
                    yield from self.hurry.wait(1)
                    break
                except TimedOut:
                    pass
            pause = min(2 * pause, LONGEST_PAUSE)

    def connect(self) -> Coroutine[socket.socket]:
        """COROUTINE. Returns a socket connected to the first of the addresses that answers; raises OSError."""
        slow = self.spawn(self.admit_slowness())
        self.prompt("connecting")
        trouble = ""
        try:
            for family, address in self.addresses:
                try:
                    return (yield from self.reach(family, address))
                except (OSError, TimedOut) as error:
                    trouble = "no answer in time" if isinstance(error, TimedOut) else why(error)
        finally:
            slow.cancel()
        raise OSError(f"cannot connect to {self.options.host} port {self.options.port}: {trouble}")

    def reach(self, family: int, address: Any) -> Coroutine[socket.socket]:
        """COROUTINE. Returns a socket connected to this address; raises OSError or TimedOut."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in ("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6):
                if hasattr(socket, name):  # who is gone without a word is noticed within two minutes
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            yield from connect(sock, address, self.options.connect_timeout)
            return sock
        except BaseException:
            self.kernel.close(sock)
            raise

    def admit_slowness(self) -> Coroutine[None]:
        """COROUTINE. Says that connecting takes long."""
        yield from sleep(SLOW)
        self.tell(f"connecting to {self.options.host} port {self.options.port}")

    def listen(self, sock: socket.socket) -> Coroutine[None]:
        """COROUTINE. Shows what comes until the server closes the connection; raises OSError if it fails."""
        self.prompt("")
        talker = self.spawn(self.talk(sock))
        rest = b""
        try:
            while data := (yield from recv(sock, PIECE)):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) >= PIECE:
                    lines.append(rest)
                    rest = b""
                yield from self.show(lines)
        except OSError as error:
            raise OSError(f"the connection has failed: {why(error)}") from None
        finally:
            talker.cancel()
            self.kernel.close(sock)
        if rest:
            yield from self.show([rest])

    def talk(self, sock: socket.socket) -> Coroutine[None]:
        """COROUTINE. The socket's one writer. What it was sending when the connection failed, the next one gets."""
        try:
            while self.outgoing or not self.ended:
                if self.outgoing:
                    piece = bytes(self.outgoing[:PIECE])
                    yield from send(sock, piece)
                    del self.outgoing[: len(piece)]
                    self.news.wake_all()
                else:
                    yield from self.news.wait()
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # listen() learns of it by its own recv, behind all that arrived before

    # The screen.

    def show(self, lines: list[bytes]) -> Coroutine[None]:
        """COROUTINE. Shows what the server has sent; waits while too much of it is not shown yet."""
        if not self.interactive:
            yield from self.write("".join([self.stamp() + readable(line) + "\n" for line in lines]))
            return
        self.editor.show([self.stamp() + self.dress(line) for line in lines])
        self.news.wake_all()
        while len(self.editor.unseen) > BACKLOG:
            yield from self.news.wait()

    def stamp(self) -> str:
        return time.strftime("%H:%M ") if self.options.timestamps else ""

    def dress(self, line: bytes) -> str:
        """A received line with its sender in a colour, and in bold if it is one's own.

        Own is what was sent and has not come back yet; who says the same at the same moment is taken for oneself.
        """
        text = readable(line)
        sender, colon, rest = text.partition(": ")
        if self.colour and colon and sender and " " not in sender:
            text = f"\x1b[{COLOURS[crc32(sender.encode()) % len(COLOURS)]}m{sender}\x1b[39m: {rest}"
        message = line if line in self.said else line.partition(b": ")[2]
        if message in self.said:
            while self.said.popleft() != message:
                pass  # those before it will not come any more: the server answers in order
            text = f"\x1b[1m{text}\x1b[m" if self.colour else text
        return text

    def tell(self, what: str) -> None:
        """Say something of the client's own."""
        if self.interactive:
            self.editor.show([self.stamp() + (f"\x1b[2m* {what}\x1b[m" if self.colour else f"* {what}")])
            self.news.wake_all()
        else:
            complain(f"chatclient: {what}")

    def prompt(self, trouble: str) -> None:
        """Say in the prompt why nothing can be sent; nothing if it can."""
        self.editor.trouble = trouble
        self.news.wake_all()

    def paint(self) -> Coroutine[None]:
        """COROUTINE. Brings the screen up to date: all that has changed since the last time, in one go."""
        while True:
            while output := self.editor.refresh():
                yield from self.write(output)
                self.news.wake_all()
            yield from self.news.wait()

    def write(self, text: str) -> Coroutine[None]:
        """COROUTINE. Writes to stdout; a failure ends the client, without a word if only the reader is gone."""
        try:
            yield from self.terminal.write(text)
        except BrokenPipeError:
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            sys.exit(f"chatclient: cannot write to stdout: {why(error)}")


def readable(line: bytes) -> str:
    """A received line, in which nothing can do anything but be read. A tab may stay one."""
    line = line[:-1] if line.endswith(b"\r") else line
    return line.decode() if plain(line) else "\t".join(map(visible, line.split(b"\t")))


def why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
