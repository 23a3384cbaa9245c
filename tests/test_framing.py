"""Framing: every way of cutting a stream gives the same messages, those of the naive model in simulation/reference.py.

In between, what is out is exactly what no further byte can change.
"""

from __future__ import annotations

import copy
import operator
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import combinations, combinations_with_replacement
from typing import Any

import pytest
from chatting import PATIENCE, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from more import every
from simulation.reference import frames, parts, settled

from chat.framing import LIMIT, Framer, Messages, Rest, join


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in pieces, cut at these places."""
    ends = [0, *sorted({min(place, len(stream)) for place in places}), len(stream)]
    return [stream[start:end] for start, end in zip(ends, ends[1:]) if end > start]


settled_once = lru_cache(maxsize=10_000)(settled)


def messages_of(pieces: list[bytes], stepwise: bool = False) -> list[bytes]:
    """What a Framer makes of the pieces. With `stepwise`, each step is compared with the model."""
    framer = Framer()
    messages: list[bytes] = []
    seen = b""
    for piece in pieces:
        messages += framer.receive_data(piece)
        assert len(framer.unfinished) <= LIMIT + 2
        if stepwise:
            seen += piece
            assert messages == settled_once(seen)
    messages += framer.finish()
    assert [isinstance(message, Rest) for message in messages] == [*map(bool, numbers(b"".join(pieces)))]
    return messages


def numbers(stream: bytes) -> Iterator[int]:
    """Of each message, which part of its line it is."""
    *lines, rest = stream.split(b"\n")
    for line in [*(line[:-1] if line.endswith(b"\r") else line for line in lines), *([rest] if rest else [])]:
        yield from range(len(parts(line)))


FILL = b"a" * LIMIT
# Streams whose length allows every way of cutting them
SHORT = [
    b"",
    b"\n",
    b"\r\n",
    b"\r",
    b"a",
    b"a\nb",
    b"\r\r\n\n",
    b"\n\r\na\r",
    b"a\r\n\r\nb",
    "é\n€\r".encode(),
    b"\xff\n\x00\xc3",
]
# Ends of a line that begins with LIMIT bytes, less the first figure
EDGES = [b"", b"\n", b"\r\n", b"\r", b"\r\r\n", b"b", b"b\n", b"\n\n", b"\r\n\r\n", b"\rb\n", b"\n\rb"]
EDGES += [text + end for text in map(str.encode, "é€😀") for end in (b"", b"\n", b"b\r\n", text)]
EDGES += [
    b"\xc3",
    b"\xc3b",
    b"\xe2\x82",
    b"\xe2\x82\n",
    b"\xf0\x9f\x98",
    b"\x80\x80",
    b"\xe0\x80\x80",
    b"\xff\xfe",
    b"\xed\xa0\x80",
]


@pytest.mark.parametrize("stream", SHORT)
def test_every_way_of_cutting_a_short_stream(stream: bytes) -> None:
    for number in range(len(stream)):
        for places in combinations(range(1, len(stream)), number):
            assert messages_of(cut(stream, list(places)), stepwise=True) == frames(stream)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("edge", every(5, EDGES))
def test_every_way_of_cutting_around_the_limit(before: int, edge: bytes) -> None:
    """A line of LIMIT - `before` bytes, then an edge, cut at every pair of places near the limit."""
    stream = FILL[before:] + edge
    near = range(LIMIT - 4, len(stream) + 1)
    for places in combinations_with_replacement(near, 2):
        assert messages_of(cut(stream, list(places)), stepwise=True) == frames(stream)


def test_each_byte_alone() -> None:
    stream = FILL + b"\r\n" + FILL + b"\n" + FILL + b"b\r\n\r\n" + "é€😀".encode() * 300 + b"\xff" * 1100 + b"\r"
    assert messages_of([bytes([byte]) for byte in stream]) == frames(stream)


PIECE = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", FILL, FILL[1:], FILL[2:], FILL + b"a", FILL * 2]),
    st.sampled_from(["é", "€", "😀"]).flatmap(lambda c: st.integers(250, 1100).map(lambda n: c.encode() * n)),
)


@given(st.lists(PIECE, max_size=8).map(b"".join), st.lists(st.integers(0, 5000), max_size=12))
def test_any_cut_of_any_stream(stream: bytes, places: list[int]) -> None:
    assert messages_of(cut(stream, places), stepwise=True) == frames(stream)


@given(st.lists(PIECE, max_size=8).map(b"".join))
def test_nothing_is_lost_or_added(stream: bytes) -> None:
    messages = messages_of([stream])
    assert b"".join(messages) == b"".join(line.removesuffix(b"\r") for line in lines_of(stream))
    assert all(len(message) <= LIMIT and b"\n" not in message for message in messages)


def lines_of(stream: bytes) -> Iterator[bytes]:
    """The stream's lines; the last one, without a separator, keeps its b"\\r"."""
    *lines, rest = stream.split(b"\n")
    yield from lines
    yield rest + b"\r" if rest.endswith(b"\r") else rest


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        (b"a\r\nb\n", [b"a", b"b"]),
        (b"\n\r\n", [b"", b""]),
        (b"a\r\r\n", [b"a\r"]),
        (FILL + b"\n", [FILL]),
        (FILL + b"\r\n", [FILL]),
        (FILL + b"\n\n", [FILL, b""]),
        (FILL + b"a\n", [FILL, b"a"]),
        (FILL * 2 + b"\n", [FILL, FILL]),
        (FILL[1:] + "é\n".encode(), [FILL[1:], "é".encode()]),
        (FILL[2:] + "é\n".encode(), [FILL[2:] + "é".encode()]),
        (FILL[3:] + "😀\n".encode(), [FILL[3:], "😀".encode()]),
        (FILL[1:] + b"\xc3\xc3\n", [FILL[1:] + b"\xc3", b"\xc3"]),
        (b"\xff" * 1025, [b"\xff" * 1024, b"\xff"]),
        (b"rest", [b"rest"]),
        (b"rest\r", [b"rest\r"]),
    ],
)
def test_by_hand(stream: bytes, messages: list[bytes]) -> None:
    """So that the model is not the only judge."""
    assert messages_of([stream]) == frames(stream) == messages


