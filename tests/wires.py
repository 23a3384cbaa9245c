"""A server on real sockets without waiting, for members with a wire: a toy of one, which is easy to check, or another.

The toy packs what it is sent into boxes: two bytes of length, then the bytes, scrambled. Its handshake is a line each
way. A box of length 0 is the end; PING asks for PONG.
"""

from __future__ import annotations

import select
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.server.flags import Options
from chat.server.journal import Journal
from chat.server.listen import prepare
from chat.server.server import Server
from loop import Kernel, readable

if TYPE_CHECKING:
    from typing import Callable

    from timeless import Timeless

    from chat.server.loading import Handler
    from chat.server.member import Member
    from loop.traps import Coroutine

HELLO, HI = b"hello\n", b"hi\n"
BOX = 1000  # bytes in one, at most
ENOUGH = 64 << 10  # bytes that may be kept
END, PING, PONG = (struct.pack(">H", code) for code in (0, 0xFFFF, 0xFFFE))
SCRAMBLE = bytes(code ^ 0x5A for code in range(256))
GREETING = b"Welcome to the chat: each line you send goes to everybody here.\n"


class Unpacker:
    """Boxes in, what was in them out."""

    def __init__(self) -> None:
        self.rest = bytearray()
        self.ended = False
        self.pings = self.pongs = 0

    def unpack(self, data: bytes) -> bytes:
        self.rest += data
        found = b""
        while len(self.rest) >= 2:
            assert not self.ended, "something follows the end"
            (size,) = struct.unpack(">H", self.rest[:2])
            if size in (0, 0xFFFF, 0xFFFE):
                self.ended |= size == 0
                self.pings += size == 0xFFFF
                self.pongs += size == 0xFFFE
                del self.rest[:2]
                continue
            assert size <= BOX, "this is no box"
            if len(self.rest) < 2 + size:
                break
            found += self.rest[2 : 2 + size].translate(SCRAMBLE)
            del self.rest[: 2 + size]
        return found


def packed(data: Any) -> bytes:
    boxes = [bytes(data[at : at + BOX]) for at in range(0, len(data), BOX)]
    return b"".join(struct.pack(">H", len(box)) + box.translate(SCRAMBLE) for box in boxes)


