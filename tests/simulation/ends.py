"""The far end of a connection: what a client's text goes through before it is bytes on their way, and back.

A client that is a browser, or speaks TLS, has an end that the server's wire has to get on with. None of them was
written here: the ssl module speaks TLS, and websockets' client is the browser (browsers.py).
"""

from __future__ import annotations

import ssl
from collections import deque
from typing import TYPE_CHECKING

from chat.server.certificate import TOLD

from .certificate import client_context
from .network import show
from .world import Failure

if TYPE_CHECKING:
    from .clients import SimulatedClient
    from .model import Ear

RECORD = 16 << 10  # bytes
IN_PLAIN = TOLD, b"HTTP/1.1 400 Bad Request"  # what the server says to who does not speak TLS
NOT_ACCEPTED = "decryption failed or bad record mac"  # the end of a client whose record was changed


class End:
    """A plain client's: its text is what is sent."""

    kind = "plain"

    def __init__(self, client: SimulatedClient) -> None:
        self.client = client
        self.world = client.world
        self.queue: deque[tuple[bytes, bytes]] = deque()  # what is to be sent, and the text that it completes
        self.ready = True  # it may talk
        self.ended = False  # it has said its own end, or will next
        self.told_end = False  # the server has said that nothing follows
        self.inside = False  # what it has sent is no whole message yet
        self.fault = ""  # what it does, or will do next, that is not allowed
        self.mute = False  # it answers no pings
        self.suspect = False  # it has done what is perhaps not allowed

    @property
    def waiting(self) -> bool:
        """Whether something is to be said or sent yet."""
        return bool(self.queue)

    @property
    def cut(self) -> bool:
        """Whether an end of the stream would cut off what it says."""
        return False

    def begin(self) -> None:
        """It is connected."""

    def say(self, text: bytes) -> None:
        self.put(text, text)

    def put(self, data: bytes, text: bytes) -> None:
        """Send `data`. When it has arrived the server knows `text`, which is nothing after something not allowed."""
        if data:
            self.queue.append((data, b"" if self.fault else text))

    def hear(self, data: bytes) -> bytes:
        """The text in what has come."""
        return data

    def end(self) -> None:
        """Say that nothing follows, if there is a way to."""

    def break_rules(self) -> None:
        """Do what is not allowed, if there is such a thing."""

    def text(self, said: bytes) -> bytes:
        """What arrives of a text."""
        return said

    def show(self, data: bytes | memoryview) -> str:
        return show(data)

    def unanswered(self) -> str:
        """What the server has yet to answer."""
        return ""

    def explains(self, reason: str) -> bool:
        """Whether what it has done is a reason for that end."""
        return False

    def excused(self, reason: str) -> bool:
        """Whether its connection may be reset, because of what it has done or what its wire could not do."""
        return not self.client.link.shaken or bool(self.client.link.refused or self.fault or self.suspect)

    def check(self, ear: Ear, reason: str) -> None:
        """It has read to the end of the stream, which was no reset: is that all there should be?"""


class SecureEnd(End):
    """A client that speaks TLS. Raises Failure when it can't understand the server."""

    kind = "TLS"

    def __init__(self, client: SimulatedClient) -> None:
        super().__init__(client)
        pick = self.world.pick
        self.trusts = pick(*[True] * 9, False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = client_context(self.trusts, pick(ssl.TLSVersion.TLSv1_2, *[ssl.TLSVersion.TLSv1_3] * 3))
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.ready = False
        self.held: deque[tuple[bytes, bytes]] = deque()  # what is to be sent when the handshake is over
        self.chopped = pick(False, False, True)  # into small records
        self.plain = b""  # what has come before it was ready, if that is no TLS
        self.alert = ""  # what the server complains about

    @property
    def waiting(self) -> bool:
        return bool(self.queue or self.held)

    @property
    def cut(self) -> bool:
        return not self.ended

    def begin(self) -> None:
        self.shake()

    def shake(self) -> None:
        try:
            self.ssl.do_handshake()
            self.ready = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError:
            if self.trusts:
                raise Failure(f"{self.client.name} is shown a wrong certificate") from None
            self.fault = "it does not trust the server"
        except ssl.SSLError as error:
            self.complain(error)
        self.flush(b"")
        if self.ready:
            while self.held:
                self.put(*self.held.popleft())

    def complain(self, error: ssl.SSLError) -> None:
        if not self.ready and any(text.startswith(self.plain[:20]) for text in IN_PLAIN):
            self.fault = "it was late, and is told that in plain text"
            return
        if "ALERT" not in (error.reason or "") or not self.fault:
            raise Failure(f"{self.client.name} does not understand the server's TLS: {error}") from None
        self.alert = error.reason

    def flush(self, text: bytes) -> None:
        if data := self.outgoing.read():
            super().put(data, text)

    def put(self, data: bytes, text: bytes) -> None:
        if not self.ready:
            self.held.append((data, text))
            return
        if self.ended:
            return
        start = 0
        while start < len(data):
            most = 1 + self.world.below(60) if self.chopped else RECORD
            part = data[start : start + most]
            start += len(part)
            try:
                self.ssl.write(part)
            except ssl.SSLZeroReturnError:  # the server has ended the conversation
                return
            self.flush(part if text is data else text if start == len(data) else b"")

    def hear(self, data: bytes) -> bytes:
        self.incoming.write(data)
        if not self.ready:
            self.plain += data
            if self.alert or self.fault:
                return b""
            self.shake()
            if not self.ready:
                return b""
        text = bytearray()
        try:
            while not (self.told_end or self.alert):
                if part := self.ssl.read(RECORD):
                    text += part
                else:
                    self.told_end = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.told_end = True
        except ssl.SSLError as error:
            self.complain(error)
        return bytes(text)

    def end(self) -> None:
        if self.ready and not self.ended:
            self.ended = True
            try:
                self.ssl.unwrap()
            except ssl.SSLError:
                pass  # it would wait for the server's
            self.flush(b"")

    def break_rules(self) -> None:
        """Send a record that is not what it was when it was made."""
        if not self.ready or self.ended:
            return
        self.world.count("a TLS record was changed")
        self.ssl.write(b"never to be read")
        data = bytearray(self.outgoing.read())
        data[-1] ^= 1
        self.fault = "a record was changed"
        super().put(bytes(data), b"")

    def show(self, data: bytes | memoryview) -> str:
        return f"{len(data)} bytes of TLS"

    def explains(self, reason: str) -> bool:
        return bool(self.fault) or (reason == "no TLS: end of stream" and self.client.fin)

    def check(self, ear: Ear, reason: str) -> None:
        if self.fault:
            ended_before = self.told_end and reason != NOT_ACCEPTED
            if self.fault == "a record was changed" and not (self.alert or ended_before):
                raise Failure("it is not told that a record was changed")
        elif self.ready and not self.told_end:
            raise Failure(f"its stream has ended without close_notify ({reason})")
