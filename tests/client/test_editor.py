"""The editor: keys against what fingers expect."""

from __future__ import annotations

import re

import pytest
from chatting import ROOT

from chat.client.editor import BINDINGS, Editor
from chat.client.keys import PASTE_END

PASTE = "\x1b[200~"
FAMILY = "👨\u200d👩\u200d👧"
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
    return f"{PASTE}{text}{PASTE_END}".encode()


# What fingers expect.


def after(typed: str) -> str:
    """The line after these keys, with a bar where the cursor is."""
    editor = Editor()
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
        ("ab<Esc>x<Esc><Esc>[Dy<Esc>[<C-e>z", "yabz|"),
        (f"a{FAMILY}b<BS><BS>", "a|"),
        (f"a{FAMILY}<Left>X<Right>Y", f"aX{FAMILY}Y|"),
        (f"{FAMILY}🇩🇪<C-a><Del>", "|🇩🇪"),
        (f"{FAMILY}1\ufe0f\u20e3<C-t>", f"1\ufe0f\u20e3{FAMILY}|"),
        (f"a {FAMILY}e\u0301!\u0301<M-BS>", f"a {FAMILY}e\u0301|"),
        (f"a {FAMILY}e\u0301<M-BS>", f"a {FAMILY}|"),
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
    editor = Editor()
    editor.press(keys("one<Enter>two<Enter><C-r>n"))
    assert editor.prompt() == "(search: n) "
    editor.press(b"x")
    assert editor.prompt() == "(not found: nx) "
    assert editor.press(keys("<BS><Enter>")) == [("say", "one")]
    assert (editor.prompt(), editor.text) == ("> ", "")


def test_orders_come_in_the_order_of_the_keys() -> None:
    orders = Editor().press(keys("one<Enter><Enter>two<C-z><Enter><C-d><C-c>"))
    assert orders == [("say", "one"), ("suspend", ""), ("say", "two"), ("end", ""), ("interrupt", "")]


def test_a_lone_escape_ends_a_search() -> None:
    editor = Editor()
    editor.press(keys("one<Enter><C-r>n<Esc>"))
    assert editor.keyboard.patience
    editor.settle()
    editor.press(b"X")
    assert editor.text == "oXne"


def test_what_is_pasted_waits_for_enter_and_nothing_in_it_is_a_key() -> None:
    editor = Editor()
    assert editor.press(b"a" + paste("one\r\ntwo\r\x03\x04\x1a\x1b[A\tthree\n") + b"b") == []
    assert editor.text == "aone\ntwo\n\x03\x04\x1a\x1b[A\tthree\nb"
    assert editor.prompt() == "[4 lines] > "
    assert editor.press(b"\r") == [("say", "aone\ntwo\n\x03\x04\x1a\x1b[A\tthree\nb")]


def test_a_paste_whose_end_does_not_come_can_be_left() -> None:
    editor = Editor()
    assert editor.press(PASTE.encode() + b"one\rtwo") == []
    assert editor.prompt() == "[pasting, Ctrl-G ends it] > "
    assert editor.press(b"\x07") + editor.settle() == []
    assert editor.view() == ("[2 lines] > ", "one\ntwo", 7)
    editor.press(PASTE.encode() + b"!")
    assert editor.press(b"\x03") + editor.settle() == [("interrupt", "")]


def test_the_prompt_warns_before_the_server_splits() -> None:
    editor = Editor()
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


def test_without_a_connection_enter_keeps_the_line() -> None:
    editor = Editor()
    editor.trouble = "again in 3 s"
    assert editor.press(b"keep me\r") == [("again", "")]
    assert (editor.text, editor.prompt()) == ("keep me", "[again in 3 s] > ")


# Names.


def complete(typed: str, *names: str) -> str:
    editor = Editor()
    editor.names = dict.fromkeys(names)
    editor.press(keys(typed))
    return editor.text


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("an\t", "anna: "),
        ("An\thi", "anna: hi"),
        ("hi an\t", "hi anna "),
        ("b\t", "ben: "),
        ("b\t\t", "bob: "),
        ("b\t\t\t", "ben: "),
        ("b\tx\t", "ben: x\t"),
        ("12\t", "127.0.0.1: "),
        ("x\t", "x\t"),
        ("\t", "\t"),
        ("b<Left>\t", "\tb"),
    ],
)
def test_tab_completes_names_that_have_spoken_the_latest_first(typed: str, line: str) -> None:
    assert complete(typed, "127.0.0.1", "bob", "anna", "ben") == line


# What is much.


def test_a_long_search_is_as_long_as_what_is_found() -> None:
    editor = Editor()
    editor.press(b"x" * 100_000 + b"\r" + b"\x12" + b"x" * 99_999 + b"yz")
    assert editor.sought == "x" * 99_999 + "yz"
    assert editor.text == "x" * 100_000
    assert editor.prompt().startswith("(not found")


def test_the_history_is_bounded_in_characters() -> None:
    editor = Editor()
    for number in range(30):
        editor.press(f"{number} ".encode() + b"x" * 100_000 + b"\r")
    assert sum(map(len, editor.history.lines)) <= 1 << 20
    editor.press(keys("<Up>"))
    assert editor.text.startswith("29 ")


def test_a_million_characters_can_be_edited() -> None:
    """The notes are made once for each text, not whenever something is shown."""
    editor = Editor()
    editor.press(paste("x\n" * (1 << 19)))
    assert editor.prompt() == "[524288 lines] > "
    noted = editor.noted[1]
    editor.prompt()
    assert editor.noted[1] is noted
    assert editor.press(b"\x7f!\r") == [("say", "x\n" * ((1 << 19) - 1) + "x!")]


def test_the_readme_has_all_keys() -> None:
    table = re.search(
        r"^\| key \| does \|\n\|---\|---\|\n((?:\|.*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert table
    keys = [key for row in table[1].splitlines() for key in row.split("|")[1].strip().split(", ")]
    assert sorted(keys) == sorted(BINDINGS)