class HandledBytes(bytes):
    """Bytes that count how many of them are looked at or copied."""

    handled = 0

    def __contains__(self, what: object) -> bool:
        HandledBytes.handled += len(self)
        return super().__contains__(what)  # type: ignore[operator]

    def split(self, separator: bytes | None = None, most: int = -1) -> list[bytes]:  # type: ignore[override]
        HandledBytes.handled += len(self)
        return super().split(separator, most)

    def __radd__(self, before: bytes) -> HandledBytes:
        return HandledBytes(bytes(before) + bytes(self))


@pytest.mark.parametrize("line", [b"", b"a" * 100 + b"\n", FILL[:-1] + b"\n", FILL + b"\n"])
@pytest.mark.parametrize("size", [1, 7, 1000, 32768])
def test_the_cost_is_linear(line: bytes, size: int) -> None:
    """However it is cut, a stream is searched a small number of times, with an endless line (b"") too."""
    stream = ((line or FILL) * 300)[:40_000]
    HandledBytes.handled = 0
    framer = Framer()
    for start in range(0, len(stream), size):
        framer.receive_data(HandledBytes(stream[start : start + size]))
    assert 0 < HandledBytes.handled <= 4 * len(stream) + LIMIT


# Messages: a list, whoever looks at it.

TEXT, LISTED = b"b\n\na\nb\n", [b"b", b"", b"a", b"b"]


def set_slice(messages: list[bytes]) -> None:
    messages[1:3] = [b"x"]


def delete(messages: list[bytes]) -> None:
    del messages[0]


def add_in_place(messages: list[bytes]) -> list[bytes]:
    messages += [b"x"]
    return messages


def repeat_in_place(messages: list[bytes]) -> list[bytes]:
    messages *= 2
    return messages


def extend_another(messages: list[bytes]) -> list[bytes]:
    another = [b"x"]
    another.extend(messages)
    another[:0] = messages
    another += messages
    return another


def unpack(messages: list[bytes]) -> Any:
    first, *others = messages
    return first, others, (*messages,), [*messages], {*messages}