class Toy:
    """The wire."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.kept = bytearray()
        self.unpacker = Unpacker()
        self.early = b""  # what came with the handshake
        self.answered = 0
        self.ended = False

    @property
    def unsent(self) -> bool:
        return bool(self.kept)

    cut_off = False

    @property
    def pending(self) -> bool:
        return bool(self.early) or self.unpacker.ended

    def handshake(self, left: Callable[[], float]) -> Coroutine[str]:
        heard = b""
        while b"\n" not in heard:
            yield from readable(self.sock, left())
            data = self.sock.recv(1000)
            if not data:
                return "no hello"
            heard += data
        if not heard.startswith(HELLO):
            self.sock.send(b"what?\n")
            return "impolite"
        self.early = heard[len(HELLO) :]
        self.sock.send(HI)
        return ""

    def flush(self, count: int = 0) -> None:
        try:
            while self.kept:
                del self.kept[: self.sock.send(self.kept)]
        except BlockingIOError as error:
            error.characters_written = count
            raise

    def send(self, data: Any) -> int:
        self.flush()
        size = min(len(data), ENOUGH)
        self.kept += packed(memoryview(data)[:size])
        self.flush(size)
        return size

    def recv(self, most: int) -> bytes:
        if self.unpacker.ended:
            return b""
        data, self.early = self.early, b""
        found = self.unpacker.unpack(data or self.sock.recv(most))
        while self.answered < self.unpacker.pings:
            self.answered += 1
            self.kept += PONG
        try:
            self.flush()
        except OSError:
            pass
        if not found and not self.unpacker.ended:
            raise BlockingIOError
        return found

    def end(self, reason: str) -> None:
        if not self.ended:
            self.ended = True
            self.kept += END
        try:
            self.flush()
        except BlockingIOError:
            pass


class Peer:
    """A client, boxed if it is to talk to a toy wire. It reads only when it is told to."""

    def __init__(self, house: House, boxed: bool = True, buffer: int = 0, host: str = "127.0.0.1") -> None:
        self.house = house
        self.boxed = boxed
        self.sock = socket.socket()
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.bind((host, 0))
        self.sock.connect((house.boxed if boxed else house.plain).getsockname())
        host, port = self.sock.getsockname()
        self.name = f"{host}:{port}"
        self.sock.setblocking(False)
        self.unpacker = Unpacker()
        self.shook = not boxed
        self.raw = self.heard = b""
        self.fin = self.reset = False

    def greet(self) -> None:
        """Shake hands, and wait for the greeting."""
        self.sock.send(HELLO)
        self.until(lambda: self.heard.endswith(GREETING))
        self.heard = b""

    def say(self, text: bytes) -> None:
        self.sock.send(packed(text) if self.boxed else text)

    def read(self) -> None:
        """Take what is there."""
        try:
            while not (self.fin or self.reset):
                data = self.sock.recv(1 << 16)
                self.fin = not data
                self.raw += data
                if not self.shook and self.raw.startswith(HI):
                    self.shook, data = True, self.raw[len(HI) :]
                if self.shook:
                    self.heard += self.unpacker.unpack(data) if self.boxed else data
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.reset = True

    def until(self, condition: Callable[[], Any]) -> None:
        """Read until this is true."""

        def reading() -> bool:
            self.read()
            return bool(condition())

        self.house.until(reading)


class House:
    """A server with a plain listener and one with a toy wire, on a kernel for which time does not pass."""

    def __init__(
        self, kernel: Kernel, world: Timeless, journal: Path, handler: Handler, options: Options, wire: Any
    ) -> None:
        self.kernel = kernel
        self.world = world
        self.path = journal
        self.output = journal.open("wb", buffering=0)
        self.plain, self.boxed = listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        for listener in listeners:
            prepare(listener, options.stall_timeout)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.server = Server(kernel, listeners, Journal(self.output), options, handler, wires={self.boxed: wire})
        self.life = kernel.spawn(self.server.run(), "server")
        self.peers: list[Peer] = []

    def peer(self, **more: Any) -> Peer:
        self.peers.append(Peer(self, **more))
        return self.peers[-1]

    def member(self, **more: Any) -> Peer:
        """One that was greeted."""
        peer = self.peer(**more)
        if peer.boxed:
            peer.greet()
        else:
            peer.until(lambda: peer.heard == GREETING)
            peer.heard = b""
        return peer

    def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(3000):
            if condition():
                return
            self.kernel.turn()
        raise AssertionError("this never came true")

    def ended(self, peer: Peer) -> str:
        """Wait for the journal to say why a connection has ended."""
        begin = f"{peer.name} connection terminated: "

        def found() -> list[str]:
            return [line for line in self.path.read_text().splitlines() if line.startswith(begin)]

        self.until(found)
        return found()[0][len(begin) :]

    def fill(self, peer: Peer, talker: Peer) -> bytes:
        """Have so much said that the peer, which does not read, is behind, and its wire has something unsent."""
        said = b""
        while not self.wire(peer).unsent:
            text = b"".join(b"%06d %s\n" % (len(said) + n, b"x" * 900) for n in range(10))
            talker.say(text)
            said += text
            self.until(lambda: self.of(talker).outbox.empty)
            talker.until(lambda: talker.heard.endswith(text))  # noqa: B023
        return said

    def of(self, peer: Peer) -> Member:
        return next(member for member in self.server.connections if member.name == peer.name)

    def wire(self, peer: Peer) -> Any:
        return self.of(peer).wire

    def close(self) -> None:
        self.server.stop()
        for peer in self.peers:
            peer.sock.close()
        self.kernel.run(until=self.life)
        for task in list(self.kernel.tasks):
            task.cancel()
        self.kernel.turn()
        self.output.close()


def flood(here: House, peer: Peer) -> int:
    """Tell a peer that does not read so many lines that its socket is full, and its outbox empty; returns how many."""
    count = 0
    member = here.of(peer)
    full = False
    while not full:
        full = not select.select([], [member.socket], [], 0.05)[1]  # what is on its way has arrived, and made no room
        member.tell("y" * (40_000 if full else 400))
        count += 1
        while here.kernel.ready:
            here.kernel.turn()
    assert member.outbox.empty and here.wire(peer).unsent
    return count
