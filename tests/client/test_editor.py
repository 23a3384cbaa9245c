"""The editor, as bytes against what a terminal makes of them (pyte), and as keys against what fingers expect."""

from __future__ import annotations

from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcwidth

from chat.client.editor import KEYS, PASTE, PASTED, Editor, lay_out, width

CONTROL = {f"C-{chr(code + 96)}": chr(code) for code in range(1, 27)}
NAMES = {
    **CONTROL,
    "Enter": "\r",
    "Esc": "\x1b",
    "BS": "\x7f",
    "Del": "\x1b[3~",
    "Up": "\x1b[A",
    "Down": "\x1b[B",
    "Left": "\x1b[D",
    "Right": "\x1b[C",
    "Home": "\x1b[H",
    "End": "\x1b[F",
    "C-Left": "\x1b[1;5D",
    "C-Right": "\x1b[1;5C",
    "M-b": "\x1bb",
    "M-f": "\x1bf",
    "M-d": "\x1bd",
    "M-BS": "\x1b\x7f",
}


def keys(text: str) -> bytes:
    """Key names stand in <>; the rest is typed as it is."""
    for name, sequence in NAMES.items():
        text = text.replace(f"<{name}>", sequence)
    return text.encode()


def paste(text: str) -> bytes:
    return f"{PASTE}{text}{PASTED}".encode()


class Screen(pyte.HistoryScreen):
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


class World:
    """An editor in front of a terminal."""

    def __init__(self, columns: int = 20, rows: int = 6) -> None:
        self.editor = Editor(columns, rows)
        self.screen = Screen(columns, rows)
        self.stream = pyte.Stream(self.screen)
        self.conversation: list[str] = []
        self.cut = False  # the terminal has cut the conversation

    def show(self, *lines: str) -> None:
        self.conversation += lines
        self.editor.show(list(lines))

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self.editor.resize(columns, rows)
        self.cut = True

    def refresh(self) -> None:
        self.cut = self.cut and not self.editor.lost
        while output := self.editor.refresh():
            self.stream.feed(output)

    def display(self) -> list[str]:
        return [row.rstrip() for row in self.screen.display]

    def check(self) -> None:
        """The line is on the screen once, whole, the cursor where it belongs, and the conversation right above it."""
        above = self.check_line()
        if not self.cut:
            told = [row for line in self.conversation[-30:] for row in terminal_rows(line, self.editor.columns)]
            assert above == told[len(told) - len(above) :]

    def check_line(self) -> list[str]:
        """The same, without the conversation; returns what is above the line."""
        self.refresh()
        editor, cursor = self.editor, self.screen.cursor
        prompt = editor.prompt()
        rows, row, column = expected(prompt + editor.text, editor.columns, len(prompt) + editor.cursor)
        start = cursor.y - row
        assert cursor.x == column
        display = self.display()
        if len(rows) <= editor.rows:
            assert start >= 0
            assert display[start:] == rows + [""] * (editor.rows - start - len(rows))
        else:
            if start < 0:
                rows[-start] = expected(prompt, editor.columns, 0)[0][0]
            assert display == rows[-start : editor.rows - start]
            start = 0
        assert not any(">" in row for row in display[:start])  # which only the prompt has
        return display[:start]


def expected(text: str, columns: int, cursor: int) -> tuple[list[str], int, int]:
    """Where everything belongs, thought out anew: a list of cells, a place for each character."""
    places: list[tuple[int, int]] = []
    cells: dict[tuple[int, int], str] = {}
    row = column = 0
    for char in [*text, ""]:
        if char == "\t":
            shown = " " * (8 - column % 8)
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
    return [line.rstrip() for line in rows], *places[cursor]


def terminal_rows(line: str, columns: int) -> list[str]:
    """How the terminal itself wraps a line of the conversation."""
    screen = Screen(columns, 200)
    pyte.Stream(screen).feed(line + "\r\n")
    return [row.rstrip() for row in screen.display[: screen.cursor.y]]


# The property: whatever happens, the line stays.

