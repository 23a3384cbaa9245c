"""Bytes from the server, cut anywhere, and the lines they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chat.client.incoming import LONGEST, Incoming


@given(st.lists(st.binary(max_size=6) | st.sampled_from([b"\n", b"\r\n", b"a\n"]), max_size=12))
def test_lines_are_the_same_however_they_are_cut(pieces: list[bytes]) -> None:
    incoming = Incoming()
    lines = [line for piece in pieces for line in incoming.receive_data(piece)]
    *complete, rest = b"".join(pieces).split(b"\n")
    assert lines == [line[:-1] if line.endswith(b"\r") else line for line in complete]
    assert incoming.unseen == bool(rest)
    assert incoming.look() == rest
    assert incoming.finish() == ([rest] if rest else [])


def test_a_line_without_an_end_is_cut() -> None:
    incoming = Incoming()
    lines = [line for _ in range(300) for line in incoming.receive_data(b"x" * 1000)]
    assert [len(line) >= LONGEST for line in lines] == [True] * 4
    assert sum(map(len, lines)) + len(incoming.look()) == 300_000


def test_what_was_looked_at_is_no_news_until_more_comes() -> None:
    incoming = Incoming()
    incoming.receive_data(b"one\nlogin: ")
    assert incoming.unseen
    assert incoming.look() == b"login: "
    assert not incoming.unseen
    assert incoming.receive_data(b"ann\n") == [b"login: ann"]
    assert not incoming.unseen
