"""Two chats as one: what is said in one is heard in both.

The other chat's address is in the environment: CHATSRV_BRIDGE=HOST:PORT. The other chat is a chatsrv whose handler
publishes what its members say. It must not be a bridge itself, because then every message would come back for ever.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from secrets import token_hex
from time import monotonic

from loop import TimedOut, WaitQueue, connect, recv, send, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loop.traps import Coroutine

    from ..server import room
    from ..server.member import Member

    class Room(room.Room):
        link: Link | None  # None while the other chat is out of reach


def other_chat() -> tuple[Any, Any]:
    """The family and the address of the other chat's socket. Raises ValueError, with a line for the user."""
    host, _, port = os.environ.get("CHATSRV_BRIDGE", "").rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        raise ValueError("the environment has to say where the other chat is: CHATSRV_BRIDGE=HOST:PORT") from None
    return found[0][0], found[0][4]


FAMILY, ADDRESS = other_chat()
MARK = f"[{os.environ['CHATSRV_BRIDGE']}] ".encode()  # put before what comes from the other chat
HELLO = b"* Here begins a bridge to another chat: "  # the first line that a bridge says, with a random number
PAUSES = 1.0, 60.0  # seconds between two attempts to connect: at first, and at most
PATIENCE = 10.0  # seconds for the other chat to answer, or to take something
MOST = 10_000  # lines that may wait to be passed on, or to come back
MOST_BYTES = 1024  # the longest message that both chats take as one
ENDLESS = 1 << 20  # bytes without the end of a line, after which the other side is no chat


def bridge(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. A chat that also passes on all messages to the other chat."""
    member.tell("Welcome to the chat: each line you send goes to everybody here, and in another chat.")
    while messages := (yield from member.receive()):
        if messages[0].startswith(HELLO):
            member.kick("this chat is a bridge itself")
            return
        room.publish(member, messages)
        if room.link:
            prefix = member.prefix or b"> "  # without one, the other chat might take a message for a command
            room.link.pass_on(prefix, messages)


def start(room: Room) -> Coroutine[None]:
    """COROUTINE. Keeps the chats connected, for as long as the server runs."""
    room.link = None
    pause, reason = PAUSES[0], ""
    while True:
        began, first_try = monotonic(), not reason
        try:
            yield from Link(room).run()
        except (OSError, TimedOut) as error:
            reason = getattr(error, "strerror", None) or str(error)
        if room.link or first_try:
            room.announce(f"* The other chat is out of reach: {reason}")
        room.link = None
        pause = PAUSES[0] if monotonic() - began > pause else min(2 * pause, PAUSES[1])
        yield from sleep(pause)


class Link:
    """One connection to the other chat. Its coroutines raise OSError or TimedOut when the connection fails."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.socket = socket.socket(FAMILY, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # From this chat to the other.
        self.waiting: list[bytes] = []  # lines to be passed on
        self.news = WaitQueue()
        self.left_out = 0  # how many messages were not passed on, because too many waited
        self.passed_on: deque[bytes] = deque()  # lines that have not come back yet
        # From the other chat to this one.
        self.prefix = b""  # what the other chat puts before the lines that we pass on
        self.lines: deque[bytes] = deque()
        self.rest = b""  # what has come of a line that is not complete yet

    def run(self) -> Coroutine[None]:
        """COROUTINE. Connects, and announces here what comes from there, until the connection fails."""
        writer = None
        try:
            yield from connect(self.socket, ADDRESS, PATIENCE)
            hello, end = HELLO + token_hex(8).encode(), monotonic() + PATIENCE
            yield from send(self.socket, hello + b"\n", PATIENCE)
            line = b""
            while not line.endswith(hello):  # skips the greeting, until our first line comes back
                line = yield from self.line(end - monotonic())
            self.prefix = line[: -len(hello)]
            self.room.link = self
            self.room.announce("* The other chat is here")
            writer = self.room.spawn(self.write(), "bridge")
            while True:
                self.hear((yield from self.line()))
        finally:
            if writer:
                writer.cancel()
            self.socket.close()

    def line(self, timeout: float | None = None) -> Coroutine[bytes]:
        """COROUTINE. Returns the next line from the other chat."""
        while not self.lines:
            data = yield from recv(self.socket, 1 << 16, timeout)
            if not data:
                raise OSError("it has closed the connection")
            if len(self.rest) > ENDLESS:
                raise OSError("that is no chat")
            *lines, self.rest = (self.rest + data).split(b"\n")
            self.lines.extend(lines)
        return self.lines.popleft()

    def hear(self, line: bytes) -> None:
        """Announce a line from the other chat, unless it is one that we have passed on."""
        if self.passed_on and line == self.prefix + self.passed_on[0]:
            self.passed_on.popleft()
        else:
            for piece in pieces(line, MOST_BYTES - len(MARK)):
                self.room.announce(MARK + piece)

    def pass_on(self, prefix: bytes, messages: list[bytes]) -> None:
        """Say these messages in the other chat, as soon as possible. If too many wait, only count them."""
        for message in messages:
            if len(self.waiting) + len(self.passed_on) < MOST:
                for piece in pieces(message, MOST_BYTES - len(prefix)):
                    self.waiting.append(prefix + piece.rstrip(b"\r"))  # the other chat would drop a \r here
            else:
                self.left_out += 1
        self.news.wake()

    def write(self) -> Coroutine[None]:
        """COROUTINE. Sends what is to be passed on."""
        try:
            while True:
                while not self.waiting:
                    yield from self.news.wait()
                lines, self.waiting = self.waiting, []
                if self.left_out:
                    lines.append(b"* %d messages were left out here" % self.left_out)
                    self.left_out = 0
                self.passed_on.extend(lines)
                yield from send(self.socket, b"\n".join(lines) + b"\n", PATIENCE)
        except OSError:
            pass  # run() gets this error, too
        except TimedOut:
            self.socket.shutdown(socket.SHUT_RDWR)  # ends run(), too


def pieces(message: bytes, most: int) -> list[bytes]:
    """Cut a message into pieces of at most `most` bytes, without cutting a UTF-8 character in two."""
    found = []
    while len(message) > most:
        end = most
        while end > most - 4 and message[end] & 0xC0 == 0x80:
            end -= 1
        found.append(message[:end])
        message = message[end:]
    return [*found, message]