letters = st.builds(str.__mul__, st.text(alphabet="abc d.éß你好\u0301", min_size=1, max_size=12), st.integers(1, 5))
pastes = st.text(alphabet="ab c\n\t\r\x1b\x03\x07\u200e你", max_size=40).map(paste)
one_key = st.one_of(letters.map(str.encode), pastes, st.sampled_from([*KEYS, "\x1b", "\x1b[20~"]).map(str.encode))
actions = st.one_of(
    st.tuples(st.just("keys"), one_key, st.integers(0, 5)),
    st.tuples(st.just("show"), st.lists(st.text(alphabet="xyz é", max_size=45), max_size=4)),
    st.tuples(st.just("resize"), st.integers(4, 30), st.integers(2, 9)),
    st.tuples(st.just("trouble"), st.sampled_from(["", "again in 3 s"])),
    st.tuples(st.just("settle")),
)


@settings(max_examples=100, deadline=None)
@given(st.integers(4, 20), st.lists(st.tuples(actions, st.booleans()), max_size=15))
def test_the_line_is_shown_once_and_whole_whatever_happens(columns: int, steps: list[tuple[Any, bool]]) -> None:
    world = World(columns)
    for (what, *how), draw in [*steps, (("settle",), True)]:
        if what == "keys":
            world.editor.press(how[0][: how[1]])
            world.editor.press(how[0][how[1] :])
        elif what == "show":
            world.show(*how[0])
        elif what == "resize":
            world.resize(*how)
        elif what == "trouble":
            world.editor.trouble = how[0]
        else:
            world.editor.settle()
        if draw and not newline_before_mark(world.editor.text):
            world.check()


def newline_before_mark(text: str) -> bool:
    """A combining mark with nothing to stand on: terminals put it anywhere, pyte in the row above."""
    return "\n\u0301" in text


@given(st.lists(one_key, max_size=8).map(b"".join), st.data())
@settings(max_examples=100, deadline=None)
def test_where_the_input_is_cut_makes_no_difference(data: bytes, draw: st.DataObject) -> None:
    whole, pieces = Editor(80, 24), Editor(80, 24)
    orders = whole.press(data)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=5)))
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(data)]):
        got += pieces.press(data[start:end])
    assert (got, pieces.text, pieces.cursor, pieces.undecided) == (orders, whole.text, whole.cursor, whole.undecided)


# What fingers expect.


def after(typed: str) -> str:
    """The line after these keys, with a bar where the cursor is."""
    editor = Editor(80, 24)
    editor.press(keys(typed))
    return f"{editor.text[: editor.cursor]}|{editor.text[editor.cursor :]}"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("one two<Left><Left>X", "one tX|wo"),
        ("one<C-b><C-b><C-f>X", "onX|e"),
        ("one<Home>X", "X|one"),
        ("one<C-a>X<C-e>Y", "XoneY|"),
        ("one<C-a><Right>X<End>Y", "oXneY|"),
        ("one<BS><BS>", "o|"),
        ("<BS><Left><Del><C-t>", "|"),
        ("one<C-a><Del>", "|ne"),
        ("one<C-a><C-d>", "|ne"),
        ("one<C-d>", "one|"),
        ("one two-three<C-w>", "one |"),
        ("one two-three<M-BS>", "one two-|"),
        ("one two<C-w><C-w><C-y>", "one two|"),
        ("one two<C-w>x<C-w><C-y>", "one x|"),
        ("one two<C-a><C-k>x<C-y><C-y>", "xone twoone two|"),
        ("one two<Left><C-u>", "|o"),
        ("one two<Left><C-k>", "one tw|"),
        ("one two<C-a><M-d><M-d><C-y>", "one two|"),
        ("one<M-b><M-d><C-y>", "one|"),
        ("one<C-u>x<C-k><C-y>", "xone|"),
        ("one, two<M-b><M-b>X", "X|one, two"),
        ("one, two<C-Left>X", "one, X|two"),
        ("one, two<C-a><M-f>X", "oneX|, two"),
        ("one, two<C-a><C-Right><C-Right>X", "one, twoX|"),
        ("abc<C-t>", "acb|"),
        ("abc<C-a><Right><C-t>", "ba|c"),
        ("e\u0301o\u0301<C-t>", "o\u0301e\u0301|"),
        ("ae\u0301<BS>", "a|"),
        ("ae\u0301<Left>X", "aX|e\u0301"),
        ("e\u0301<C-a><Del>", "|"),
        ("你好<BS>", "你|"),
        ("<C-x><Esc>[99~a<Esc>[20;3~b", "ab|"),
        ("<Esc>x<Esc><Esc>[Dy<Esc>[<C-e>z", "yxz|"),
        ("a\tb", "a\tb|"),
    ],
)
def test_keys_do_what_bash_does(typed: str, line: str) -> None:
    assert after(typed) == line


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("<Up>", "two|"),
        ("<C-p><C-p>", "one|"),
        ("<Up><Up><Up><Up>", "one|"),
        ("half<Up><Up><Down><Down>", "half|"),
        ("half<Up><Down><Down><Down>", "half|"),
        ("half<Up><C-n>", "half|"),
        ("<Up>s<Up><Down>", "two|"),
        ("<C-r>n", "o|ne"),
        ("<C-r>o", "tw|o"),
        ("<C-r>o<C-r>", "|one"),
        ("<C-r>o<C-r><C-r><C-a>X", "X|one"),
        ("<C-r>on<BS>", "tw|o"),
        ("<C-r>nx", "o|ne"),
        ("half<C-r>o<C-g>", "half|"),
        ("half<C-r>o<C-c>", "half|"),
        ("half<C-r>zzz", "half|"),
        ("<C-r>one<Left><Down>", "two|"),
    ],
)
def test_the_history_keeps_the_line_that_was_not_sent(typed: str, line: str) -> None:
    assert after(f"one<Enter>two<Enter>two<Enter>{typed}") == line


