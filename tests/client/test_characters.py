"""What is one character, and how many columns it takes."""

from __future__ import annotations

import pytest
import widths
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import iter_graphemes, wcwidth

from chat.client.characters import RUN, after, anchor, before, split, start, width
from chat.escape import harmless

FAMILY = "👨\u200d👩\u200d👧"


@pytest.mark.parametrize(
    ("text", "characters"),
    [
        ("", 0),
        ("ab", 2),
        ("e\u0301\u0302o", 2),
        (f"a{FAMILY}b", 3),
        ("❤\ufe0f❤", 2),
        ("1\ufe0f\u20e312#", 4),
        ("🇩🇪🇫🇷🇬", 3),
        ("👍🏽👍👩🏽\u200d❤\ufe0f\u200d👨🏻", 3),
        ("\u1100\u1161\u11a8가\ud7b0", 2),
        ("का", 1),
        ("a\u200b\u200db", 4),  # what is shown as an escape is a character of its own
        ("a\n\u0301\t\u0301", 5),
        ("a" + "\u0301" * 100, 5),
    ],
)
def test_what_is_one_character(text: str, characters: int) -> None:
    assert len(split(text)) == characters
    assert "".join(split(text)) == text


parts = st.one_of(
    st.sampled_from(["a", " ", "\n", "\t", "é", "e\u0301", "\u0301", "你", "\u1100\u1161", "का", "\u200b"]),
    st.sampled_from([FAMILY, "❤\ufe0f", "👍🏽", "🏽", "🇩", "1\ufe0f\u20e3", "\u200d", "\ufe0f"]),
)


@given(st.lists(parts, max_size=12).map("".join))
def test_there_and_back(text: str) -> None:
    """From one character to the next and from each to the one before it, one comes by the same places."""
    places = [0]
    while places[-1] < len(text):
        places.append(after(text, places[-1]))
    back = [len(text)]
    while back[-1] > 0:
        back.append(before(text, back[-1]))
    assert back[::-1] == places
    for place in range(len(text)):
        assert start(text, place) == max(known for known in places if known <= place)
        assert anchor(text, place) in places


@given(
    st.lists(st.sampled_from(["a", "你", "e\u0301", FAMILY, "❤\ufe0f", "👍🏽", "🇩🇪", "1\ufe0f\u20e3", "का", "각"])).map(
        "".join
    )
)
def test_characters_are_those_of_unicode(text: str) -> None:
    assert split(text) == list(iter_graphemes(text))


def test_the_widths_are_those_of_wcwidth() -> None:
    if f"Unicode {widths.newest()}." not in widths.TARGET.read_text():
        pytest.skip("wcwidth has another version of Unicode than chat/client/widths.py was made from")
    assert widths.TARGET.read_text() == widths.made(), "make it anew: python tests/client/widths.py"


def test_one_code_point_is_as_wide_as_wcwidth_says() -> None:
    marks = widths.codes(widths.CATEGORY_MC[widths.newest()])  # which wcwidth counts as nothing
    for code in range(0x20, 0x20000):
        char = chr(code)
        if harmless(char) == char and not 0x3248 <= code < 0x3250 and code not in marks:
            assert width(char) == wcwidth(char), hex(code)


@pytest.mark.parametrize(
    ("character", "columns"),
    [("a", 1), ("你", 2), ("e\u0301", 1), (FAMILY, 2), ("❤", 1), ("❤\ufe0f", 2), ("❤\ufe0e", 1), ("👍🏽", 2), ("🇩🇪", 2),
     ("1\ufe0f\u20e3", 2), ("\ud7b0", 0), ("\u1100\ud7b0", 2), ("\u3248", 2), ("\u4dc0", 2), ("का", 2)],
)  # fmt: skip
def test_a_character_is_as_wide_as_what_is_drawn(character: str, columns: int) -> None:
    assert width(character) == columns


def test_runs_are_of_letters_that_take_as_much() -> None:
    for code in range(0x20, 0x20000):
        if found := RUN.fullmatch(chr(code)):
            assert split(chr(code) * 2) == [chr(code)] * 2
            assert width(chr(code)) == found.lastindex
            assert harmless(chr(code)) == chr(code)
