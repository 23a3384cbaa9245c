"""A WebSocket's stream, without I/O: cut anywhere, and against all that a client may do wrong.

The kinds of cases are those of Autobahn's testsuite, which needs Python 2 (autobahn.py, beside this, is for that):
frames and their lengths, pings and pongs, reserved bits, opcodes, fragments with control frames between, UTF-8, and how
a connection is closed.
"""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

websockets = pytest.importorskip("websockets", reason="websockets is not installed")

from websockets.client import ClientProtocol  # noqa: E402
from websockets.frames import Close, Frame, Opcode  # noqa: E402
from websockets.protocol import OPEN  # noqa: E402
from websockets.server import ServerProtocol  # noqa: E402
from websockets.uri import parse_uri  # noqa: E402

from chat.server.web.frames import FRAME, MESSAGE, SEND, Frames, Incoming, Outgoing, framed, goodbye  # noqa: E402

TEXT, CONT, BINARY, CLOSE, PING, PONG = 1, 0, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"


def fresh() -> Incoming:
    return Incoming(ServerProtocol(state=OPEN, max_size=MESSAGE))


def client() -> ClientProtocol:
    return ClientProtocol(parse_uri("ws://here/chat"), state=OPEN, max_size=None)


def sent(opcode: int, data: bytes = b"", fin: bool = True, bits: int = 0, mask: bytes = MASK, size: int = -1) -> bytes:
    """A frame as a client sends it, or as none should."""
    size = len(data) if size < 0 else size
    first, masked = (0x80 if fin else 0) | bits << 4 | opcode, 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    key = mask * (len(data) // 4 + 1) if mask else bytes(len(data))
    return head + mask + bytes(a ^ b for a, b in zip(data, key))


def close_frame(frame: bytes) -> tuple[int, str]:
    """What a close frame that a server has sent says: 1005 if nothing."""
    assert frame[0] == 0x80 | CLOSE and frame[1] == len(frame) - 2 <= 125
    close = Close.parse(frame[2:])
    return int(close.code), close.reason


# What a browser says.


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 1024, 65535, 65536])
def test_a_message_of_any_size_is_a_line(size: int) -> None:
    incoming = fresh()
    assert incoming.receive_data(sent(TEXT, b"x" * size)) == b"x" * size + b"\n"
    assert not incoming.ended


def test_a_message_over_the_bound_is_refused_before_it_has_come() -> None:
    incoming = fresh()
    assert incoming.receive_data(sent(TEXT, b"", size=MESSAGE + 1)[:14]) == b""
    assert close_frame(incoming.farewell)[0] == 1009 and "not understood" in incoming.failure


def test_so_is_one_that_comes_in_many_frames() -> None:
    incoming = fresh()
    incoming.receive_data(sent(TEXT, b"x" * 1000, fin=False))
    for _ in range(MESSAGE // 1000 + 1):
        incoming.receive_data(sent(CONT, b"x" * 1000, fin=False))
    assert close_frame(incoming.farewell)[0] == 1009


WORDS = st.text(max_size=40)
SPOKEN = st.lists(st.one_of(WORDS, st.lists(WORDS, min_size=2, max_size=4), st.binary(max_size=125)), max_size=8)


@given(SPOKEN, st.randoms(use_true_random=False))
def test_any_cut_of_any_conversation(spoken: list[str | list[str] | bytes], chance: random.Random) -> None:
    """Messages, whole or in fragments, perhaps with pings between; bytes stand for a ping with these."""
    stream, expected, pong = b"", b"", b""
    for what in spoken:
        if isinstance(what, bytes):
            stream += sent(PING, what)
            pong = framed(Opcode.PONG, what)
        elif isinstance(what, str):
            stream += sent(TEXT, what.encode())
            expected += what.encode() + b"\n"
        else:
            whole = "".join(what).encode()
            cuts = sorted(chance.randrange(len(whole) + 1) for _ in what[1:])
            pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)])]
            for place, piece in enumerate(pieces):
                stream += sent(CONT if place else TEXT, piece, fin=place == len(pieces) - 1)
                if chance.random() < 0.3 and place < len(pieces) - 1:
                    stream += sent(PONG, b"unasked")
            expected += whole + b"\n"
    incoming, said = fresh(), b""
    while stream:
        size = chance.choice([1, 2, 3, 7, 50, 1000])
        said += incoming.receive_data(stream[:size])
        stream = stream[size:]
    assert said == expected and incoming.pong == pong and not incoming.ended