def test_a_search_says_what_it_looks_for_and_enter_sends_what_it_found() -> None:
    editor = Editor(80, 24)
    editor.press(keys("one<Enter>two<Enter><C-r>n"))
    assert editor.prompt() == "(search: n) "
    editor.press(b"x")
    assert editor.prompt() == "(not found: nx) "
    assert editor.press(keys("<BS><Enter>")) == [("say", "one")]
    assert (editor.prompt(), editor.text) == ("> ", "")


def test_orders_come_in_the_order_of_the_keys() -> None:
    orders = Editor(80, 24).press(keys("one<Enter><Enter>two<C-z><Enter><C-d><C-c>"))
    assert orders == [("say", "one"), ("suspend", ""), ("say", "two"), ("end", ""), ("interrupt", "")]


def test_a_lone_escape_does_not_eat_the_next_key() -> None:
    editor = Editor(80, 24)
    assert editor.press(b"a\x1b") == []
    assert editor.undecided
    editor.settle()
    editor.press(b"b")
    assert editor.text == "ab"
    assert editor.press(b"\x1b\r") == [("say", "ab")]


def test_a_lone_escape_ends_a_search() -> None:
    editor = Editor(80, 24)
    editor.press(keys("one<Enter><C-r>n<Esc>"))
    editor.settle()
    editor.press(b"X")
    assert editor.text == "oXne"


def test_what_is_pasted_waits_for_enter_and_nothing_in_it_is_a_key() -> None:
    editor = Editor(80, 24)
    assert editor.press(b"a" + paste("one\r\ntwo\r\x03\x04\x1a\x1b[A\tthree\n") + b"b") == []
    assert editor.text == "aone\ntwo\n\x03\x04\x1a\x1b[A\tthree\nb"
    assert editor.prompt() == "[4 lines] > "
    assert editor.press(b"\r") == [("say", "aone\ntwo\n\x03\x04\x1a\x1b[A\tthree\nb")]


def test_a_paste_that_pauses_goes_on() -> None:
    editor = Editor(80, 24)
    editor.press(PASTE.encode() + b"one\r")
    editor.settle()
    editor.press(b"two\x1b[2")
    editor.settle()
    editor.press(b"01~!")
    assert editor.text == "one\ntwo!"


def test_the_prompt_warns_before_the_server_splits() -> None:
    editor = Editor(80, 24)
    editor.press(b"x" * 923)
    assert editor.prompt() == "> "
    editor.press(b"x")
    assert editor.prompt() == "[924/1024] > "
    editor.press(b"x" * 100)
    assert editor.prompt() == "[1024/1024] > "
    editor.press("é".encode())
    assert editor.prompt() == "[1026/1024: 2 messages] > "
    editor.press(paste("\nshort\n"))
    assert editor.prompt() == "[2 lines, 1026/1024: 2 messages] > "


def test_bytes_that_are_no_utf8_are_shown_and_kept() -> None:
    world = World()
    world.editor.press(b"a\xffb\xc3")
    world.editor.press(b"c")
    world.refresh()
    assert world.display()[0] == r"> a\xffb\xc3c"
    assert world.editor.press(b"\r")[0][1].encode("utf-8", "surrogateescape") == b"a\xffb\xc3c"


def test_a_character_may_come_in_pieces() -> None:
    editor = Editor(80, 24)
    for byte in "你é".encode():
        editor.press(bytes([byte]))
    assert editor.text == "你é"


