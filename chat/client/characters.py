"""Characters as people count them, and the columns they take.

A character is what Backspace removes at once: a code point and the marks drawn into it, or all code points that
make one emoji, as in a family, a flag or a keycap. That is Unicode's rule (UAX 29), except for some fine points such as
Indic conjuncts. A code point that is shown as an escape, like a zero-width space, is a character of its own.

Terminals disagree about the widths of many characters. The widths here are those of chat/client/widths.py. RUN matches
letters on whose width all terminals agree: either letters of one column each, or letters of two columns each.
"""

from __future__ import annotations

import re
from bisect import bisect
from functools import lru_cache

from ..escape import EMOJI, harmless
from .widths import SPACING, WIDE, ZERO

RUN = re.compile(
    "(?P<one_column>[ -~\xa1-\xa8\xaa-\xac\xaf-\u02ff\u038e-\u03a1\u03a3-\u0482]+)"  # European letters
    "|(?P<two_columns>[\u3041-\u3096\u30a1-\u30ff\u4e00-\u9fef\uac00-\ud7a3]+)"  # Kana, Han, Hangul
)
MARKS = 20  # the most marks of one character; more would be drawn over the rows above
JOINED = re.compile(f"[\U0001f1e6-\U0001f1ff]{{2}}|{EMOJI}")  # a flag, or another emoji


def within(char: str, table: tuple[int, ...]) -> bool:
    return bisect(table, ord(char)) % 2 == 1


@lru_cache(4096)
def mark(char: str) -> bool:
    """Whether a code point is drawn into the character before it."""
    return char >= "\u0300" and (within(char, ZERO) or within(char, SPACING)) and harmless(char) == char


def after(text: str, place: int) -> int:
    """The end of the character that begins at `place`; at the end of the text, `place` itself."""
    if place == len(text):
        return place
    end = place + 1
    if text[place] in "\t\n":
        return end
    if text[place] > "~" or text[end : end + 1] == "\ufe0f":  # only these can be joined, and a match takes time
        found = JOINED.match(text, place)
        end = found.end() if found else end
    most = min(end + MARKS, len(text))
    while end < most and mark(text[end]):
        end += 1
    return end


def split(text: str) -> list[str]:
    """The characters of a text."""
    found, place = [], 0
    while place < len(text):
        found.append(text[place : after(text, place)])
        place += len(found[-1])
    return found


def anchor(text: str, place: int) -> int:
    """The last place up to `place` at which a character surely begins."""
    while place > 0 and not begins(text[place - 1], text[place]):
        place -= 1
    return place


def start(text: str, place: int) -> int:
    """The beginning of the character to which the code point at `place` belongs."""
    begin = anchor(text, place)
    while (end := after(text, begin)) <= place:
        begin = end
    return begin


def before(text: str, place: int) -> int:
    """The beginning of the character that ends at `place`; 0 at the beginning of the text."""
    return start(text, place - 1) if place else 0


def begins(previous: str, char: str) -> bool:
    """Whether `char`, after the code point `previous`, begins a new character, whatever comes before these two."""
    if char <= "~":
        return True
    if mark(char) or char in "\u200d\ufe0e\ufe0f" or "\U0001f3fb" <= char <= "\U0001f3ff" or previous == "\u200d":
        return False
    return not "\U0001f1e6" <= char <= "\U0001f1ff" or not "\U0001f1e6" <= previous <= "\U0001f1ff"


@lru_cache(4096)
def width(character: str) -> int:
    """How many columns a character takes: 0 to 2, or a few more with marks that need space. Not for controls."""
    first = character[0]
    columns = 1
    if within(first, ZERO):
        columns = 0
    elif within(first, WIDE):
        columns = 2
    if len(character) == 1:
        return columns
    if (found := JOINED.match(character)) and found.group() not in (first, first + "\ufe0e"):
        return 2
    return columns + sum(within(char, SPACING) for char in character[1:])