USES: dict[str, Callable[[list[bytes]], Any]] = {
    "len": len,
    "bool": bool,
    "list": list,
    "tuple": tuple,
    "iter": lambda messages: list(iter(messages)),
    "for": lambda messages: [message for message in messages],
    "reversed": lambda messages: list(reversed(messages)),
    "sorted": sorted,
    "join": b" ".join,
    "zip": lambda messages: list(zip(messages, enumerate(messages))),
    "repr": repr,
    "an index": lambda messages: (messages[0], messages[-1]),
    "a slice": lambda messages: messages[1:3],
    "in": lambda messages: (b"a" in messages, b"c" in messages),
    "equal": lambda messages: (messages == LISTED, messages != LISTED),
    "equal, the other way": lambda messages: (operator.eq(LISTED, messages), operator.ne(LISTED, messages)),
    "less": lambda messages: (messages < [b"c"], messages >= LISTED),
    "less, the other way": lambda messages: (operator.lt([b"c"], messages), operator.ge(LISTED, messages)),
    "add": lambda messages: operator.add(messages, [b"x"]),
    "add, the other way": lambda messages: operator.add([b"x"], messages),
    "times": lambda messages: (messages * 2, 2 * messages),
    "add in place": add_in_place,
    "times in place": repeat_in_place,
    "set": lambda messages: messages.__setitem__(0, b"x"),
    "set a slice": set_slice,
    "delete": delete,
    "append": lambda messages: messages.append(b"x"),
    "extend": lambda messages: messages.extend([b"x"]),
    "extend another": extend_another,
    "insert": lambda messages: messages.insert(1, b"x"),
    "pop": lambda messages: (messages.pop(), messages.pop(0)),
    "remove": lambda messages: messages.remove(b"b"),
    "clear": lambda messages: messages.clear(),
    "index": lambda messages: messages.index(b"a"),
    "count": lambda messages: messages.count(b"b"),
    "sort": lambda messages: messages.sort(key=len, reverse=True),
    "reverse": lambda messages: messages.reverse(),
    "copy": lambda messages: messages.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda messages: pickle.loads(pickle.dumps(messages)),
    "unpack": unpack,
    "isinstance": lambda messages: isinstance(messages, list),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_messages_in_one_piece_are_a_list_for_everybody(use: Callable[[list[bytes]], Any]) -> None:
    messages, listed = Messages(TEXT), LISTED.copy()
    for _ in range(2):  # at the first look, and at another one
        assert use(messages) == use(listed)
        assert list(messages) == listed
    assert join(b"> ", messages) == join(b"> ", listed)


@pytest.mark.parametrize("use", ["add", "eq", "ne", "lt", "le", "gt", "ge", "iadd"])
@pytest.mark.parametrize("other", [b"b\n", TEXT, b"x\n"])
def test_so_are_two_of_them(use: str, other: bytes) -> None:
    """What two calls of receive() have returned may be put together, or compared."""
    method, listed = getattr(operator, use), other[:-1].split(b"\n")
    assert method(Messages(TEXT), Messages(other)) == method(LISTED.copy(), listed)


@pytest.mark.skipif(shutil.which("pypy3") is None, reason="PyPy is not installed")
def test_on_pypy_they_are_a_list_from_the_first() -> None:
    code = "from chat.framing import Framer; copy = [0]; copy[:] = Framer().receive_data(b'a\\nb\\n'); print(copy)"
    done = subprocess.run(["pypy3", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == ("[b'a', b'b']\n", "")


def test_every_method_of_a_list_fills_it() -> None:
    own = {"__bool__", "__init__", "__new__", "__getattribute__", "__class_getitem__", "__doc__", "__hash__"}
    left = [name for name in vars(list) if name not in own and getattr(Messages, name) is getattr(list, name)]
    assert left == []


@pytest.mark.parametrize("prefix", [b"", b"> ", b"127.0.0.1: "])
@pytest.mark.parametrize("looked_into", [False, True])
@given(messages=st.lists(st.binary(max_size=9).map(lambda text: text.replace(b"\n", b"")), min_size=1, max_size=9))
@settings(max_examples=30)
def test_messages_in_one_piece_are_joined_and_counted_like_a_list(
    prefix: bytes, looked_into: bool, messages: list[bytes]
) -> None:
    whole = Messages(join(b"", messages))
    if looked_into:
        assert whole[0] == messages[0]
    assert whole.how_many(prefix) == len(messages)
    for before in prefix, b"another ", prefix:
        assert join(before, whole) == join(before, messages)
    assert whole == messages
