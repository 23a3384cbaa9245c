"""The screen: what is written to the terminal, against what a terminal makes of it (pyte)."""

from __future__ import annotations

from typing import Any

import pyte
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcwidth

from chat.client.editor import Editor
from chat.client.keys import PASTE_END
from chat.client.layout import wrap
from chat.client.screen import Screen


def paste(text: str) -> bytes:
    return f"\x1b[200~{text}{PASTE_END}".encode()


class Terminal(pyte.HistoryScreen):
    """A terminal. pyte wraps a full row before it looks at a combining mark, and forgets it on a wide character."""

    def draw(self, data: str) -> None:
        for char in data:
            row = self.buffer[self.cursor.y]
            column = self.cursor.x - 1
            if column > 0 and not row[column].data:  # the second half of a wide character
                column -= 1
            if wcwidth(char) == 0 and column >= 0:
                row[column] = row[column]._replace(data=row[column].data + char)
            else:
                super().draw(char)

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """As xterm does it: what does not fit is cut off, at the top as far as the cursor's row needs it."""
        assert lines is not None and columns is not None
        above = max(0, self.cursor.y - lines + 1)
        rows = [self.buffer[row] for row in range(above, min(self.lines, above + lines))]
        self.buffer.clear()
        for number, row in enumerate(rows):
            for column in range(columns, self.columns):
                row.pop(column, None)
            self.buffer[number] = row
        self.lines, self.columns = lines, columns
        self.cursor.x, self.cursor.y = min(self.cursor.x, columns - 1), self.cursor.y - above


class Front:
    """An editor in front of a terminal."""

    def __init__(self, columns: int = 20, rows: int = 6) -> None:
        self.editor = Editor()
        self.screen = Screen(columns, rows)
        self.terminal = Terminal(columns, rows)
        self.stream = pyte.Stream(self.terminal)
        self.conversation: list[str] = []
        self.cut = False  # the terminal has cut the conversation

    def show(self, *lines: str) -> None:
        self.conversation += lines
        self.screen.show(list(lines))

    def press(self, keys: bytes) -> None:
        for what, _ in self.editor.press(keys):
            if what == "repaint":
                self.screen.repaint()

    def resize(self, columns: int, rows: int) -> None:
        self.terminal.resize(rows, columns)
        self.screen.resize(columns, rows)
        self.cut = True

    def refresh(self) -> None:
        self.cut = self.cut and not self.screen.lost
        while output := self.screen.refresh(*self.editor.view()):
            self.stream.feed(output)

    def display(self) -> list[str]:
        return [row.rstrip() for row in self.terminal.display]

    def check(self) -> None:
        """The line is on the screen once, whole, the cursor where it belongs, and the conversation right above it."""
        above = self.check_line()
        if not self.cut:
            told = [row.rstrip() for line in self.conversation[-30:] for row in wrap(line, self.screen.columns)]
            assert above == told[len(told) - len(above) :]

    def check_line(self) -> list[str]:
        """The same, without the conversation; returns what is above the line."""
        self.refresh()
        screen, cursor = self.screen, self.terminal.cursor
        prompt, text, place = self.editor.view()
        rows, row, column = expected(prompt, text, screen.columns, place)
        start = cursor.y - row
        assert cursor.x == column
        display = self.display()
        if len(rows) <= screen.rows:
            assert start >= 0
            assert display[start:] == rows + [""] * (screen.rows - start - len(rows))
        else:
            if start < 0:
                rows[-start] = expected(prompt, "", screen.columns, 0)[0][0]
            assert display == rows[-start : screen.rows - start]
            start = 0
        assert not any(">" in row for row in display[:start])  # which only the prompt has
        return display[:start]


def expected(prompt: str, text: str, columns: int, cursor: int) -> tuple[list[str], int, int]:
    """Where everything belongs, thought out anew: a list of cells, a place for each character."""
    places: list[tuple[int, int]] = []
    cells: dict[tuple[int, int], str] = {}
    row = column = 0
    for previous, char in zip(["", *prompt[:-1], "\n", *text], [*prompt, *text, ""]):
        if char == "\t":
            shown = " " * min(8 - column % 8, columns - column)
        elif char and char.isprintable() and wcwidth(char) == 0 and previous in "\n\t":
            shown = f" {char}"  # a mark with nothing to stand on
        elif char in ("\n", "") or char.isprintable():
            shown = char
        else:
            shown = f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"
        if shown and column + wcwidth(shown[0]) > columns:
            row, column = row + 1, 0
        places.append((row, column))
        for piece in shown:
            if piece == "\n":
                row, column = row + 1, 0
            elif wcwidth(piece):
                cells[row, column] = piece
                column += wcwidth(piece)
                if column >= columns:
                    row, column = row + 1, 0
            else:
                cells[max(cells)] += piece
    rows = [""] * (row + 1)
    for (at, _), piece in cells.items():
        rows[at] += piece
    return [line.rstrip() for line in rows], *places[len(prompt) + cursor]


# The property: whatever happens, the line stays.