def test_without_a_connection_enter_keeps_the_line() -> None:
    editor = Editor(80, 24)
    editor.trouble = "again in 3 s"
    assert editor.press(b"keep me\r") == [("again", "")]
    assert (editor.text, editor.prompt()) == ("keep me", "[again in 3 s] > ")


# The screen.


def test_a_wide_character_does_not_hang_over_the_edge() -> None:
    world = World(columns=7)
    world.editor.press("abcd你é".encode())  # "> abcd" leaves one column
    world.refresh()
    assert world.display()[:2] == ["> abcd", "你é"]
    assert (world.screen.cursor.x, world.screen.cursor.y) == (3, 1)


def test_a_mark_stays_with_its_character_behind_a_full_row() -> None:
    world = World(columns=6)
    world.editor.press("abce\u0301".encode())
    world.refresh()
    assert world.display()[:2] == ["> abce\u0301", ""]
    assert (world.screen.cursor.x, world.screen.cursor.y) == (0, 1)


def test_messages_come_above_the_line() -> None:
    world = World(columns=12)
    world.editor.press(keys("a line that wraps<Left><Left>"))
    world.show("first", "", "second, also wrapped")
    world.check()
    assert world.display() == ["first", "", "second, also", " wrapped", "> a line tha", "t wraps"]


def test_a_flood_is_shown_in_pieces_with_the_line_after_each() -> None:
    editor = Editor(80, 24)
    editor.show([f"line {number}" for number in range(1000)])
    editor.press(b"typed")
    pieces = []
    while output := editor.refresh():
        pieces.append(output)
    assert [piece.count("line ") for piece in pieces] == [200] * 5
    assert all(piece.count("> typed") == 1 for piece in pieces)


def test_a_new_size_is_the_terminals_business_while_the_line_has_one_row() -> None:
    world = World(columns=20, rows=6)
    world.screen.draw("$ ls")  # there before us
    world.screen.linefeed()
    world.screen.carriage_return()
    world.show("message", "another message")
    world.editor.press(b"line")
    world.check_line()
    world.resize(10, 5)
    world.check_line()
    assert world.display() == ["$ ls", "message", "another me", "> line", ""]


def test_a_new_size_paints_the_screen_from_the_conversation_if_the_line_is_longer() -> None:
    world = World(columns=20, rows=6)
    world.show(*[f"message {number} is long" for number in range(9)])
    world.editor.press(b"123456789")
    world.check()
    world.resize(10, 6)
    world.check()
    assert world.display() == ["message 7", "is long", "message 8", "is long", "> 12345678", "9"]
    world.resize(30, 4)
    world.check()
    assert world.display() == [*[f"message {number} is long" for number in (6, 7, 8)], "> 123456789"]


def test_control_l_repairs_the_screen() -> None:
    world = World()
    world.show("one", "two")
    world.refresh()
    world.stream.feed("\x1b[3;7Hgarbage\r\ngarbage")
    world.editor.press(keys("<C-l>"))
    world.check()
    assert world.display()[:3] == ["one", "two", ">"]


def test_at_the_end_a_line_not_sent_stays_and_an_empty_one_goes() -> None:
    world = World(columns=12)
    world.show("one")
    world.editor.press(keys("not sent, and long<Home>"))
    world.refresh()
    world.stream.feed(world.editor.finish() + "$")
    assert world.display()[:4] == ["one", "> not sent,", "and long", "$"]
    world = World(columns=12)
    world.show("one")
    world.refresh()
    world.show("two")
    world.stream.feed(world.editor.finish() + "$")
    assert world.display()[:4] == ["one", "two", "$", ""]


def test_a_suspended_line_comes_back() -> None:
    world = World(columns=12)
    world.editor.press(b"a line that wraps")
    world.refresh()
    world.stream.feed(world.editor.hide() + "shell\r\n")
    assert world.display()[:2] == ["shell", ""]
    world.refresh()
    assert world.display()[:3] == ["shell", "> a line tha", "t wraps"]


@pytest.mark.parametrize("char", ["a", "é", "\u0301", "你", "\uff21", "\u200d", "\U0001f600", "가", "\u1161", "\u20dd"])
def test_columns_are_counted_as_terminals_do(char: str) -> None:
    assert width(char) == wcwidth(char)


def test_layout_of_nothing_is_one_empty_row() -> None:
    assert lay_out("", 10, 0) == ([""], 0, 0)
