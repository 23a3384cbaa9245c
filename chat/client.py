"""The terminal client: the keyboard and the socket, each read by a coroutine of its own, on select.

At a terminal there is a line editor (editor.py) below the conversation. Anywhere else the bytes of stdin go to the
server as they are, and what comes back is printed, one line of plain text a message.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from zlib import crc32

from loop import (
    Kernel,
    SelectPoller,
    Signals,
    TimedOut,
    WaitQueue,
    complain,
    connect,
    read,
    recv,
    report,
    send,
    sleep,
    writable,
)

from .editor import Editor
from .framing import split
from .options import VERSION, Parser, seconds, whole
from .terminal import Terminal
from .text import plain, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loop import Task
    from loop.traps import Coroutine

    Address = tuple[int, Any]  # the family, and what connect() takes

ESCAPE = 0.1  # seconds after which Esc was a key of its own, not the beginning of another key's sequence
SLOW = 1.0  # seconds of connecting after which that is said
FAREWELL = 1.0  # seconds for the last line to reach the server
LONGEST_PAUSE = 30  # seconds between two attempts to reach the server again
PIECE = 64 << 10  # bytes read or sent at once
BACKLOG = 1000  # lines that may wait for a slow terminal before the socket has to wait, too
LONGEST = 64 << 10  # bytes after which a line from the server is shown although it goes on
COLOURS = 31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96  # readable on dark and on light


class Options:
    """What the command line says, and the defaults."""

    host: str = "127.0.0.1"
    port: int = 3100
    connect_timeout: float | None = 10.0
    reconnect: bool = False
    timestamps: bool = False


class Client:
    """One run of the client. `addresses` are tried in turn; `editor` is None where there is no terminal."""

    def __init__(self, options: Options, addresses: list[Address], terminal: Terminal, editor: Editor | None) -> None:
        self.options = options
        self.addresses = addresses
        self.terminal = terminal
        self.editor = editor
        self.kernel = Kernel(SelectPoller())
        self.colour = editor is not None and not os.environ.get("NO_COLOR")
        self.outgoing = bytearray()  # for the server
        self.said: deque[bytes] = deque(maxlen=1000)  # one's own messages that have not come back yet
        self.ended = False  # there is no more to send
        self.status: int | None = None  # the exit status, once it is known
        self.farewell = ""  # what is to be said then
        self.due = WaitQueue()  # talk() waits here for something to send
        self.sent = WaitQueue()  # and stdin for it to be sent
        self.changed = WaitQueue()  # paint() waits here for something to show
        self.shown = WaitQueue()  # and the socket for it to be shown
        self.hurry = WaitQueue()  # the pause before another attempt

    def run(self) -> int:
        """Run to the end; returns the exit status."""
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") + ("SIGWINCH", "SIGCONT") * (self.editor is not None)
        signals = Signals(*(getattr(signal, name) for name in names))
        self.spawn(self.obey(signals), "signals")
        self.spawn(self.converse(), "socket")
        if self.editor:
            self.terminal.take()
            self.spawn(self.type(), "keyboard")
            self.spawn(self.paint(), "screen")
        else:
            self.spawn(self.pipe(), "stdin")
        try:
            self.kernel.run()
        finally:
            self.restore()
        if self.farewell:
            complain(f"chatclient: {self.farewell}")
        return self.status or 0

    def spawn(self, coroutine: Coroutine[None], name: str) -> Task:
        return self.kernel.spawn(self.watch(coroutine), name)

    def watch(self, coroutine: Coroutine[None]) -> Coroutine[None]:
        """COROUTINE. Runs another. Its failing is a bug, and ends the client, with a traceback one can read."""
        try:
            yield from coroutine
        except Exception:
            self.restore()
            report("chatclient failed")
            self.leave(1)

    def leave(self, status: int, farewell: str = "") -> None:
        """End the client after this turn. The first to call this is right."""
        if self.status is None:
            self.status, self.farewell = status, farewell
        self.kernel.stop()

    def restore(self) -> None:
        if self.editor:
            self.terminal.give_back(self.editor.finish().encode("utf-8", "backslashreplace"))

    def end(self) -> None:
        """There is no more to send. Tell the server so, once it has got everything, and wait for its end."""
        self.ended = True
        self.due.wake()

    def obey(self, signals: Signals) -> Coroutine[None]:
        """COROUTINE. Does what signals say."""
        while True:
            for number in (yield from signals.wait()):
                if number not in (signal.SIGWINCH, signal.SIGCONT):
                    self.leave(128 + number)
                elif self.editor:
                    if number == signal.SIGCONT:
                        self.terminal.take()
                    self.editor.resize(*self.terminal.size())
                    self.changed.wake()

    # The keyboard.

    def pipe(self) -> Coroutine[None]:
        """COROUTINE. Passes stdin on to the server."""
        try:
            while data := (yield from read(0, PIECE)):
                self.outgoing += data
                self.due.wake()
                while len(self.outgoing) > PIECE:
                    yield from self.sent.wait()
        except OSError as error:
            self.leave(1, f"cannot read stdin: {why(error)}")
        self.end()

    def type(self) -> Coroutine[None]:
        """COROUTINE. Passes keys on to the editor, and does what it makes of them."""
        editor = self.editor
        assert editor is not None
        while True:
            try:
                data = yield from read(0, PIECE, ESCAPE if editor.undecided and not editor.pasting else None)
            except TimedOut:
                editor.settle()
                self.changed.wake()
                continue
            except OSError:
                data = b""
            if not data:
                self.leave(128 + signal.SIGHUP)  # the terminal is gone
                return
            for what, text in editor.press(data):
                if what == "say":
                    self.say(text)
                elif what == "again":
                    self.hurry.wake()
                elif what == "suspend":
                    self.terminal.suspend(editor.hide().encode())
                    editor.resize(*self.terminal.size())
                elif what == "interrupt":
                    self.leave(128 + signal.SIGINT)
                elif what == "end":
                    self.end()
                    self.spawn(self.give_up(), "farewell")
            self.changed.wake()

    def say(self, text: str) -> None:
        """Send what was entered, a message a line; a pasted text's last newline begins no further one."""
        for line in (text[:-1] if text.endswith("\n") else text).split("\n"):
            message = line.encode("utf-8", "surrogateescape")
            self.outgoing += message + b"\n"
            self.said.extend(split(message))
        self.due.wake()

    def give_up(self) -> Coroutine[None]:
        """COROUTINE. Leaves, if the server has not ended the connection by then."""
        yield from sleep(FAREWELL)
        self.leave(0)

    # The socket.

    def converse(self) -> Coroutine[None]:
        """COROUTINE. Connects and shows what comes, again and again with --reconnect."""
        told = ""
        pause = 1
        while True:
            try:
                sock = yield from self.connect()
            except OSError as error:
                trouble = str(error)
            else:
                if told:
                    yield from self.tell("connected again")
                pause, trouble = 1, (yield from self.listen(sock))
            if self.ended:
                return self.leave(0)
            if not self.options.reconnect:
                return self.leave(1, trouble)
            if trouble != told:
                told = trouble
                yield from self.tell(f"{trouble}; trying again")
            yield from self.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def connect(self) -> Coroutine[socket.socket]:
        """COROUTINE. Returns a socket connected to the first of the addresses that answers; raises OSError."""
        slow = self.spawn(self.admit_slowness(), "slow")
        trouble = "no address"
        self.prompt("connecting")
        try:
            for family, address in self.addresses:
                try:
                    return (yield from self.reach(family, address))
                except TimedOut:
                    trouble = f"no answer within {self.options.connect_timeout:g} s"
                except OSError as error:
                    trouble = why(error)
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
                if hasattr(socket, name):  # a server that is gone without a word is noticed within two minutes
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            yield from connect(sock, address, self.options.connect_timeout)
            return sock
        except BaseException:
            self.kernel.close(sock)
            raise

    def admit_slowness(self) -> Coroutine[None]:
        """COROUTINE. Says that connecting takes long."""
        yield from sleep(SLOW)
        yield from self.tell(f"connecting to {self.options.host} port {self.options.port}")

    def wait(self, pause: int) -> Coroutine[None]:
        """COROUTINE. Counts so many seconds down in the prompt; Enter ends it."""
        for left in range(pause, 0, -1):
            self.prompt(f"again in {left} s")
            try:
                return (yield from self.hurry.wait(1))
            except TimedOut:
                pass

    def listen(self, sock: socket.socket) -> Coroutine[str]:
        """COROUTINE. Shows what comes until the connection ends; returns how it did."""
        self.prompt("")
        talker = self.spawn(self.talk(sock), "talk")
        trouble = "the server has closed the connection"
        rest = b""
        try:
            while data := (yield from recv(sock, PIECE)):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > LONGEST:
                    lines.append(rest)
                    rest = b""
                yield from self.show([self.dress(line) for line in lines])
        except OSError as error:
            trouble = f"the connection has failed: {why(error)}"
        finally:
            talker.cancel()
            self.kernel.close(sock)
        if rest:
            yield from self.show([self.dress(rest)])
        return trouble

    def talk(self, sock: socket.socket) -> Coroutine[None]:
        """COROUTINE. The socket's one writer. What the system has not taken when it fails, the next connection gets."""
        try:
            while self.outgoing or not self.ended:
                if self.outgoing:
                    piece = bytes(self.outgoing[:PIECE])
                    yield from send(sock, piece)
                    del self.outgoing[: len(piece)]
                    self.sent.wake()
                else:
                    yield from self.due.wait()
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # listen() learns of it by its own recv, after all that has arrived before

    # The screen.

    def dress(self, line: bytes) -> str:
        """A received line as it is shown: nothing in it can do anything but be read."""
        if line.endswith(b"\r"):
            line = line[:-1]
        text = line.decode() if plain(line) else "\t".join(map(visible, line.split(b"\t")))
        if self.editor:
            sender, colon, rest = text.partition(": ")
            own = line in self.said or line.partition(b": ")[2] in self.said
            if own:  # or somebody has said the same at the same time, which is no great harm
                while self.said and self.said.popleft() not in (line, line.partition(b": ")[2]):
                    pass
            if self.colour:
                if colon and " " not in sender and 0 < len(sender) <= 45:
                    text = f"\x1b[{COLOURS[crc32(sender.encode()) % len(COLOURS)]}m{sender}\x1b[39m: {rest}"
                if own:
                    text = f"\x1b[1m{text}\x1b[m"
        return time.strftime("%H:%M ") + text if self.options.timestamps else text

    def show(self, lines: list[str]) -> Coroutine[None]:
        """COROUTINE. Shows lines of the conversation; waits while more than BACKLOG of them do."""
        if self.editor:
            self.editor.show(lines)
            self.changed.wake()
            while len(self.editor.unseen) > BACKLOG:
                yield from self.shown.wait()
        elif lines:
            yield from self.write("\n".join([*lines, ""]))

    def tell(self, what: str) -> Coroutine[None]:
        """COROUTINE. Says something of the client's own."""
        if self.editor:
            yield from self.show([f"\x1b[2m* {what}\x1b[m" if self.colour else f"* {what}"])
        else:
            complain(f"chatclient: {what}")

    def prompt(self, trouble: str) -> None:
        """Say in the prompt why nothing can be sent at the moment; empty if it can."""
        if self.editor:
            self.editor.set_trouble(trouble)
            self.changed.wake()

    def paint(self) -> Coroutine[None]:
        """COROUTINE. Brings the screen up to date, all that has changed since the last time at once."""
        assert self.editor is not None
        while True:
            if output := self.editor.refresh():
                yield from self.write(output)
                self.shown.wake()
            else:
                yield from self.changed.wait()

    def write(self, text: str) -> Coroutine[None]:
        """COROUTINE. Writes to stdout, as fast as it takes it. A failure ends the client."""
        terminal = self.terminal
        terminal.rest = text.encode("utf-8", "backslashreplace")
        try:
            while terminal.rest:
                yield from writable(terminal.output)
                taken = terminal.output.write(terminal.rest[: terminal.most]) or 0
                terminal.rest = terminal.rest[taken:]
        except BrokenPipeError:
            self.leave(128 + signal.SIGPIPE)
        except OSError as error:
            self.leave(1, f"cannot write to stdout: {why(error)}")