def test_only_the_latest_ping_is_answered() -> None:
    incoming = fresh()
    incoming.receive_data(b"".join(sent(PING, b"%d" % n) for n in range(100)))
    assert incoming.pong == framed(Opcode.PONG, b"99")


INVALID = {
    "a continuation of nothing": (sent(CONT, b"x"), 1002),
    "a new message within another": (sent(TEXT, b"x", fin=False) + sent(TEXT, b"y"), 1002),
    "a ping in fragments": (sent(PING, b"x", fin=False), 1002),
    "a ping that is too long": (sent(PING, b"x" * 126), 1002),
    "a close that is too long": (sent(CLOSE, struct.pack("!H", 1000) + b"x" * 124), 1002),
    "no mask": (sent(TEXT, b"x", mask=b""), 1002),
    "a binary message": (sent(BINARY, b"x"), 1003),
    "a binary message in fragments": (sent(BINARY, b"x", fin=False) + sent(CONT, b"y"), 1003),
    "bytes that are no text": (sent(TEXT, b"ab\xff"), 1007),
    "half a character": (sent(TEXT, "ä".encode()[:1]), 1007),
    "half a character at the end of fragments": (sent(TEXT, b"a", fin=False) + sent(CONT, b"\xc3"), 1007),
    "a surrogate": (sent(TEXT, b"\xed\xa0\x80"), 1007),
    "a code point too high": (sent(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "an overlong slash": (sent(TEXT, b"\xc0\xaf"), 1007),
    "a close with one byte": (sent(CLOSE, b"\x03"), 1002),
    "a close whose reason is no text": (sent(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    **{f"reserved bits {bits}": (sent(TEXT, b"x", bits=bits), 1002) for bits in (1, 2, 4, 7)},
    **{f"reserved bits {bits} in a ping": (sent(PING, bits=bits), 1002) for bits in (1, 4)},
    **{f"opcode {opcode}": (sent(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{
        f"close code {code}": (sent(CLOSE, struct.pack("!H", code)), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("wrong, code", INVALID.values(), ids=list(INVALID))
@pytest.mark.parametrize("step", [1, 10_000])
def test_what_is_wrong_ends_it_after_all_that_was_right(wrong: bytes, code: int, step: int) -> None:
    incoming = fresh()
    stream = sent(TEXT, b"hello") + wrong + sent(CLOSE, struct.pack("!H", 1000)) + sent(TEXT, b"never")
    said = b"".join(incoming.receive_data(stream[at : at + step]) for at in range(0, len(stream), step))
    assert said.startswith(b"hello\n") and b"never" not in said
    assert incoming.ended and incoming.failure and close_frame(incoming.farewell)[0] == code
    assert incoming.receive_data(b"x" * 100) == b""


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
def test_a_close_is_answered_with_its_own_code(code: int) -> None:
    incoming = fresh()
    assert incoming.receive_data(sent(TEXT, b"bye") + sent(CLOSE, struct.pack("!H", code) + b"r")) == b"bye\n"
    assert incoming.ended and not incoming.failure and close_frame(incoming.farewell) == (code, "r")


def test_a_close_without_a_code_is_answered_without_one() -> None:
    incoming = fresh()
    incoming.receive_data(sent(CLOSE))
    assert incoming.ended and not incoming.failure and close_frame(incoming.farewell)[0] == 1005


@given(st.binary(max_size=300), st.integers(0, 40))
def test_noise_never_raises(noise: bytes, start: int) -> None:
    incoming = fresh()
    stream = sent(TEXT, "grüß".encode())[:start] + noise
    for at in range(0, len(stream), 7):
        incoming.receive_data(stream[at : at + 7])


# What is sent to a browser.


def shown(stream: bytes) -> list[str]:
    """What websockets' client makes of what was sent to it; each message is whole, and is valid text."""
    protocol = client()
    protocol.receive_data(stream)
    messages = []
    for frame in protocol.events_received():
        assert isinstance(frame, Frame) and frame.opcode is Opcode.TEXT and frame.fin
        messages.append(bytes(frame.data).decode())
    assert protocol.state is OPEN
    return messages


@given(st.binary(max_size=400))
def test_whatever_is_said_arrives_as_text(text: bytes) -> None:
    frames = Frames(text)
    assert shown(frames.data) == ([text.decode("utf-8", "replace")] if text else []) and frames.taken == len(text)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_text_may_be_any_kind_of_bytes(kind: type) -> None:
    assert shown(Frames(kind(b"a\nb\n")).data) == ["a\nb\n"]


def test_a_long_text_is_cut_behind_lines() -> None:
    line = b"x" * 999 + b"\n"
    messages = shown(Frames(line * 200).data)
    assert len(messages) == 4 and all(len(m) <= FRAME and m.endswith("\n") for m in messages)
    assert "".join(messages).encode() == line * 200


def test_a_very_long_line_is_cut_behind_a_character() -> None:
    line = ("x" + "€" * FRAME).encode()
    messages = shown(Frames(line).data)
    assert "".join(messages).encode() == line and len(messages) == 4


def test_so_much_at_once_and_no_more() -> None:
    frames = Frames(b"x" * (SEND + 100))
    assert frames.taken == SEND and frames.borders[-1] == (len(frames.data), SEND)


@given(st.integers(1, 300_000))
def test_what_was_begun_is_finished_and_the_rest_is_given_back(sent_bytes: int) -> None:
    """However much of it the socket has taken: the frame that it ends in is to be completed, and no other."""
    text = b"".join(b"%06d: some text\n" % number for number in range(16_000))
    frames = Frames(text)
    sent_bytes = min(sent_bytes, len(frames.data) - 1)
    rest, taken = frames.cut(sent_bytes)
    assert len(rest) <= FRAME + 10 and 0 < taken <= len(text)
    assert "".join(shown(frames.data[:sent_bytes] + bytes(rest))).encode() == text[:taken]


def test_what_many_are_sent_is_framed_once() -> None:
    outgoing = Outgoing()
    news = b"hello\n"
    assert outgoing.frame(news) is outgoing.frame(news)
    assert shown(outgoing.frame(b"other\n").data) == ["other\n"]


def test_a_long_reason_is_cut_behind_a_character() -> None:
    code, reason = close_frame(goodbye(1008, "ä" * 200))
    assert code == 1008 and reason == "ä" * 61


def test_frames_that_say_nothing_are_too_many_some_day() -> None:
    """Each costs time that no limit counts; empty messages do not belong to them."""
    for silent in sent(PING), sent(PONG), sent(TEXT, fin=False) + sent(CONT, fin=False) * 200:
        incoming = fresh()
        incoming.receive_data(silent * 200)
        assert incoming.ended and close_frame(incoming.farewell) == (1008, "too many frames say nothing")
    incoming = fresh()
    assert incoming.receive_data(sent(TEXT) * 500) == b"\n" * 500 and not incoming.ended


def test_no_character_is_torn_where_the_framing_of_a_long_text_stops() -> None:
    text = b"ab\n" + ("é" * 512 + "\n").encode() * 1100
    heard, start = b"", 0
    while start < len(text):
        frames = Frames(text[start:])
        assert frames.taken >= SEND or start + frames.taken == len(text)
        heard += text[start : start + frames.taken]
        assert "\ufffd".encode() not in frames.data
        start += frames.taken
    assert heard == text
