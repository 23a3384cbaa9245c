"""Sockets and listeners, as faithful to TCP as the server can tell.

What the server can see of TCP, and what is easily forgotten:

- A send only fills the system's buffer, which is bounded; what the peer never reads is lost without a word.
- A reset throws away what the server has yet to send. What the peer had sent before can still be read on Linux; on
  other systems it may be gone. The error is told once, to the first to ask, send or recv: then recv says end of
  stream, and send EPIPE. After a FIN the error is EPIPE, and recv never tells it.
- A peer that has closed, not just half-closed, answers what it is sent with a reset.
- Closing a socket with something unread in it sends a reset, which may destroy what the peer has yet to read.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from chat.server.peer import TAKEN

from .world import ERR, HUP, IN, OUT, Failure, World, error, once

if TYPE_CHECKING:
    from .clients import SimulatedClient


class Socket:
    """The server's end of a connection, and what is on its way in both directions."""

    always = False

    def __init__(self, world: World, client: SimulatedClient, window: int, room: int, rated: int) -> None:
        self.world = world
        self.client = client
        self.window = window  # bytes the server's side holds until they are read
        self.rated = rated  # a server that reads at most so much at once keeps to --max-rate
        self.room = room  # bytes that are on their way to the client, at most
        self.fd = -1
        self.blocking = True
        self.wired = False  # what goes through it is not the member's text itself: see wires.py
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.taken = bytearray()  # what the server has read of the client's text
        self.out = 0  # bytes of its own text that it has sent
        self.drained = 0  # bytes of these that the client has read
        self.sends = self.sends_in = 0  # how often in which turn
        self.arrived = 0  # looks at readiness there had been when what is unread came
        self.roomy = 0  # and when there was room again
        self.accepted_at = 0.0
        self.last_recv = 0.0
        self.read_at = 0.0  # when the server last read any bytes
        self.last_send = 0.0  # when something was taken, or first was not
        self.last_drain = 0.0  # when the client read something
        self.flowing = True
        self.in_rate = 0  # bytes of it that count for --max-rate
        self.largest = 0  # by how many of them, at most, a wire gave more than it was asked for
        self.first_read = 0.0
        self.last_read = 0.0
        self.fin = False  # the client has ended its stream
        self.fin_seen = False  # and the server knows
        self.reset = False
        self.error = 0  # told to the next call that asks
        self.failed_send = False
        self.refused = 0  # what a send has failed with, though the connection had not
        self.ended = False  # the server has ended its stream
        self.closed = False
        self.shaken = False  # its wire's handshake is over
        self.said_end = False  # its wire has said that nothing follows
        self.rude = False  # closing it resets the connection

    # What the client does.

    def push(self, data: bytes) -> int:
        """The client sends; returns how much fits. Nothing does once the connection is gone."""
        if self.reset:
            return 0
        if self.closed:
            self.bounce()
            return 0
        sent = min(len(data), self.window - len(self.incoming))
        if not self.incoming:
            self.arrived = self.world.looks
        self.incoming += data[:sent]
        return sent

    def end(self) -> None:
        """The client ends its stream."""
        if not self.incoming:
            self.arrived = self.world.looks
        self.fin = True

    def drain(self, size: int) -> bytes:
        """The client reads so much."""
        data = bytes(self.outgoing[:size])
        full = not self.mask() & OUT
        del self.outgoing[:size]
        if data:
            self.drained += len(data)
            self.last_drain = self.world.now
        if full:
            self.roomy = self.world.looks
        return data

    def abort(self, number: int = 0) -> None:
        """The connection is reset, or fails with another error, and what was due to the client is lost."""
        if self.reset or self.closed:
            return
        world = self.world
        if self.outgoing:
            world.hit("reset with something unsent")
        self.reset = True
        self.error = number or (errno.EPIPE if self.fin else errno.ECONNRESET)
        self.outgoing.clear()
        if self.incoming and self.client.lossy:
            world.hit("reset destroyed what was unread")
            del self.incoming[world.below(len(self.incoming)) :]
            self.fin = False
            self.error = number or errno.ECONNRESET

    def bounce(self) -> None:
        """The server's side sends a reset: what the client has yet to read may be destroyed."""
        client = self.client
        if not client.broken:
            client.broken = True
            if self.outgoing:
                del self.outgoing[self.world.below(len(self.outgoing) + 1) :]
            if self.world.history is not None:
                self.world.note(f"{client.name}: gets a reset")

    def widen(self, size: int) -> None:
        """From now on its buffers hold so much."""
        if not self.mask() & OUT:
            self.roomy = self.world.looks
        self.window, self.room = max(self.window, size), max(self.room, size)

    # The socket's own face.

    def mask(self) -> int:
        if self.reset:
            return IN | OUT | HUP | (ERR if self.error else 0)
        mask = 0
        if self.incoming or self.fin:
            mask = IN
        if self.ended:
            mask |= OUT | (HUP if self.fin else 0)
        elif len(self.outgoing) * 3 <= self.room * 2:
            mask |= OUT
        return mask

    def fileno(self) -> int:
        return self.fd

    def setblocking(self, flag: bool) -> None:
        self.blocking = flag

    def enter(self, what: str) -> None:
        if self.closed:
            raise error(errno.EBADF)
        if self.blocking:
            raise Failure(f"{what} on a blocking socket")
        self.world.enter(self.client, what != "send")

    def recv(self, most: int, flags: int = 0) -> bytes:
        if flags:  # MSG_PEEK
            raise BlockingIOError(errno.EAGAIN, "nothing can be seen in advance here")
        self.enter("recv")
        world = self.world
        if self.incoming:
            if not self.reset and world.chance() < world.balk:
                world.hit("recv would block after all")
                raise BlockingIOError(errno.EAGAIN, "again")
            have = min(most, len(self.incoming))
            size = world.part(have)
            if size < have:
                world.count("short recv")
            data = bytes(self.incoming[:size])
            del self.incoming[:size]
            world.work += 1
            self.read_at = world.now
            if not self.wired:
                self.account(data, most)
            if self.failed_send:
                world.hit("text read after a failed send")
            if world.history is not None:
                world.note(f"{self.client.name}: the server reads {self.client.end.show(data)}")
            return data
        if self.fin:
            if world.meddling and world.chance() < 0.3:
                world.meddle(self.client)  # at the moment at which its end becomes known
            self.fin_seen = True
        elif self.error:
            number, self.error = self.error, 0
            raise error(number)
        elif not self.reset:
            raise BlockingIOError(errno.EAGAIN, "again")
        if world.history is not None:
            world.note(f"{self.client.name}: the server reads the end")
        return b""

    def account(self, data: bytes, most: int) -> None:
        """The server knows so much more of the client's text, having asked for `most` bytes at most."""
        self.last_recv = self.world.now
        if most <= self.rated:
            self.first_read = self.first_read or self.world.now
            self.last_read = self.world.now
            self.in_rate += len(data)
            self.largest = max(self.largest, len(data) - most)
        self.taken += data

    def send(self, data: bytes | memoryview) -> int:
        self.enter("send")
        world = self.world
        self.sends = self.sends + 1 if self.sends_in == world.turns else 1
        self.sends_in = world.turns
        if self.sends > 2 and not self.wired:  # by its own writer, and by spread() that it then joins
            raise Failure(f"{self.client.name} is sent something {self.sends} times in one turn")
        if self.error:
            number, self.error = self.error, 0
            self.failed_send = True
            if world.history is not None:
                world.note(f"{self.client.name}: the server's send fails: {os.strerror(number)}")
            raise error(number)
        if self.reset or self.ended:
            raise error(errno.EPIPE)
        try:
            world.refuse("sending", errno.ENOMEM, errno.ENOBUFS, errno.EPIPE)
        except OSError as refusal:
            self.failed_send = True
            self.refused = refusal.errno or 0
            raise
        size = min(len(data), self.room - len(self.outgoing))
        if size <= 0 and len(data):
            if self.flowing:
                self.flowing, self.last_send = False, world.now
            raise BlockingIOError(errno.EAGAIN, "again")
        if world.chance() < world.balk:
            world.hit("send would block after all")
            raise BlockingIOError(errno.EAGAIN, "again")
        size = world.part(size)
        if size < len(data):
            world.count("short send")
        self.outgoing += data[:size]
        if not self.wired:
            self.out += size
        self.flowing, self.last_send = True, world.now
        self.client.hear()
        world.work += 1
        if world.history is not None:
            world.note(
                f"{self.client.name}: the server sends {self.client.end.show(data[:size])}, {len(data) - size} left"
            )
        if self.client.closed:
            world.hit("sent to a peer that had closed")
            world.at(world.pick(0, 0, 0.01), once(self.abort))
        return size

    def shutdown(self, how: int) -> None:
        self.enter("shutdown")
        if self.reset:
            raise error(errno.ENOTCONN)
        self.ended = True
        self.client.hear()
        self.world.ended(self)
        self.world.work += 1
        if self.world.history is not None:
            self.world.note(f"{self.client.name}: the server ends its stream")

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert option == socket.TCP_INFO and size == TAKEN.stop
        return bytes(TAKEN.start) + self.drained.to_bytes(8, sys.byteorder)

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert option == socket.SO_LINGER
        self.rude = True

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.client.hear()
        fd, self.fd = self.fd, -1
        if self.world.history is not None:
            self.world.note(f"{self.client.name}: the server closes descriptor {fd}")
        if fd >= 0:
            self.world.close(fd)
        if not self.reset and (self.incoming or self.rude):
            self.world.hit("the server reset a connection" if self.rude else "the server closed with something unread")
            self.bounce()
        elif not self.reset and not self.ended:
            self.world.ended(self)
        self.world.refuse("closing", errno.EIO, errno.EINTR)


