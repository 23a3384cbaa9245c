"""What a terminal sends for a key, and what the key is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.client.keys import PASTE_END, SHORT, Keyboard

PASTE = "\x1b[200~"


def press(data: bytes) -> list[str]:
    """The keys that these bytes are: a name, or in quotes what is typed or pasted."""
    return names(Keyboard().press(data))


def names(keys: list[tuple[str, str]]) -> list[str]:
    return [repr(text) if text else name for name, text in keys]


def joined(keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same, with what is typed in one piece."""
    result: list[tuple[str, str]] = []
    for name, text in keys:
        if name == "text" and result and result[-1][0] == name:
            result[-1] = (name, result[-1][1] + text)
        else:
            result.append((name, text))
    return result


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        # xterm and those that follow it
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", "Up Down Right Left"),
        (b"\x1bOA\x1bOB\x1bOC\x1bOD", "Up Down Right Left"),
        (b"\x1b[H\x1b[F\x1bOH\x1bOF\x1b[1~\x1b[4~\x1b[7~\x1b[8~", "Home End Home End Home End Home End"),
        (b"\x1b[2~\x1b[3~\x1b[5~\x1b[6~", "Insert Delete PageUp PageDown"),
        (b"\x1b[1;5D\x1b[1;3C\x1b[1;2A\x1b[3;5~\x1b[1;7B", "Ctrl-Left Alt-Right Shift-Up Ctrl-Delete Ctrl-Alt-Down"),
        (b"\x1b[1;9D\x1b[5D\x1bO5C", "Alt-Left Ctrl-Left Ctrl-Right"),
        # rxvt
        (
            b"\x1bOd\x1bOc\x1b[d\x1b[3^\x1b[7$\x1b[8@",
            "Ctrl-Left Ctrl-Right Shift-Left Ctrl-Delete Shift-Home Ctrl-Shift-End",
        ),
        (b"\x1b\x1b[D\x1b\x1bOC\x1b\x1b[3~", "Alt-Left Alt-Right Alt-Delete"),
        (b"\x1b[3$a", "Shift-Delete 'a'"),
        # the keypad, in the mode in which another program may have left it
        (b"\x1bOM\x1bOp\x1bOy\x1bOk\x1bOX", "Enter '0' '9' '+' '='"),
        # controls
        (b"\r\n\t\x7f\x08\x01\x1a\x00\x1f", "Enter Enter Tab Backspace Backspace Ctrl-A Ctrl-Z Ctrl-@ Ctrl-_"),
        (b"\x1b\x7f\x1b\x08\x1bb\x1bB\x1bd", "Alt-Backspace Alt-Backspace Alt-B Alt-B Alt-D"),
        (b"\x1b\r\x1b\x1b\x03", "Esc Enter Esc Esc Ctrl-C"),
    ],
)
def test_keys_have_names(data: bytes, keys: str) -> None:
    assert press(data) == keys.split()


UNKNOWN = [
    r"\e[[A \e[[E \eOP \eO2P \e[11~ \e[1;2P \e[24;5~ \e[25$",  # function keys
    r"\e[Z \e[E \e[97;5u \e[27;5;9~ \e[I \e[O \e[201~",
    r"\e[M!!! \e[<0;10;20M \e[32;10;20M",  # the mouse
    r"\e[?1;2c \e[?2004;1$y \e[12;40R \e[>0;276;0c \e[!q",  # answers
    r"\e]11;rgb:0000/0000/0000\a \e]11;rgb:0/0/0\e\ \eP1+r436f=32\e\ \e_Gi=1;OK\e\ \e^private\e\ ",
    r"\eXstring\e\ \e]0;äöü\a",
]


@pytest.mark.parametrize("sequence", " ".join(UNKNOWN).split())
def test_an_unknown_sequence_is_swallowed_whole(sequence: str) -> None:
    data = sequence.replace(r"\e", "\x1b").replace(r"\a", "\x07")
    assert joined(Keyboard().press(f"<{data}>".encode())) == [("text", "<>")]


def test_a_sequence_of_any_length_is_swallowed_whole() -> None:
    """Python refuses to convert texts of over 4,300 digits into numbers."""
    for digits in "005" + "0" * 5000, "9" * 5000:
        assert press(b"\x1b[1;%sA." % digits.encode()) == ["Up", "'.'"]
        assert press(b"\x1b[%s~." % digits.encode()) == ["'.'"]


@pytest.mark.parametrize("letter", ["u", "x", "é", "你", "1", "!", "\\"])
def test_alt_with_an_unused_letter_types_nothing(letter: str) -> None:
    assert press(b"a\x1b" + letter.encode() + b"b") == ["'a'", f"Alt-{letter.upper()}", "'b'"]


@pytest.mark.parametrize(
    "start", ["\x1b[20", "\x1b[", "\x1bO", "\x1bO1;", "\x1b[1;5 ", "\x1b", "\x1bP1$", "\x1b]0;title"]
)
@pytest.mark.parametrize(("then", "key"), [("\x03", "Ctrl-C"), ("\r", "Enter"), ("\x1b[A", "Up")])
def test_a_key_breaks_off_a_sequence(start: str, then: str, key: str) -> None:
    assert press((start + then).encode())[-1] in (key, "Alt-" + key)
    assert all("'" not in name for name in press((start + then).encode()))


