"""The talk with the server: connect, send what is entered, show what comes, connect again if the connection is lost."""

from __future__ import annotations

import errno
import socket
import sys

from loop import Closed, TimedOut, WaitQueue, recv, sleep, writable

from .connection import SILENCE, reach, send_end, socket_of, unacknowledged, watch
from .display import why
from .incoming import Incoming
from .outgoing import Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable

    from loop import Kernel, Task
    from loop.tls import TLS
    from loop.traps import Coroutine

    from .display import Plain

    Address = tuple[int, Any]  # the family, and what connect(2) takes

PAUSE = 0.2  # seconds after which a line that has begun is shown without its end
SLOW = 1.0  # seconds after which the user is told that connecting takes long
PATIENCE = 10.0  # seconds without progress that end the client, once our stream has ended
LONGEST_PAUSE = 30  # seconds between two attempts to reach the server again
PIECE = 64 << 10  # bytes sent or received at once


class Conversation:
    """The talk with the server. Its `addresses` are tried in turn. SystemExit is raised to end the client.

    `spawn` makes a task of a coroutine. At a terminal, the client runs farewell() when the user quits. Elsewhere,
    keep_sending() runs farewell() when everything is sent.
    """

    def __init__(
        self,
        kernel: Kernel,
        spawn: Callable[[Coroutine[None]], Task],
        display: Plain,
        options: Namespace,
        addresses: list[Address],
        at_terminal: bool,
    ) -> None:
        self.kernel = kernel
        self.spawn = spawn
        self.display = display
        self.options = options
        self.addresses = addresses
        self.at_terminal = at_terminal
        self.socket: socket.socket | None = None
        self.failure = ""  # why nothing can be sent over this connection any more
        self.outgoing = Outgoing()
        self.news = WaitQueue()  # tasks wait here for a change of `outgoing`
        self.sent = WaitQueue()  # watch() waits here until something is sent
        self.hurry = WaitQueue()  # run() waits here between two attempts to connect; waking it ends the pause

    def run(self) -> Coroutine[None]:
        """COROUTINE. Connects and shows what comes; with --reconnect, again and again."""
        connected = False  # whether there was a connection before
        absent = False  # whether the user was told that there is none
        pause = 1
        while True:
            try:
                sock = yield from self.connect()
                if absent:
                    self.display.tell("connected again" if connected else "connected")
                connected, absent, since = True, False, self.kernel.clock()
                trouble = yield from self.hear(sock)
                if self.outgoing.complete and not self.outgoing.waiting:
                    sys.exit(f"chatclient: {trouble}")
                if self.kernel.clock() - since > LONGEST_PAUSE:
                    pause = 1  # the connection has lasted
            except OSError as error:
                trouble = str(error)
            if not self.options.reconnect:
                sys.exit(f"chatclient: {trouble}")
            if not absent:
                self.display.tell(f"{trouble}; trying again")
                absent = True
            for left in range(pause, 0, -1):
                self.display.show_trouble(f"again in {left} s")
                try:
                    yield from self.hurry.wait(1)
                    break
                except TimedOut:
                    pass
            pause = min(2 * pause, LONGEST_PAUSE)

    def connect(self) -> Coroutine[socket.socket | TLS]:
        """COROUTINE. Returns a connection to the first of the addresses that answers; raises OSError."""
        slow = self.spawn(self.tell_if_slow())
        self.display.show_trouble("connecting")
        trouble = ""
        try:
            for family, address in self.addresses:
                try:
                    options = self.options
                    timeout, host, trust = options.connect_timeout, options.host, options.trust
                    return (yield from reach(self.kernel, family, address, timeout, host, trust))
                except (OSError, TimedOut) as error:
                    trouble = "no answer in time" if isinstance(error, TimedOut) else why(error)
        finally:
            slow.cancel()
        raise OSError(f"cannot connect to {self.options.host} port {self.options.port}: {trouble}")

    def tell_if_slow(self) -> Coroutine[None]:
        """COROUTINE. Says that connecting takes long."""
        yield from sleep(SLOW)
        self.display.tell(f"connecting to {self.options.host} port {self.options.port}")

    def hear(self, sock: socket.socket | TLS) -> Coroutine[str]:
        """COROUTINE. Shows what comes until the connection ends; returns why.

        Ends the client if we had asked the server to close the connection.
        """
        self.socket = socket_of(sock)
        self.display.show_trouble("")
        tasks = [self.spawn(self.keep_sending(sock)), self.spawn(watch(self.kernel, self.socket, self.sent))]
        incoming = Incoming()
        self.failure = trouble = ""
        try:
            while data := (yield from self.receive(sock, incoming)):
                yield from self.show(incoming.receive_data(data))
        except Closed:
            trouble = f"the server's machine has not answered for {SILENCE} s"
        except OSError as error:
            trouble = f"the connection has failed: {why(error)}"
        finally:
            for task in tasks:
                task.cancel()
            self.kernel.close(sock)
            self.socket = None
        yield from self.show(incoming.finish())
        trouble = trouble or self.failure
        if not trouble and getattr(sock, "cut_off", False) and not self.outgoing.end_expected():
            trouble = "the connection was cut off"  # TLS was not ended, so perhaps it was not the server that closed
        wanted = not trouble and self.outgoing.end_expected()
        lost = self.outgoing.disconnected(clean=not trouble)
        lost = lost or bool(self.outgoing.waiting and not self.options.reconnect)
        if wanted:
            self.exit()
        trouble = trouble or "the server has closed the connection"
        return f"{trouble}; what was said last may be lost" if lost else trouble

    def receive(self, sock: socket.socket | TLS, incoming: Incoming) -> Coroutine[bytes]:
        """COROUTINE. Like recv, but shows an unfinished line, such as a question, if no more follows soon."""
        while True:
            try:
                return (yield from recv(sock, PIECE, PAUSE if incoming.unseen else None))
            except TimedOut:
                yield from self.display.show_partial(incoming.look())

    def show(self, lines: list[bytes]) -> Coroutine[None]:
        """COROUTINE. Shows lines from the server, and marks our own. Waits for a slow terminal."""
        yield from self.display.show([(line, self.outgoing.heard(line)) for line in lines])

    def keep_sending(self, sock: socket.socket | TLS) -> Coroutine[None]:
        """COROUTINE. The socket's only writer. If the connection fails, what is left is for the next one."""
        try:
            while self.outgoing.waiting or not self.outgoing.complete:
                if not (self.outgoing.waiting or getattr(sock, "unsent", False)):
                    yield from self.news.wait()
                    continue
                yield from writable(sock)
                try:
                    self.outgoing.sent(sock.send(self.outgoing.waiting[:PIECE]))
                except BlockingIOError as error:
                    self.outgoing.sent(getattr(error, "characters_written", 0))  # TLS may have taken some bytes
                self.news.wake_all()
                self.sent.wake()
            yield from send_end(sock)
            self.outgoing.finish()
        except OSError as error:
            self.fail(socket_of(sock), error)
            return
        if not self.at_terminal:
            while unacknowledged(socket_of(sock)):
                yield from sleep(1)
            yield from self.farewell(PATIENCE)

    def fail(self, sock: socket.socket, error: OSError) -> None:
        """Nothing more can be sent. hear() still gets all that has arrived, and then the failure."""
        # EPIPE, ECONNRESET and ENOTCONN mean that the server has ended the connection; EBADF that we have ended it
        if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF):
            self.failure = f"the connection has failed: {why(error)}"
        try:
            sock.shutdown(socket.SHUT_RDWR)  # a failure such as a lack of memory has not ended the connection
        except OSError:
            pass

    # From the keyboard.

    def say(self, data: bytes) -> None:
        """Send what was entered or read."""
        self.outgoing.waiting += data
        self.news.wake_all()

    def drain(self) -> Coroutine[None]:
        """COROUTINE. Returns when there is space for more."""
        while len(self.outgoing.waiting) >= PIECE:
            yield from self.news.wait()

    def end(self) -> None:
        """All has been entered: end our stream when everything is sent. The server then closes the connection."""
        self.outgoing.complete = True
        self.news.wake_all()

    def farewell(self, patience: float) -> Coroutine[None]:
        """COROUTINE. Ends the client once `patience` seconds bring no progress, whatever the server does."""
        before = None
        while (left := self.left_to_do()) != before:
            before = left
            yield from sleep(patience)
        self.exit()

    def left_to_do(self) -> tuple[int, ...]:
        """Unsent bytes, bytes that the other machine has not confirmed, messages that the server has not confirmed."""
        on_its_way = unacknowledged(self.socket) if self.socket else 0
        return len(self.outgoing.waiting), on_its_way, len(self.outgoing.messages)

    def exit(self) -> None:
        """End the client, in good order if the server has got everything."""
        self.outgoing.disconnected(clean=False)
        if self.outgoing.lost or self.outgoing.waiting:
            sys.exit("chatclient: the server may not have got everything")
        sys.exit(0)
