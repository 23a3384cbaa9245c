"""Breaks text into rows. The conversation is broken between words, the draft at the edge of the screen.

A row is a text to be written. After each character about whose width terminals disagree, this text sets the column,
so that what follows stands where it belongs in all terminals.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache

from ..escape import visible
from .characters import RUN, after, anchor, split, width

STYLE = r"\x1b\[[0-9;]*m"  # takes no column
WORDS = re.compile(rf"[ \t]+|(?:{STYLE}|[^ \t\x1b])+")


class Row:
    """A row that is being filled."""

    def __init__(self, columns: int, begin: int = 0, indent: int = 0) -> None:
        self.text = " " * indent
        self.indent = indent
        self.column = begin + indent  # where the next character goes
        self.left = columns - self.column  # columns that are still free
        self.doubtful = False  # whether this terminal may have its cursor in another column

    def add(self, shown: str, columns: int, certain: bool = True) -> None:
        """Put `shown` at the end. It takes `columns`; if not `certain`, this terminal may give it more or fewer."""
        if self.doubtful:
            self.text += f"\x1b[{self.column + 1}G"
        self.text += shown
        self.column += columns
        self.left -= columns
        self.doubtful = not certain

    def add_run(self, text: str, place: int, end: int) -> int:
        """Add the letters from `place` on that RUN matches, as many as fit; return the place after them."""
        found = RUN.match(text, place, min(end, place + self.left))
        if not found:
            return place
        columns = 2 if found["two_columns"] else 1
        reached = min(found.end(), place + self.left // columns)
        if text[reached : reached + 1] > "~":
            reached -= 1  # the next code point may be a mark of the last letter: leave both to add_character()
        if reached > place:
            self.add(text[place:reached], columns * (reached - place))
        return max(reached, place)

    def add_character(self, character: str, skip: int = 0) -> int | None:
        """Add a character's pieces (see shown()), from number `skip` on.

        Return the number of the first that does not fit, None if all do. A tab becomes spaces, up to the next column
        that is a multiple of 8, or to the edge.
        """
        if character == "\t":
            blanks = min(8 - self.column % 8, self.left)
            self.add(" " * blanks, blanks)
            return None
        for number, (piece, columns, certain) in enumerate(shown(character)):
            if number >= skip:
                if columns > self.left and self.column > self.indent:  # an empty row takes any piece
                    return number
                self.add(piece, columns, certain)
        return None


@lru_cache(4096)
def shown(character: str) -> tuple[tuple[str, int, bool], ...]:
    """The pieces in which a character is shown: the text of each, its columns, and whether all terminals agree on them.

    A character that cannot be seen is shown as its escape, and each letter of the escape is a piece.
    """
    text = visible(character.encode("utf-8", "surrogateescape"))
    if text == character and not width(character):
        text = f" {character}"  # a mark needs something to stand on
    return tuple((piece, width(piece), bool(RUN.fullmatch(piece))) for piece in split(text))


def wrap(line: str, columns: int) -> list[str]:
    """The rows of a line of the conversation. The line is safe to show, and may have styles in it.

    It is broken between words, and a word that is longer than a row is broken, too. All rows but the first are
    indented, so that none of them can be taken for a message of its own.
    """
    bare = re.sub(STYLE, "", line)
    if len(bare) <= columns and bare.isascii() and "\t" not in bare:
        return [line]
    indent = min(2, columns // 4)
    rows = [Row(columns)]
    gap = 0  # columns between the last word and the next
    for word in WORDS.findall(line):
        row = rows[-1]
        if word[0] in " \t":
            for blank in word:
                if blank == " ":
                    gap += 1
                else:
                    gap += 8 - (row.column + gap) % 8  # a tab, to the next multiple of 8
            continue
        taken = measure(word)
        if gap + taken <= row.left or (taken > columns - indent and gap < row.left):
            row.add(" " * gap, gap)
        else:
            rows.append(Row(columns, indent=indent))
        gap = 0
        for part in re.split(f"({STYLE})", word):
            if part.startswith("\x1b"):
                rows[-1].text += part
            else:
                break_up(part, rows, columns, indent)
    return [row.text for row in rows]


def measure(word: str) -> int:
    """How many columns a word takes."""
    word = re.sub(STYLE, "", word)
    if found := RUN.fullmatch(word):
        return len(word) * (2 if found["two_columns"] else 1)
    return sum(columns for character in split(word) for _, columns, _ in shown(character))


def break_up(text: str, rows: list[Row], columns: int, indent: int) -> None:
    """Add a text to the last of the rows, and to further ones if it does not fit."""
    place = 0
    while place < len(text):
        reached = rows[-1].add_run(text, place, len(text))
        if reached == place:
            reached = after(text, place)
            if rows[-1].add_character(text[place:reached]) is not None:
                rows.append(Row(columns, indent=indent))
                continue
        place = reached


class Draft:
    """The rows of a text that is being edited. They are laid out when they are asked for, and again when they change.

    So the cost of a key depends on the rows that it changes, not on the length of the text.
    """

    def __init__(self) -> None:
        self.text = ""
        self.columns = 0
        self.begin = 0  # the column where the first row begins
        self.starts: list[tuple[int, int]] = []  # where each row starts: at which character, and at which piece of it
        self.rows: list[str] = []  # the rows that are laid out

    def update(self, text: str, columns: int, begin: int = 0) -> None:
        """Take what the text is now, and forget the rows that may have changed. The text begins in column `begin`."""
        if (columns, begin) != (self.columns, self.begin) or not self.starts:
            self.starts, self.rows = [(0, 0)], []
        elif text != self.text:
            # New text can make the last unchanged character narrower. Then it may fit into the row of the character
            # before it. Forget that row, and all rows below.
            last = anchor(self.text, max(common(text, self.text) - 1, 0))
            before_last = anchor(self.text, max(last - 1, 0))
            kept = max(bisect_right(self.starts, (before_last, 0)), 1)
            del self.starts[kept:], self.rows[kept - 1 :]
        self.text, self.columns, self.begin = text, columns, begin

    def lay_out(self, number: int) -> int:
        """Lay out the first `number` rows, or all if there are fewer; return how many of them there are."""
        while len(self.rows) < number and self.next_row():
            pass
        return min(len(self.rows), number)

    def find(self, cursor: int) -> tuple[int, int]:
        """The row and column of a place in the text. The end of a full row is the beginning of the next."""
        while self.starts[-1][0] <= cursor and self.next_row():
            pass
        number = bisect_right(self.starts, (cursor, 0)) - 1
        return number, self.fill(number, cursor)[0].column

    def next_row(self) -> bool:
        """Lay out one more row; False if there is none."""
        if len(self.rows) == len(self.starts):
            return False
        place, skip = self.starts[-1]
        columns = self.columns - (self.begin if not self.rows else 0)
        line, newline, _ = self.text[place : place + columns + 1].partition("\n")
        next_start: tuple[int, int] | None
        if line.isascii() and line.isprintable() and not skip and (newline or len(line) > columns):  # most rows
            row = line[:columns]
            next_start = (place + len(row), 0)
            if len(row) < columns:
                next_start = (place + len(row) + 1, 0)  # after the newline
        else:
            filled, next_start = self.fill(len(self.rows), len(self.text))
            row = filled.text
        self.rows.append(row)
        if next_start:
            self.starts.append(next_start)
        return True

    def fill(self, number: int, end: int) -> tuple[Row, tuple[int, int] | None]:
        """Row `number`, filled up to the place `end` or to the edge; and where the next row starts, None at `end`."""
        text, (place, skip) = self.text, self.starts[number]
        row = Row(self.columns, 0 if number else self.begin)
        while row.left > 0:
            if place >= end:
                return row, None
            if text[place] == "\n":
                return row, (place + 1, 0)
            reached = place if skip else row.add_run(text, place, end)
            if reached == place:
                reached = after(text, place)
                missing = row.add_character(text[place:reached], skip)
                if missing is not None:
                    return row, (place, missing)
                skip = 0
            place = reached
        return row, (place, 0)


def common(one: str, other: str) -> int:
    """How many characters the beginnings of two texts have in common."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least