def why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host. Raises OSError.

    This blocks, as long as the resolver needs, which is the one place in this program that does. So it is called once,
    before there is anything to keep alive; an address that changes while the client runs is not noticed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("this is no host name") from None
    return [(family, address) for family, _, _, _, address in found]


def parse(arguments: list[str] | None = None) -> Options:
    """The options in `arguments` (None: the command line's). A mistake ends the program: status 2 and one line."""
    parser = Parser(
        prog="chatclient",
        description="A chat in the terminal. Enter sends the line, Ctrl-D or Ctrl-C leaves.",
        epilog="Exit status: 0 after Ctrl-D or the end of stdin, 1 without a server, 2 for a mistake here, 130 after "
        "Ctrl-C, 128 + N after signal N.",
        allow_abbrev=False,
    )
    flag = parser.add_argument
    flag("host", metavar="HOST", nargs="?", default=Options.host, help="a name or an address (default: 127.0.0.1)")
    flag("port", metavar="PORT", nargs="?", type=whole(1, 65535), default=Options.port, help="default: 3100")
    flag("--reconnect", action="store_true", help="when the server goes away, try again, every 1 to 30 s")
    flag("--timestamps", action="store_true", help="the time, HH:MM, before each message")
    flag("--connect-timeout", metavar="SECONDS", type=seconds, default=Options.connect_timeout,
         help="for each of the host's addresses (default: 10; off)")  # fmt: skip
    flag("--version", action="version", version=f"chatclient {VERSION}")
    return parser.parse_args(arguments, namespace=Options())


def main(arguments: list[str] | None = None) -> int:
    """Run the client; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the loop runs, Ctrl-C need not wait for the resolver
    for fd in 0, 1, 2:  # started with one of them closed, a socket would get its number
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    options = parse(arguments)
    try:
        addresses = resolve(options.host, options.port)
    except OSError as error:
        complain(f"chatclient: cannot find {options.host}: {why(error)}")
        return 1
    terminal = Terminal()
    return Client(options, addresses, terminal, Editor(*terminal.size()) if terminal.interactive() else None).run()
