"""Who says a line, and how it is shown."""

from __future__ import annotations

import re

from chat.client.speakers import MOST, Speakers

STYLE = re.compile(r"\x1b\[[0-9;]*m")


def test_a_sender_keeps_a_colour_and_ones_own_lines_are_bold() -> None:
    speakers = Speakers(colour=True)
    first, again = speakers.dress(b"ann: hi", False), speakers.dress(b"ann: bye", False)
    assert first.partition("ann")[0] == again.partition("ann")[0] != ""
    assert speakers.dress(b"bob: hi", True).startswith("\x1b[1m")
    assert [STYLE.sub("", line) for line in (first, again)] == ["ann: hi", "ann: bye"]


def test_lines_that_nobody_says_have_no_colour() -> None:
    speakers = Speakers(colour=True)
    for line in (b"Welcome to the chat: each line", b"* ann is here", b": nothing", b"", b"x" * 100 + b": long"):
        assert speakers.dress(line, False) == line.decode()
    assert not speakers.names


def test_without_colours_there_are_none() -> None:
    speakers = Speakers(colour=False)
    assert speakers.dress(b"bob: hi", True) == "bob: hi"
    assert speakers.dress(b"ann: hi bob", False) == "! ann: hi bob"


def marked(speakers: Speakers, line: bytes) -> bool:
    speakers.named = False
    shown = speakers.dress(line, False)
    assert STYLE.sub("", shown) == line.decode()
    assert ("\x1b[7m" in shown) == speakers.named
    return speakers.named


def test_a_line_that_names_me_is_marked() -> None:
    speakers = Speakers(colour=True)
    assert not marked(speakers, b"ann: hi bob")
    speakers.dress(b"bob: hi", True)
    assert marked(speakers, b"ann: hi bob")
    assert marked(speakers, b"ann: Bob, are you there?")
    assert not marked(speakers, b"ann: a bobbin, a kebob")
    assert not marked(speakers, b"* bob is gone")
    assert marked(speakers, b"* ann waves to bob")
    assert marked(speakers, b"ann waves to bob")
    assert not marked(speakers, b"nobody waves to bob")
    assert "\x1b[7m" not in speakers.dress(b"bob: I, bob", True)


def test_a_line_for_me_alone_is_marked() -> None:
    speakers = Speakers(colour=True)
    assert marked(speakers, b"(ann to you) psst")
    assert not marked(speakers, b"(you to ann) yes?")
    assert not marked(speakers, b"ben: (ann to you) psst")
    assert [*speakers.names] == ["ann", "ben"]


def test_a_name_is_learned_from_the_welcome_and_changes() -> None:
    speakers = Speakers(colour=True)
    speakers.dress(b"Welcome, guest1. Commands: /nick NAME, /who", False)
    assert marked(speakers, b"ann: hi guest1")
    speakers.dress(b"* guest1 is now bob", False)
    assert marked(speakers, b"ann: hi bob")
    assert not marked(speakers, b"ann: hi guest1")
    speakers.dress(b"* ann is now eve", False)
    assert [*speakers.names] == ["eve"]


def test_names_of_others_are_remembered_the_latest_last_and_not_too_many() -> None:
    speakers = Speakers(colour=True)
    for line in (b"ann: 1", b"bob: 2", b"ann: 3"):
        speakers.dress(line, False)
    speakers.dress(b"me: 4", True)
    assert [*speakers.names] == ["bob", "ann"]
    for number in range(2 * MOST):
        speakers.dress(b"n%d: hi" % number, False)
    assert len(speakers.names) == MOST


def test_what_the_sender_sends_does_nothing() -> None:
    speakers = Speakers(colour=True)
    speakers.dress(b"\x1b[2Jx: hi\x07", True)
    shown = speakers.dress(b"ann: \x1b[31m \\x1b[2Jx \xe2\x80\xae", False)
    assert not any(char < " " for char in STYLE.sub("", shown))
