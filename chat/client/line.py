"""A line of text with a cursor, and what the keys of an editor do to it. Even newlines can be in the text."""

from __future__ import annotations

from .characters import after, before, mark, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable


def is_between_words(char: str) -> bool:
    """Whether a character stands between words."""
    return not char.isalnum() and not mark(char)


class Line:
    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0  # a place in `text`
        self.killed = ""  # what Ctrl-Y brings back
        self.after_kill = ("", 0)  # the line and the cursor as the last kill() left them

    def put(self, start: int, end: int, text: str = "") -> None:
        """Replace what is between two places by `text`, and put the cursor after it."""
        self.text = self.text[:start] + text + self.text[end:]
        self.cursor = start + len(text)

    def move(self, place: int) -> None:
        self.cursor = place

    def kill(self, start: int, end: int) -> None:
        """Remove what is between two places. Ctrl-Y brings it back, together with what was removed just before."""
        if start < end:
            part = self.text[start:end]
            before = self.killed if (self.text, self.cursor) == self.after_kill else ""
            self.killed = part + before if end == self.cursor else before + part
            self.put(start, end)
            self.after_kill = self.text, self.cursor

    def left(self) -> int:
        """The place one character before the cursor."""
        return before(self.text, self.cursor)

    def right(self) -> int:
        """The place one character after the cursor."""
        return after(self.text, self.cursor)

    def word_left(self, between: Callable[[str], bool]) -> int:
        """The start of the word before the cursor."""
        place = self.cursor
        for wanted in True, False:  # first back over what is between words, then over the word
            while place > 0 and between(self.text[place - 1]) is wanted:
                place -= 1
        return start(self.text, place) if place < len(self.text) else place

    def word_right(self, between: Callable[[str], bool]) -> int:
        """The end of the word after the cursor."""
        place = self.cursor
        for wanted in True, False:  # first over what is between words, then over the word
            while place < len(self.text) and between(self.text[place]) is wanted:
                place += 1
        return after(self.text, before(self.text, place))

    def transpose(self) -> None:
        """Swap the characters around the cursor; at the end, the last two."""
        end = self.right()
        middle = before(self.text, end)
        first = before(self.text, middle)
        if middle:
            self.put(first, end, self.text[middle:end] + self.text[first:middle])