@pytest.mark.parametrize("start", ["\x1b", "\x1b[", "\x1bO", "\x1bP", "\x1b]"])
def test_what_only_begins_a_sequence_is_a_key_after_a_moment(start: str) -> None:
    keyboard = Keyboard()
    assert keyboard.press(start.encode()) == []
    assert keyboard.patience == SHORT
    assert names(keyboard.settle()) == ["Esc"] * (start == "\x1b")
    assert keyboard.patience is None
    assert keyboard.press(b"abc") == [("text", "abc")]


@pytest.mark.parametrize(
    "sequence", ["\x1b[200~one\r\x1b[201~", "\x1b[1;5D", "\x1b]11;rgb:0/0/0\x1b\\", "\x1b[[A", "\x1bO5C"]
)
def test_a_sequence_may_pause(sequence: str) -> None:
    """For a moment in which Esc alone would have been a key, anywhere behind that."""
    data = sequence.encode()
    for cut in range(3, len(data)):
        keyboard = Keyboard()
        keys = keyboard.press(data[:cut])
        if keyboard.patience == SHORT:
            keys += keyboard.settle()
        assert keys + keyboard.press(data[cut:]) == Keyboard().press(data), cut


@pytest.mark.parametrize("start", ["\x1b[20", "\x1b]0;title", "\x1bO1;"])
def test_what_never_goes_on_is_given_up(start: str) -> None:
    keyboard = Keyboard()
    keyboard.press(start.encode())
    assert keyboard.patience and keyboard.patience > SHORT
    assert keyboard.settle() == []
    assert keyboard.press(b"hello") == [("text", "hello")]


def test_a_paste_is_no_keys() -> None:
    text = "one\r\ntwo\r\x03\x04\x1b[A\x1b[200~\tthree"
    keys = Keyboard().press(f"a{PASTE}{text}{PASTE_END}b".encode())
    assert keys == [("text", "a"), ("paste", "one\ntwo\n\x03\x04\x1b[A\x1b[200~\tthree"), ("text", "b")]


@pytest.mark.parametrize(
    ("key", "name"),
    [("\x03", "Ctrl-C"), ("\x04", "Ctrl-D"), ("\x1a", "Ctrl-Z"), ("\x07", "Ctrl-G"), ("\x7f", "Backspace")],
)
def test_a_control_key_ends_a_paste_whose_end_does_not_come(key: str, name: str) -> None:
    for pieces in ([PASTE + "one\rtwo", key], [PASTE + "one\rtwo" + key]):
        keyboard = Keyboard()
        for piece in pieces:
            assert keyboard.press(piece.encode()) == []
        assert keyboard.patience == SHORT
        assert keyboard.settle() == [("paste", "one\ntwo"), (name, "")]
        assert keyboard.press(b"x\r") == [("text", "x"), ("Enter", "")]


def test_a_paste_with_a_control_key_in_it_goes_on() -> None:
    keyboard = Keyboard()
    keyboard.press((PASTE + "one\x03").encode())
    assert keyboard.press(b"two") == []
    assert keyboard.patience is None
    assert keyboard.settle() == []
    assert keyboard.press(PASTE_END.encode()) == [("paste", "one\x03two")]


def test_bytes_that_are_no_utf8_are_kept() -> None:
    keyboard = Keyboard()
    keys = keyboard.press(b"a\xffb\xc3") + keyboard.press(b"c")
    assert "".join(text for _, text in keys).encode("utf-8", "surrogateescape") == b"a\xffb\xc3c"


def test_a_character_may_come_in_pieces() -> None:
    keyboard = Keyboard()
    assert joined([key for byte in "你é".encode() for key in keyboard.press(bytes([byte]))]) == [("text", "你é")]


pieces = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        [PASTE, PASTE_END, "\x1b", "\x1b[", "\x1b[[", "\x1b[M", "\x1bO", "\x1b]", "\x1bP", "\x07", "\x1b\\", "\x1b[3$"]
    ),
    st.text(alphabet="0123456789;<?$ \x1b[OAZa~^\r\x03", max_size=6),
)


@given(st.lists(pieces, max_size=8).map("".join), st.data())
def test_where_the_input_is_cut_makes_no_difference(text: str, draw: st.DataObject) -> None:
    data = text.encode("utf-8", "surrogatepass")
    whole, pieces = Keyboard(), Keyboard()
    keys = whole.press(data)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=5)))
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(data)]):
        got += pieces.press(data[start:end])
    assert joined(got) == joined(keys)
    assert (pieces.begun, pieces.answering, pieces.patience) == (whole.begun, whole.answering, whole.patience)


@pytest.mark.parametrize("before", [PASTE, "\x1b]52;c;", "\x1bP", "\x1b[", "\x1b[1;", ""])
def test_what_is_long_is_not_looked_at_again_and_again(before: str) -> None:
    keyboard = Keyboard()
    keyboard.press(before.encode())
    for _ in range(1000):
        keyboard.press(b"1" * 100)
        assert len(keyboard.begun) < 200
