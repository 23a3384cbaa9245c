"""Rows of text: of the conversation, and of a line being typed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.client.characters import split, width
from chat.client.layout import Draft, wrap

FAMILY = "👨\u200d👩\u200d👧"
COLUMN = re.compile(r"\x1b\[(\d+)G")
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def taken(row: str) -> int:
    """How many columns a row takes. On the way, each column that it sets is where one is anyway."""
    column = 0
    for part in re.split(r"(\x1b\[\d+G)", STYLE.sub("", row)):
        if found := COLUMN.fullmatch(part):
            assert int(found[1]) == column + 1
        else:
            column += sum(map(width, split(part)))
    return column


def bare(row: str) -> str:
    return COLUMN.sub("", STYLE.sub("", row))


# The conversation.


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("", [""]),
        ("ann: hi", ["ann: hi"]),
        ("ann: exactly twenty..", ["ann: exactly", "  twenty.."]),
        ("ann: just twenty....", ["ann: just twenty...."]),
        ("127.0.0.1: ." + " " * 69 + "127.0.0.7: no", ["127.0.0.1: .", "  127.0.0.7: no"]),
        ("ann: " + "x" * 40, ["ann: " + "x" * 15, "  " + "x" * 18, "  " + "x" * 7]),
        ("ann: a\tb\tc" + "\t" * 5 + "d", ["ann: a  b       c", "  d"]),
        ("    indented, and long", ["    indented, and", "  long"]),
        ("bob: 你好你好你好你好你好", ["bob: 你好你好你好你", "  好你好"]),
        (" " * 50 + "end", ["", "  end"]),
        ("ann: end" + " " * 50, ["ann: end"]),
    ],
)
def test_lines_are_broken_between_words_and_indented(line: str, rows: list[str]) -> None:
    assert wrap(line, 20) == rows


def test_a_style_goes_on_in_the_next_row() -> None:
    assert wrap("\x1b[1m\x1b[31mann\x1b[39m: words and words\x1b[m", 15) == [
        "\x1b[1m\x1b[31mann\x1b[39m: words and",
        "  words\x1b[m",
    ]


def test_behind_a_character_of_doubtful_width_the_column_is_set() -> None:
    assert wrap(f"ann: {FAMILY}!", 20) == [f"ann: {FAMILY}\x1b[8G!"]
    assert wrap("ann: 你好!", 20) == ["ann: 你好!"]


said = ["a", "b", "é", "你", "e\u0301", FAMILY, "❤\ufe0f", " ", " ", "\u3000", "\t", "का"]
lines = st.lists(st.sampled_from(said), max_size=60).map("".join)


@given(lines, st.integers(4, 30))
def test_rows_hold_all_that_was_said_and_no_more_than_they_can(text: str, columns: int) -> None:
    rows = wrap(f"\x1b[31mann\x1b[39m: {text}", columns)
    assert all(taken(row) <= columns for row in rows)
    assert all(row.startswith(" ") for row in rows[1:])
    said = "".join(map(bare, rows))
    assert re.sub("[ \t]", "", said) == re.sub("[ \t]", "", f"ann: {text}")
    for word in re.split("[ \t]+", text):
        if sum(map(width, split(word))) <= columns - 2:
            assert any(word in bare(row) for row in rows), "a word that fits into a row is not broken"


@pytest.mark.parametrize("columns", [2, 3, 4, 5])
def test_a_character_wider_than_the_screen_is_shown_somehow(columns: int) -> None:
    assert "".join(map(bare, wrap("का" + "ा" * 10, columns))).strip() == "का" + "ा" * 10
    draft = Draft()
    draft.update("का" + "ा" * 10 + "你", columns)
    assert draft.lay_out(100) < 100


# A line being typed.


def laid_out(text: str, columns: int) -> tuple[list[str], list[tuple[int, int]]]:
    """All rows, and where each place of the text is."""
    draft = Draft()
    draft.update(text, columns)
    return draft.rows[: draft.lay_out(1000)], [draft.find(place) for place in range(len(text) + 1)]


def test_layout_of_nothing_is_one_empty_row() -> None:
    assert laid_out("", 10) == ([""], [(0, 0)])


def test_behind_a_full_row_the_next_one_begins() -> None:
    assert laid_out("abcd", 4) == (["abcd", ""], [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)])
    assert laid_out("abcd\ne", 4)[0] == ["abcd", "", "e"]
    assert laid_out("abce\u0301", 4)[0] == ["abce\u0301", ""]


def test_what_cannot_be_seen_is_shown_as_its_escape_and_that_may_be_divided() -> None:
    assert laid_out("a\x1b\u200bb", 6)[0] == [r"a\x1b\ ".strip(), "u200bb", ""]


typed = ["a", "b", " ", "é", "你", "\u0301", FAMILY, "\u200d", "\ufe0f", "❤", "\n", "\t", "\u200b", "🇩", "\udc80"]
texts = st.lists(st.sampled_from(typed), max_size=40).map("".join)


@given(
    texts,
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), texts, st.integers(0, 40)), max_size=4),
    st.integers(4, 20),
)
def test_what_has_changed_is_laid_out_as_if_it_were_new(
    text: str, edits: list[tuple[int, int, str, int]], columns: int
) -> None:
    draft = Draft()
    draft.update(text, columns)
    for start, end, new, cursor in edits:
        draft.find(min(cursor, len(text)))
        text = text[:start] + new + text[end:]
        draft.update(text, columns)
        draft.find(min(cursor, len(text)))
    known = draft.lay_out(1000)
    places = [draft.find(place) for place in range(len(text) + 1)]
    assert (draft.rows[:known], places) == laid_out(text, columns)


def test_a_character_may_grow_back_into_the_row_before() -> None:
    """What was shown as an escape in the next row joins two emoji, once the second is there."""
    draft = Draft()
    for text in "xx👨\u200dx", "xx👨\u200d👩":
        draft.update(text, 4)
        known = draft.lay_out(10)
    assert draft.rows[:known] == laid_out(text, 4)[0] == ["xx👨\u200d👩", ""]


def test_a_key_costs_the_rows_that_it_changes() -> None:
    """In a million characters, at their end and at their beginning."""
    draft = Draft()
    text = "x" * (1 << 20)
    draft.update(text, 80)
    draft.find(len(text))
    rows = draft.rows
    filled = len(rows)
    draft.update(text + "y", 80)
    assert len(rows) >= filled - 2
    draft.update("z" + text, 80)
    draft.find(1)
    assert draft.lay_out(24) == 24
    assert len(draft.rows) == 24
