"""Clients that come with a browser: websockets' own client, and what it is made to do besides, allowed or not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from chat.server.web.frames import IDLE
from chat.server.web.wire import CODES, SENT_AWAY

from .ends import End
from .world import Failure

if TYPE_CHECKING:
    from .clients import SimulatedClient
    from .model import Ear

SILENT = logging.getLogger("simulated browsers")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False
NOT_UNDERSTOOD = "the browser was not understood: "


def frame(opcode: Opcode, data: bytes = b"", fin: bool = True, mask: bool = True, reserved: bool = False) -> bytes:
    """As a browser sends it. Without Frame.serialize()'s own check, so that it can be wrong, too."""
    one = Frame(opcode, data, fin, reserved)
    one.check = lambda: None  # type: ignore[method-assign]
    return one.serialize(mask=mask)


# What is not allowed: the close code that it is answered with, and what makes the frames, with masks of this world.
FAULTS: dict[str, tuple[int, Callable[[], bytes]]] = {}


def forbid(what: str, code: int, frames: Callable[[], bytes]) -> None:
    FAULTS[what] = code, frames


class BrowserEnd(End):
    """A browser that has opened the page's WebSocket. `below` is the end that its bytes go through."""

    kind = "browser"

    def __init__(self, client: SimulatedClient, below: End) -> None:
        super().__init__(client)
        pick, chance = self.world.pick, self.world.chance
        self.below = below
        self.queue = below.queue
        scheme = "ws" if below.kind == "plain" else "wss"
        origin = pick(None, "http://localhost", "https://localhost")
        self.protocol = ClientProtocol(
            parse_uri(f"{scheme}://localhost/chat"), origin=origin, max_size=None, logger=SILENT
        )
        self.ready = False
        self.hasty = chance() < 0.1  # it talks before the handshake is over
        self.mute = chance() < 0.2  # it answers neither pings nor a close frame
        self.restless = pick(0, 0, 0.1, 0.5)  # how often it pings, and worse, between two messages
        self.early: list[bytes] = []  # what it wants to say when it is ready
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.closed_with: Close | None = None  # by itself

    @property
    def waiting(self) -> bool:
        return bool(self.below.waiting or (self.early and not self.protocol.parser_exc))

    @property
    def cut(self) -> bool:
        sent = self.client.sent
        return bool(sent) and sent[-1] != 10  # what it wanted to say may not have been sent to its end

    def begin(self) -> None:
        self.below.begin()
        self.protocol.send_request(self.protocol.connect())
        self.flush()

    # What it says.

    def flush(self) -> None:
        """Send what the protocol wants to."""
        if data := b"".join(self.protocol.data_to_send()):
            self.below.put(data, b"")

    def put(self, data: bytes, text: bytes) -> None:
        self.below.put(data, b"" if self.fault or self.ended else text)

    def say(self, text: bytes) -> None:
        if not (self.ready or self.hasty):
            self.early.append(text)
            return
        if self.ended or self.told_end:
            return
        world = self.world
        *lines, rest = text.split(b"\n")
        if len(lines) > 1 and not self.inside and len(text) < 30_000 and world.chance() < 0.3:
            world.count("several lines in one frame")
            lines = [b"\n".join(lines)]
        for line in lines:
            self.fidget()
            self.put(frame(self.opcode, line), line + b"\n")
            self.inside = False
        if rest:
            self.put(frame(self.opcode, rest, fin=False), rest)
            self.inside = True

    @property
    def opcode(self) -> Opcode:
        return Opcode.CONT if self.inside else Opcode.TEXT

    def fidget(self) -> None:
        """Something between two frames."""
        world = self.world
        if world.chance() >= self.restless:
            return
        what = world.pick("ping", "ping", "pong", "pong", "empty", "pings", "pings", "pings", "flood")
        world.count(f"a browser's {what}")
        many = world.pick(1, 30, IDLE) if what == "pings" else 2 * IDLE if what == "flood" else 1
        if what == "pong":
            self.put(frame(Opcode.PONG, b"unasked for"), b"")
        elif what == "empty":
            many = int(self.inside)
            self.put(frame(Opcode.CONT, fin=False) * many, b"")
        else:
            pings = [b"%d" % (len(self.pings) + number) for number in range(many)]
            self.pings += pings
            self.suspect |= many >= IDLE
            self.put(b"".join(frame(Opcode.PING, ping) for ping in pings), b"")

    def end(self) -> None:
        if self.protocol.state is OPEN and not self.ended:
            code, reason = self.world.pick((1000, ""), (1001, "going away"), (4000, "grüße"), (None, ""))
            if self.inside:
                self.fault = self.fault or "an end within a message"
            self.protocol.send_close(code, reason)
            self.closed_with = Close(1005 if code is None else code, reason)
            self.flush()
            self.ended = True

    def break_rules(self) -> None:
        """Do what is not allowed. What comes after it is not heard."""
        if self.below.kind == "TLS" and self.world.chance() < 0.3:
            self.below.break_rules()
            self.fault = self.below.fault
        elif self.ready and not self.ended:
            what = self.world.pick(*FAULTS)
            if what == "a part of no message" and self.inside:
                return  # then it is one of that
            self.world.count(f"a browser's fault: {what}")
            self.fault = what
            self.put(FAULTS[what][1](), b"")

    # What it hears.

    def hear(self, data: bytes) -> bytes:
        data = self.below.hear(data)
        if not data:
            return b""
        text = bytearray()
        protocol = self.protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Response):
                self.ready = protocol.state is OPEN
            else:
                assert isinstance(event, Frame)
                text += self.take(event)
        if protocol.parser_exc:
            raise Failure(f"{self.client.name} does not understand the server: {protocol.parser_exc!r}")
        if protocol.close_rcvd:
            self.told_end = True
        if self.mute and self.ready:
            protocol.data_to_send()
        else:
            if self.told_end:
                self.ended = True
            self.flush()
        if self.ready:
            early, self.early = self.early, []
            for one in early:
                self.say(one)
        return bytes(text)

    def take(self, one: Frame) -> bytes:
        if one.opcode is Opcode.PONG:
            self.pongs.append(bytes(one.data))
        if one.opcode is Opcode.PING:
            self.world.count("the server's ping")
        if one.opcode is not Opcode.TEXT:
            if one.opcode not in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
                raise Failure(f"{self.client.name} gets a frame of kind {one.opcode!r}")
            return b""
        text = bytes(one.data)
        try:
            text.decode()
        except UnicodeDecodeError:
            raise Failure(f"{self.client.name} gets a frame that is not UTF-8") from None
        if not one.fin or not text.endswith(b"\n"):
            raise Failure(f"{self.client.name} gets a frame with a part of a line")
        return text

    def text(self, said: bytes) -> bytes:
        return said.decode("utf-8", "replace").encode()

    def show(self, data: bytes | memoryview) -> str:
        return self.below.show(data)

    # What should come of it.

    def unanswered(self) -> str:
        if self.pings[-1:] != self.pongs[-1:] and not (self.queue or self.fault or self.ended or self.mute):
            return f"its ping {self.pings[-1]!r}"
        return ""

    def explains(self, reason: str) -> bool:
        if reason.startswith(NOT_UNDERSTOOD):
            return bool(self.fault) or (reason.endswith("too many frames say nothing") and self.suspect)
        if reason.startswith("no answer to a ping"):
            return self.mute or not self.client.attentive
        late = reason == "answered a request without an end with 408" and not self.ready
        return late or self.below.explains(reason)

    def check(self, ear: Ear, reason: str) -> None:
        self.below.check(ear, reason)
        if not self.ready or (self.below.fault and not self.told_end):
            return
        close = self.protocol.close_rcvd
        if close is None:
            raise Failure(f"its stream has ended without a close frame ({reason})")
        right = Close(CODES.get(reason, SENT_AWAY), reason)
        if reason.startswith(NOT_UNDERSTOOD) and reason.endswith(close.reason):
            right = close
        fault = self.fault in FAULTS and close.code == FAULTS[self.fault][0]
        if close not in (right, self.closed_with) and not fault:
            raise Failure(f"it is told {close} instead of {right}")