letters = st.builds(str.__mul__, st.text(alphabet="abc d.éß你好\u0301", min_size=1, max_size=12), st.integers(1, 5))
pastes = st.text(alphabet="ab c\n\t\r\x1b\x03\x07\u200e你\u0301", max_size=40).map(paste)
sequences = [
    "\x1b[A",
    "\x1b[B",
    "\x1b[C",
    "\x1b[D",
    "\x1b[1;5C",
    "\x1b[3~",
    "\x1b\x7f",
    "\x1bd",
    "\x1b[20~",
    *"\x1b\r\x7f\t",
]
controls = "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x10\x12\x14\x15\x17\x19\x1a"
one_key = st.one_of(letters.map(str.encode), pastes, st.sampled_from([*sequences, *controls]).map(str.encode))
actions = st.one_of(
    st.tuples(st.just("keys"), one_key, st.integers(0, 5)),
    st.tuples(st.just("show"), st.lists(st.text(alphabet="xyz é", max_size=45), max_size=4)),
    st.tuples(st.just("resize"), st.integers(4, 30), st.integers(2, 9)),
    st.tuples(st.just("trouble"), st.sampled_from(["", "again in 3 s"])),
    st.tuples(st.just("settle")),
)


@given(st.integers(4, 20), st.lists(st.tuples(actions, st.booleans()), max_size=15))
def test_the_line_is_shown_once_and_whole_whatever_happens(columns: int, steps: list[tuple[Any, bool]]) -> None:
    front = Front(columns)
    for (what, *how), draw in [*steps, (("settle",), True)]:
        if what == "keys":
            front.press(how[0][: how[1]])
            front.press(how[0][how[1] :])
        elif what == "show":
            front.show(*how[0])
        elif what == "resize":
            front.resize(*how)
        elif what == "trouble":
            front.editor.trouble = how[0]
        else:
            front.editor.settle()
        if draw:
            front.check()


# The screen.


def test_a_wide_character_does_not_hang_over_the_edge() -> None:
    front = Front(columns=7)
    front.press("abcd你é".encode())  # "> abcd" leaves one column
    front.refresh()
    assert front.display()[:2] == ["> abcd", "你é"]
    assert (front.terminal.cursor.x, front.terminal.cursor.y) == (3, 1)


def test_a_mark_stays_with_its_character_behind_a_full_row() -> None:
    front = Front(columns=6)
    front.press("abce\u0301".encode())
    front.refresh()
    assert front.display()[:2] == ["> abce\u0301", ""]
    assert (front.terminal.cursor.x, front.terminal.cursor.y) == (0, 1)


def test_messages_come_above_the_line() -> None:
    front = Front(columns=12)
    front.press(b"a line that wraps\x02\x02")
    front.show("first", "", "second, also wrapped")
    front.check()
    assert front.display() == ["first", "", "second, also", "  wrapped", "> a line tha", "t wraps"]


def test_a_flood_is_shown_in_pieces_with_the_line_after_each() -> None:
    screen = Screen(80, 24)
    screen.show([f"line {number}" for number in range(1000)])
    pieces = list(iter(lambda: screen.refresh("> ", "typed", 5), ""))
    assert sum(piece.count("line ") for piece in pieces) == 1000
    assert all(len(piece) < 20_000 for piece in pieces)
    assert all(piece.count("> typed") == 1 for piece in pieces)


def test_a_new_size_is_the_terminals_business_while_the_line_has_one_row() -> None:
    front = Front(columns=20, rows=6)
    front.terminal.draw("$ ls")  # there before us
    front.terminal.linefeed()
    front.terminal.carriage_return()
    front.show("message", "another message")
    front.press(b"line")
    front.check_line()
    front.resize(10, 5)
    front.check_line()
    assert front.display() == ["$ ls", "message", "another me", "> line", ""]


def test_a_new_size_paints_the_screen_from_the_conversation_if_the_line_is_longer() -> None:
    front = Front(columns=20, rows=6)
    front.show(*[f"message {number} is long" for number in range(9)])
    front.press(b"123456789")
    front.check()
    front.resize(10, 6)
    front.check()
    assert front.display() == ["message 7", "  is long", "message 8", "  is long", "> 12345678", "9"]
    front.resize(30, 4)
    front.check()
    assert front.display() == [*[f"message {number} is long" for number in (6, 7, 8)], "> 123456789"]


def test_control_l_repairs_the_screen() -> None:
    front = Front()
    front.show("one", "two")
    front.refresh()
    front.stream.feed("\x1b[3;7Hgarbage\r\ngarbage")
    front.press(b"\x0c")
    front.check()
    assert front.display()[:3] == ["one", "two", ">"]


def test_at_the_end_a_line_not_sent_stays_and_an_empty_one_goes() -> None:
    front = Front(columns=12)
    front.show("one")
    front.press(b"not sent, and long\x01")
    front.refresh()
    front.stream.feed(front.screen.finish(*front.editor.view()) + "$")
    assert front.display()[:4] == ["one", "> not sent,", "and long", "$"]
    front = Front(columns=12)
    front.show("one")
    front.refresh()
    front.show("two")
    front.stream.feed(front.screen.finish(*front.editor.view()) + "$")
    assert front.display()[:4] == ["one", "two", "$", ""]


def test_a_suspended_line_comes_back() -> None:
    front = Front(columns=12)
    front.press(b"a line that wraps")
    front.refresh()
    front.stream.feed(front.screen.hide() + "shell\r\n")
    assert front.display()[:2] == ["shell", ""]
    front.refresh()
    assert front.display()[:3] == ["shell", "> a line tha", "t wraps"]
