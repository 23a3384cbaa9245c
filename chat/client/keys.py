"""What the keys of a terminal are called: bytes in, names out. Knows no editor.

Terminals disagree about what they send for a key, but nearly all of it follows one grammar (ECMA-48). So a sequence is
first taken as a whole, by the grammar, and then looked up. What is unknown does nothing, and nothing of it is typed.
"""

from __future__ import annotations

import codecs
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    Key = tuple[str, str]  # its name, and, if the name is "text" or "paste", the characters

SHORT = 0.1  # seconds after which Esc was a key, and not the beginning of a sequence
LONG = 2.0  # seconds after which the rest of a sequence does not come any more

SEQUENCE = re.compile(
    r"""
    (?P<text> [^\x00-\x1f\x7f]+ )  # a run of characters
    | (?P<control> [^\x1b] )
    | (?P<alt> \x1b? ) \x1b\[ (?P<rxvt> \d+ ) \$  # Shift with a key in rxvt; by the grammar, `$` would not be the end
    | (?P<begun> \x1b\x1b? (\[ (\[ | M [^\x00-\x1f]{0,2} | [0-?]{0,99} [ -/]{0,9} )? | O [0-9;]{0,99} | [PX^_\]] )? ) \Z
    | \x1b?\x1b\[\[ [ -~]  # a function key of Linux's console
    | \x1b\[M [^\x00-\x1f]{3}  # the mouse, in the first of its formats
    | (?P<alt_csi> \x1b? ) \x1b\[ (?P<csi> [0-?]* ) [ -/]* (?P<csi_end> [@-~] )
    | (?P<alt_ss3> \x1b? ) \x1bO (?P<ss3> [0-9;]* ) (?P<ss3_end> [ @-~] )
    | \x1b?\x1b[PX^_\]] (?P<answer> [^\x00-\x1f\x7f] )  # an answer of the terminal, of any length
    | \x1b?\x1b (\[ [0-?]* [ -/]* | O [0-9;]* )  # a sequence that the next key breaks off
    | \x1b (?P<letter> [^\x00-\x07\x09-\x1f] )  # Alt with a character
    | (?P<escape> \x1b )  # the key Esc, and then another key
    """,
    re.VERBOSE | re.DOTALL,
)
PASTE, PASTED = "200", "\x1b[201~"  # the CSI before a paste, and the sequence after it, by which the terminal marks it
BREAK = re.compile(r"[\x00-\x1f\x7f]")  # in an answer: its end, or a key
TYPED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]\Z")  # if nothing follows this in a paste, it is a key

# The other control characters are Ctrl-A and so on
CONTROLS = {"\r": "Enter", "\n": "Enter", "\t": "Tab", "\x7f": "Backspace", "\x08": "Backspace"}
NUMBERED = {
    "1": "Home", "2": "Insert", "3": "Delete", "4": "End", "5": "PageUp", "6": "PageDown", "7": "Home", "8": "End",
}  # fmt: skip
LETTERED = {"A": "Up", "B": "Down", "C": "Right", "D": "Left", "F": "End", "H": "Home", "M": "Enter"}
KEYPAD = dict(zip(" Xjklmnopqrstuvwxy", " =*+,-./0123456789"))  # some program may have left the keypad in this mode
RXVT = {"~": 0, "$": 1, "^": 4, "@": 5}  # how a numbered key's sequence ends, and the modifiers that this means
PRIVATE = ("<", "=", ">", "?")  # the beginnings of a terminal's answers; no key begins so
SHIFT, ALT, CTRL, META = 1, 2, 4, 8


def name(key: str, modifiers: int) -> str:
    """A key with what is held down, like Ctrl-Alt-Left; empty if the key is unknown."""
    if not key:
        return ""
    held = ""
    if modifiers & CTRL:
        held += "Ctrl-"
    if modifiers & (ALT | META):
        held += "Alt-"
    if modifiers & SHIFT:
        held += "Shift-"
    return held + key


def modifiers(parameters: str) -> int:
    """The modifiers in the parameters of a sequence: the last number, less one. 1;5 means 4, which is CTRL."""
    last = parameters.rpartition(";")[2]
    return int(last) - 1 if last.isdigit() and 1 < int(last[:3]) <= 16 else 0