text, cont, ping = Opcode.TEXT, Opcode.CONT, Opcode.PING
forbid("a frame without a mask", 1002, lambda: frame(text, b"hello", mask=False))
forbid("text that is not UTF-8", 1007, lambda: frame(text, b"hello \xff"))
forbid("a character cut off at the end", 1007, lambda: frame(text, "é".encode()[:1]))
forbid("a binary message", 1003, lambda: frame(Opcode.BINARY, b"hello"))
forbid("a reserved bit", 1002, lambda: frame(text, b"hello", reserved=True))
forbid("an unknown kind of frame", 1002, lambda: b"\x83\x80mask")
forbid("a long ping", 1002, lambda: frame(ping, b"." * 126))
forbid("a ping in parts", 1002, lambda: frame(ping, b".", fin=False))
forbid("a message that is too large", 1009, lambda: frame(text, b"." * 70_000)[:20])
forbid("a close code that is not to be sent", 1002, lambda: frame(Opcode.CLOSE, b"\x03\xed"))
forbid("a close frame of one byte", 1002, lambda: frame(Opcode.CLOSE, b"\x03"))
forbid("a close reason that is not UTF-8", 1007, lambda: frame(Opcode.CLOSE, b"\x03\xe8\xff"))
forbid("an end within a message", 1002, lambda: frame(text, fin=False) + frame(Opcode.CLOSE))
forbid("a message within a message", 1002, lambda: frame(text, fin=False) + frame(text, b"hello"))
forbid("a part of no message", 1002, lambda: frame(cont, b"hello"))
