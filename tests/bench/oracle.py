"""What the load generator says, and the check of what comes back.

Every sender repeats a cycle of lines of one size; each line names its sender and its number in the cycle. What a
receiver gets must be a sequence of such lines, whole, each sender's numbers without a gap or a repeat; all receivers
must get the same sequence. Millions of lines a second are checked at the speed of comparing memory: a run of lines from
one sender is found with one slice, and compared with the sender's cycle in one piece.
"""

from __future__ import annotations

import re
import socket
import zlib
from dataclasses import dataclass
from typing import Protocol

CYCLE = 4096  # lines; a loss of a multiple of that many at once shows in the totals instead
LETTERS = bytes(range(0x21, 0x7F))  # the senders
RUN = re.compile(b"|".join(re.escape(b"%c" % letter) + b"+" for letter in LETTERS))


class Violation(Exception):
    """A receiver got what it should not have, or did not get what it should have."""


@dataclass(frozen=True)
class Wire:
    """How a server wants a message and how it delivers it: what stands before and after the payload.

    {size} there becomes the payload's size, {room} the room's digit.
    """

    say_head: bytes = b""
    say_tail: bytes = b"\n"
    hear_head: bytes = b"127.0.0.1: "
    hear_tail: bytes = b"\n"
    greeting: bytes = b"\n"  # how it ends; empty if there is none
    subscribe: bytes = b""  # what a receiver has to say before it hears anything
    choose: bytes = b"{room}\n"  # the same, where there are rooms
    apart: bool = False  # senders don't hear what they say, so they are connections of their own
    gentle: bool = False  # few lines at a time from each sender
    frames: bool = False  # those that only hear are browsers: `subscribe` and `greeting` are theirs
    secure: bool = False  # those that only hear speak TLS

    def filled(self, text: bytes, size: int, room: int = 0) -> bytes:
        return text.replace(b"{size}", b"%d" % size).replace(b"{room}", b"%d" % room)


def payload(sender: int, number: int, size: int) -> bytes:
    """`size` bytes, at least 8: the sender as one character, the number, and padding that differs from line to line."""
    padding = (b"%d." % (number * 7919)) * (size // 2)
    return (b"%c%05d " % (LETTERS[sender], number) + padding)[:size]


class Cycles:
    """The lines of all senders, as they are said and as they are heard; the first sender is in the first room."""

    def __init__(self, wire: Wire, senders: int, size: int, rooms: int = 1) -> None:
        if not 1 <= senders <= len(LETTERS) or size < 8:
            raise ValueError(f"from 1 to {len(LETTERS)} senders, and at least 8 bytes")
        self.said, self.heard = [], []
        for sender in range(senders):
            head = wire.filled(wire.say_head, size, sender % rooms)
            hear_head = wire.filled(wire.hear_head, size, sender % rooms)
            lines = [payload(sender, number, size) for number in range(CYCLE)]
            self.said.append(b"".join(head + line + wire.say_tail for line in lines))
            self.heard.append(b"".join(hear_head + line + wire.hear_tail for line in lines))
        self.say_size = len(self.said[0]) // CYCLE  # bytes of a line as it is said
        self.hear_size = len(self.heard[0]) // CYCLE
        self.name_at = len(hear_head)  # where in a heard line its sender is named


class Framed:
    """A browser's socket, from which what is in the frames can be received. There is one more call for each frame."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.left = 0  # bytes of the frame that has begun

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0, flags: int = 0) -> int:
        """As a socket's. With flags, nothing is kept, so the head of a frame can be thrown away with the rest."""
        head = 0 if self.left else self.begin()
        if head and not flags:
            self.sock.recv(head)
            head = 0
        taken = self.sock.recv_into(buffer, min(head + self.left, size or len(buffer)), flags) - head
        self.left -= taken
        return taken

    def begin(self) -> int:
        """Look at the head of a frame; returns its size, 0 at the end of the stream."""
        head = self.sock.recv(10, socket.MSG_PEEK)
        if not head:
            return 0
        size = {126: 4, 127: 10}.get(head[1], 2) if len(head) > 1 else 2
        if len(head) <= size:
            raise BlockingIOError
        if head[0] != 0x81:
            raise Violation(f"not the beginning of a text: {head!r}")
        self.left = int.from_bytes(head[2:size], "big") if size > 2 else head[1]
        return size


class Receiver(Protocol):
    """What a receiver's bytes are taken from."""

    def recv_into(self, buffer: memoryview, /) -> int: ...


class Verifier:
    """One receiver's check. What arrives goes into `buffer`, behind the `kept` bytes of a line that is not complete."""

    def __init__(self, cycles: Cycles) -> None:
        self.cycles = cycles
        self.buffer = bytearray(1 << 18)
        self.view = memoryview(self.buffer)
        self.kept = 0
        self.next = [0] * len(cycles.heard)  # the number each sender's next line must have, counted on without end
        self.order = 0  # a checksum of who spoke when: equal for two receivers that heard the same

    def receive(self, sock: Receiver) -> int:
        """Take what has arrived and check it; returns how many bytes that were. Raises Violation."""
        taken = sock.recv_into(self.view[self.kept :])
        self.check(self.kept + taken)
        return taken

    def check(self, filled: int) -> None:
        size = self.cycles.hear_size
        whole = filled // size * size
        names = bytes(self.buffer[self.cycles.name_at : whole : size])
        self.order = zlib.crc32(names, self.order)
        place = 0
        for run in RUN.finditer(names):
            sender = names[run.start()] - LETTERS[0]
            lines = run.end() - run.start()
            if sender >= len(self.next) or run.start() * size != place:
                break
            cycle = memoryview(self.cycles.heard[sender])
            while lines:
                number = self.next[sender] % CYCLE
                count = min(lines, CYCLE - number)
                expected = cycle[number * size : (number + count) * size]
                if not self.buffer.startswith(expected, place):
                    raise Violation(explain(bytes(self.view[place : place + count * size]), bytes(expected), size))
                self.next[sender] += count
                lines -= count
                place += count * size
        if place != whole:
            raise Violation(f"no lines of ours: {bytes(self.view[place : place + size])!r}")
        self.kept = filled - whole
        self.buffer[: self.kept] = self.buffer[whole:filled]

    def finish(self) -> None:
        """The stream has ended here."""
        if self.kept:
            raise Violation(f"half a line at the end: {bytes(self.buffer[: self.kept])!r}")


def explain(got: bytes, expected: bytes, size: int) -> str:
    """The first line that differs."""
    for place in range(0, len(got), size):
        if got[place : place + size] != expected[place : place + size]:
            return f"expected {expected[place : place + size][:60]!r}, got {got[place : place + size][:60]!r}"
    return "nothing differs"
