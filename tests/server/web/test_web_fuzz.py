"""A browser's wire over a socket that takes and gives as little as it likes, and websockets' client at its end."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("websockets", reason="websockets is not installed")

from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from chat.server.sending import taken
from chat.server.web.frames import MESSAGE, Incoming
from chat.server.web.wire import BrowserWire, Door

DOOR = Door([])
AMOUNTS = [1, 2, 3, 10, 130, 5000, 1 << 20]


class Narrow:
    """The socket, and what is on its way in both directions. Once it is `failing`, nothing can be sent any more."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.coming = b""
        self.gone = b""
        self.failing = False

    def send(self, data: bytes | memoryview) -> int:
        if self.failing:
            raise ConnectionResetError
        size = min(len(data), self.chance.choice([0, *AMOUNTS]))
        if data and not size:
            raise BlockingIOError
        self.gone += bytes(data[:size])
        return size

    def recv(self, most: int) -> bytes:
        size = min(most, self.chance.choice([0, *AMOUNTS]))
        data, self.coming = self.coming[:size], self.coming[size:]
        if not data:
            raise BlockingIOError
        return data


class Both:
    """The two ends, and what each has said and heard."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.socket = Narrow(self.chance)
        self.wire = BrowserWire(DOOR, self.socket)  # type: ignore[arg-type]
        self.wire.incoming = Incoming(ServerProtocol(state=OPEN, max_size=MESSAGE))
        self.client = ClientProtocol(parse_uri("ws://here/chat"), state=OPEN, max_size=None)
        self.said, self.heard = b"", b""  # by the browser; of it
        self.told = b""  # that the wire has taken
        self.due = b""  # to it
        self.pings: list[bytes] = []
        self.frames: list[Frame] = []

    def text(self) -> str:
        return self.chance.choice(["", "hi", "grüß dich", "€" * 50, "x" * 1000, "two\nlines"])

    # What may happen.

    def browser_says(self) -> None:
        text = self.text().encode()
        cuts = sorted(self.chance.randrange(len(text) + 1) for _ in range(self.chance.choice([0, 0, 1, 3])))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
        for place, piece in enumerate(pieces):
            send: Any = self.client.send_continuation if place else self.client.send_text
            send(piece, place == len(pieces) - 1)
            if self.chance.random() < 0.2:
                self.browser_pings()
        self.said += text + b"\n"

    def browser_pings(self) -> None:
        self.pings.append(b"%d" % len(self.pings))
        self.client.send_ping(self.pings[-1])

    def room_says(self) -> None:
        line = self.text().encode() if self.chance.random() < 0.8 else b"\xff" * self.chance.choice([1, 70_000])
        self.due += line + b"\n"

    def send(self) -> None:
        try:
            count = self.wire.send(self.due)
        except BlockingIOError as wait:
            count = taken(wait)
        self.told, self.due = self.told + self.due[:count], self.due[count:]

    def receive(self) -> None:
        self.socket.coming += b"".join(self.client.data_to_send())
        try:
            self.heard += self.wire.recv(1 << 15)
        except BlockingIOError:
            assert not self.wire.pending

    def ping(self) -> None:
        self.wire.ping()

    def arrive(self) -> None:
        """What was sent comes to the browser."""
        self.client.receive_data(self.socket.gone)
        self.socket.gone = b""
        self.frames += self.client.events_received()  # type: ignore[arg-type]

    # And in the end.

    def flush(self) -> None:
        for _ in range(500_000):
            if not self.wire.unsent:
                return
            try:
                self.wire.send(b"")
            except BlockingIOError:
                pass
        raise AssertionError("there is no end to what is unsent")

    def check(self) -> None:
        texts = [bytes(frame.data) for frame in self.frames if frame.opcode is Opcode.TEXT]
        assert b"".join(texts) == self.told.decode("utf-8", "replace").encode()
        assert all(frame.fin for frame in self.frames)
        for text in texts:
            text.decode()
        pongs = [bytes(frame.data) for frame in self.frames if frame.opcode is Opcode.PONG]
        assert sorted(pongs, key=int) == pongs and set(pongs) <= set(self.pings)


def live(both: Both, steps: int) -> None:
    for _ in range(steps):
        both.chance.choice(
            [both.browser_says, both.browser_pings, both.room_says, both.send, both.receive, both.ping, both.arrive]
        )()


@given(st.integers(0, 1 << 32), st.integers(0, 60))
def test_whatever_happens_both_streams_are_whole(seed: int, steps: int) -> None:
    both = Both(seed)
    live(both, steps)
    while both.due:
        both.send()
    while both.socket.coming or both.client.writes or both.wire.pending:
        both.receive()
    both.flush()
    both.wire.end("the server is ending")
    both.flush()
    both.arrive()
    both.check()
    assert both.heard == both.said
    close = both.client.close_rcvd
    assert close and (close.code, close.reason) == (CloseCode.GOING_AWAY, "the server is ending")
    if both.pings:
        assert [bytes(frame.data) for frame in both.frames if frame.opcode is Opcode.PONG][-1] == both.pings[-1]


@given(st.integers(0, 1 << 32), st.integers(0, 60))
def test_in_every_state_a_browser_may_leave(seed: int, steps: int) -> None:
    both = Both(seed)
    live(both, steps)
    both.client.send_close(4000, "enough")
    both.socket.coming += b"".join(both.client.data_to_send())
    while not (both.wire.incoming and both.wire.incoming.ended):
        both.receive()
    assert both.wire.pending
    while both.wire.inside:
        both.receive()
    assert both.wire.recv(100) == b"" and both.heard == both.said
    both.wire.end("end of stream")
    both.flush()
    both.arrive()
    both.check()
    assert both.client.close_rcvd and both.client.close_rcvd.code == 4000


@given(st.integers(0, 1 << 32), st.integers(0, 60))
def test_in_every_state_it_may_break_the_rules_or_vanish(seed: int, steps: int) -> None:
    both = Both(seed)
    live(both, steps)
    both.socket.failing = both.chance.random() < 0.3
    both.socket.coming += b"".join(both.client.data_to_send()) + b"\xff" * 20
    with pytest.raises(ConnectionError, match="the browser was not understood"):
        while True:
            both.receive()
    assert both.heard == both.said
    if not both.socket.failing:
        both.flush()
        both.arrive()
        both.check()
        assert both.client.close_rcvd and both.client.close_rcvd.code == 1002