class Listener:
    """Where clients wait. `failures`: what accept fails with next; `short_until`: when there are descriptors again."""

    always = False

    def __init__(self, world: World, port: int) -> None:
        self.world = world
        self.port = port
        self.fd = world.open(self)
        self.backlog: list[Socket] = []
        self.failures: list[int] = []
        self.short_until = 0.0
        self.short_of = errno.EMFILE
        self.tried_at = 0.0
        self.accepted = 0
        self.closed = False

    def mask(self) -> int:
        return IN if self.backlog or self.failures else 0

    def fileno(self) -> int:
        return self.fd

    def getsockname(self) -> tuple[str, int]:
        return "", self.port

    def setblocking(self, flag: bool) -> None:
        pass

    def accept(self) -> tuple[Socket, Any]:
        world = self.world
        world.enter()
        if self.closed:
            raise error(errno.EBADF)
        if self.failures and (not self.backlog or world.chance() < 0.5):
            number = self.failures.pop(0)
            self.tried_at = world.now
            world.hit(f"accept failed: {errno.errorcode[number]}")
            if world.history is not None:
                world.note(f"accept fails: {os.strerror(number)}")
            raise error(number)
        if not self.backlog or world.chance() < world.balk:
            if self.backlog:
                world.hit("accept would block after all")
            raise BlockingIOError(errno.EAGAIN, "again")
        if world.now < self.short_until:
            self.tried_at = world.now
            world.count(f"accept failed: {errno.errorcode[self.short_of]}")  # no work: to try again at once is spinning
            raise error(self.short_of)
        sock = self.backlog.pop(0)
        sock.fd = world.open(sock)
        self.accepted += 1
        sock.accepted_at = world.now
        world.work += 3
        if sock.reset:
            world.hit("reset before accept")
        if world.history is not None:
            world.note(f"{sock.client.name}: accepted as descriptor {sock.fd}")
        return sock, sock.client.address

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            fd, self.fd = self.fd, -1
            self.world.close(fd)
            if self.world.history is not None:
                self.world.note(f"the server closes its listener, {len(self.backlog)} left at the door")
            for sock in self.backlog:
                sock.client.turned_away()
            self.backlog.clear()
            self.world.refuse("closing", errno.EIO, errno.EINTR)


def show(data: bytes | bytearray | memoryview) -> str:
    data = bytes(data)
    return repr(data) if len(data) <= 60 else f"{data[:40]!r}... ({len(data)} bytes)"