def sequence(found: re.Match[str]) -> Key:
    """The key that a whole sequence stands for; ("", "") if there is none."""
    alt = ALT if found["alt"] or found["alt_csi"] or found["alt_ss3"] else 0
    if letter := found["letter"]:
        return f"Alt-{CONTROLS.get(letter, letter.upper())}", ""
    if found["rxvt"]:
        return name(NUMBERED.get(found["rxvt"], ""), SHIFT | alt), ""
    if end := found["ss3_end"]:
        if end in KEYPAD and not found["ss3"]:
            return "text", KEYPAD[end]
        if end in "abcd":
            return name(LETTERED[end.upper()], CTRL | alt), ""
        return name(LETTERED.get(end, ""), modifiers(found["ss3"]) | alt), ""
    if end := found["csi_end"]:
        number, _, rest = found["csi"].partition(";")
        if end in RXVT:
            return name(NUMBERED.get(number, ""), modifiers(rest) | RXVT[end] | alt), ""
        if end in "abcd" and not number:
            return name(LETTERED[end.upper()], SHIFT | alt), ""
        if end != "M" and not number.startswith(PRIVATE):
            return name(LETTERED.get(end, ""), modifiers(found["csi"]) | alt), ""
    if found["escape"]:
        return "Esc", ""
    return "", ""


class Keyboard:
    """press() takes what is read from the terminal, cut anywhere, and returns the keys.

    Call settle() if nothing is read for `patience` seconds; None: do not call it.
    """

    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.begun = ""  # what may become a longer sequence
        self.paste: list[str] | None = None  # what has come of a paste; None outside of one
        self.answering = False  # what comes belongs to an answer of the terminal
        self.patience: float | None = None

    def press(self, data: bytes) -> list[Key]:
        """The keys that are complete by now."""
        text, self.begun = self.begun + self.decoder.decode(data), ""
        keys: list[Key] = []
        place = 0
        while place < len(text):
            if self.paste is not None:
                place = self.take_paste(self.paste, text, place, keys)
            elif self.answering:
                place = self.skip_answer(text, place)
            else:
                found = SEQUENCE.match(text, place)
                assert found, "the last alternative matches Esc, and the others all that is not"
                place = found.end()
                self.take(found, keys)
        self.patience = self.how_long()
        return keys

    def take(self, found: re.Match[str], keys: list[Key]) -> None:
        """Take a run of characters, a key, or the beginning of something."""
        if found["text"]:
            keys.append(("text", found["text"]))
        elif control := found["control"]:
            keys.append((CONTROLS.get(control, f"Ctrl-{chr(ord(control) + 64)}"), ""))
        elif found["begun"]:
            self.begun = found["begun"]
        elif found["csi"] == PASTE and found["csi_end"] == "~":
            self.paste = []
        elif found["answer"]:
            self.answering = True
        elif (key := sequence(found))[0]:
            keys.append(key)

    def take_paste(self, paste: list[str], text: str, place: int, keys: list[Key]) -> int:
        """Take what is pasted, from `place` on; return the place after it. A part of PASTED at the end is kept."""
        end = text.find(PASTED, place)
        if end < 0:
            kept = len(PASTED) - 1
            while not text.endswith(PASTED[:kept], place):  # in the end, every text ends with ""
                kept -= 1
            self.begun = PASTED[:kept]
            if pasted := text[place : len(text) - kept]:
                paste.append(pasted)
            return len(text)
        paste.append(text[place:end])
        self.finish_paste(paste, keys)
        return end + len(PASTED)

    def finish_paste(self, paste: list[str], keys: list[Key]) -> None:
        keys.append(("paste", "".join(paste).replace("\r\n", "\n").replace("\r", "\n")))
        self.paste = None

    def skip_answer(self, text: str, place: int) -> int:
        """Skip what belongs to an answer: up to BEL or Esc \\, or to whatever breaks it off."""
        found = BREAK.search(text, place)
        if not found:
            return len(text)
        if text[found.start() :] == "\x1b":
            self.begun = "\x1b"
            return len(text)
        self.answering = False
        if found.group() == "\x07":
            return found.end()
        return found.end() + 1 if text.startswith("\x1b\\", found.start()) else found.start()

    def how_long(self) -> float | None:
        """What `patience` is now."""
        if self.paste is not None:
            typed = self.paste and TYPED.search(self.paste[-1]) and not self.begun
            return SHORT if typed else None
        if self.answering:
            return LONG
        if not self.begun:
            return None
        may_be_a_key = self.begun.strip("\x1b") in ("", *"[OPX^_]")  # Esc, or Alt with one of these characters
        return SHORT if may_be_a_key else LONG

    def settle(self) -> list[Key]:
        """Nothing has followed for a while, so nothing will. Return the keys that are complete then.

        A paste whose end does not come can be ended with a control key, like Ctrl-C, because no paste ends with such a
        character.
        """
        keys: list[Key] = []
        patience, self.patience = self.patience, None
        if self.paste is not None:
            if not patience:
                return keys
            key = self.paste[-1][-1]
            self.paste[-1] = self.paste[-1][:-1]
            self.finish_paste(self.paste, keys)
            return keys + self.press(key.encode())
        if self.begun and not self.begun.strip("\x1b"):
            keys.append(("Esc", ""))
        self.begun, self.answering = "", False
        return keys
