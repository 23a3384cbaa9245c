"""Which keys were pressed: takes the bytes that a terminal sends, and returns names of keys. Knows no editor.

Terminals disagree about what they send for a key, but nearly all of it follows one grammar (ECMA-48): Ctrl-Left, for
example, is the sequence Esc [ 1 ; 5 D. So the grammar first finds the end of a sequence, and then the whole sequence is
looked up. An unknown sequence does nothing, and none of its characters is typed.
"""

from __future__ import annotations

import codecs
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    Key = tuple[str, str]  # the name of a key and ""; or "text" or "paste" and the characters

SHORT = 0.1  # seconds without more, after which Esc was the key Esc, and not the beginning of a sequence
LONG = 2.0  # seconds without more, after which the rest of a sequence is not waited for

SEQUENCE = re.compile(
    r"""
    (?P<text> [^\x00-\x1f\x7f]+ )  # typed characters
    | (?P<control> [^\x1b] )  # Enter, Ctrl-C
    | (?P<alt> \x1b? ) \x1b\[ (?P<rxvt> \d+ ) \$  # Esc [ 3 $ is Shift-Delete in rxvt, against ECMA-48
    # At the end of what was read: the rest may come with the next read
    | (?P<begun> \x1b\x1b? (\[ (\[ | M [^\x00-\x1f]{0,2} | [0-?]{0,99} [ -/]{0,9} )? | O [0-9;]{0,99} | [PX^_\]] )? ) \Z
    | \x1b?\x1b\[\[ [ -~]  # Esc [ [ A is F1 on Linux's console
    | \x1b\[M [^\x00-\x1f]{3}  # the mouse, in its oldest format
    | (?P<alt_csi> \x1b? ) \x1b\[ (?P<csi> [0-?]* ) [ -/]* (?P<csi_end> [@-~] )  # Esc [ 1 ; 5 D is Ctrl-Left
    | (?P<alt_ss3> \x1b? ) \x1bO (?P<ss3> [0-9;]* ) (?P<ss3_end> [ @-~] )  # Esc O A is Up in some modes
    | \x1b?\x1b[PX^_\]] (?P<answer> [^\x00-\x1f\x7f] )  # the beginning of an answer of the terminal, which can be long
    | \x1b?\x1b (\[ [0-?]* [ -/]* | O [0-9;]* )  # a sequence without its end: another key follows
    | \x1b (?P<letter> [^\x00-\x07\x09-\x1f] )  # Esc b is Alt-B
    | (?P<escape> \x1b )  # the key Esc, and then another key
    """,
    re.VERBOSE | re.DOTALL,
)
# The terminal sends Esc [ 200 ~ before what is pasted, and Esc [ 201 ~ after it.
PASTE_BEGIN, PASTE_END = "200", "\x1b[201~"
BREAK = re.compile(r"[\x00-\x1f\x7f]")  # ends an answer of the terminal, or is a key that interrupts it
TYPED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]\Z")  # a key typed after a paste: see settle()

# The other control characters are Ctrl-A and so on
CONTROLS = {"\r": "Enter", "\n": "Enter", "\t": "Tab", "\x7f": "Backspace", "\x08": "Backspace"}
NUMBERED = {
    "1": "Home", "2": "Insert", "3": "Delete", "4": "End", "5": "PageUp", "6": "PageDown", "7": "Home", "8": "End",
}  # fmt: skip
LETTERED = {"A": "Up", "B": "Down", "C": "Right", "D": "Left", "F": "End", "H": "Home", "M": "Enter"}
KEYPAD = dict(zip(" Xjklmnopqrstuvwxy", " =*+,-./0123456789"))  # Esc O p is 0, in a mode that another program left on
RXVT = {"~": 0, "$": 1, "^": 4, "@": 5}  # modifiers, by the end of the sequence: Esc [ 3 ^ is Ctrl-Delete in rxvt
PRIVATE = ("<", "=", ">", "?")  # after Esc [, one of these begins an answer of the terminal, not a key
SHIFT, ALT, CTRL, META = 1, 2, 4, 8


def name(key: str, modifiers: int) -> str:
    """The name of a key with its modifiers, like Ctrl-Alt-Left; "" if the key is unknown."""
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
    """The modifiers in the parameters of a sequence: the last number minus 1. For example, 1;5 has 4, which is CTRL."""
    last = parameters.rpartition(";")[2]
    return int(last) - 1 if last.isdigit() and len(last) < 3 and 1 < int(last) <= 16 else 0


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
    """press() takes any piece of what the terminal sends, and returns the keys.

    Call settle() if nothing is read for `patience` seconds; None: do not call it.
    """

    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.begun = ""  # what was read of a sequence whose rest may come
        self.paste: list[str] | None = None  # what has come of a paste; None: nothing is being pasted
        self.answering = False  # whether the terminal is sending an answer, whose end has not come
        self.patience: float | None = None

    def press(self, data: bytes) -> list[Key]:
        """Take what was read, and return the keys that are complete now."""
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
                assert found, "the last alternative matches Esc, and the others everything else"
                place = found.end()
                self.take(found, keys)
        self.patience = self.how_long()
        return keys

    def take(self, found: re.Match[str], keys: list[Key]) -> None:
        """Take what SEQUENCE has found: typed text, a key, or the beginning of a sequence, a paste or an answer."""
        if found["text"]:
            keys.append(("text", found["text"]))
        elif control := found["control"]:
            keys.append((CONTROLS.get(control, f"Ctrl-{chr(ord(control) + 64)}"), ""))
        elif found["begun"]:
            self.begun = found["begun"]
        elif found["csi"] == PASTE_BEGIN and found["csi_end"] == "~":
            self.paste = []
        elif found["answer"]:
            self.answering = True
        elif (key := sequence(found))[0]:
            keys.append(key)

    def take_paste(self, paste: list[str], text: str, place: int, keys: list[Key]) -> int:
        """Take what is pasted, from `place` on; return the place after it. PASTE_END may have come only in part."""
        end = text.find(PASTE_END, place)
        if end < 0:
            kept = len(PASTE_END) - 1
            while not text.endswith(PASTE_END[:kept], place):  # with `kept` == 0 it ends: every text ends with ""
                kept -= 1
            self.begun = PASTE_END[:kept]
            if pasted := text[place : len(text) - kept]:
                paste.append(pasted)
            return len(text)
        paste.append(text[place:end])
        self.finish_paste(paste, keys)
        return end + len(PASTE_END)

    def finish_paste(self, paste: list[str], keys: list[Key]) -> None:
        keys.append(("paste", "".join(paste).replace("\r\n", "\n").replace("\r", "\n")))
        self.paste = None

    def skip_answer(self, text: str, place: int) -> int:
        """Skip the rest of an answer: up to its end, which is BEL or Esc \\, or up to a key that interrupts it."""
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
        """How many seconds to wait for more before settle(); None: for ever.

        SHORT if what has come may be a whole key, like Esc, or like Ctrl-C in a paste; LONG if more has to follow.
        """
        if self.paste is not None:
            may_be_a_key = self.paste and TYPED.search(self.paste[-1]) and not self.begun
            return SHORT if may_be_a_key else None
        if self.answering:
            return LONG
        if not self.begun:
            return None
        may_be_a_key = self.begun.strip("\x1b") in ("", *"[OPX^_]")  # Esc, or Alt with one of these characters
        return SHORT if may_be_a_key else LONG

    def settle(self) -> list[Key]:
        """Nothing has come for `patience` seconds, so what was read is complete. Return its keys.

        If the end of a paste does not come, the user can end it with a control key, like Ctrl-C: a control character
        after which nothing follows was typed, not pasted.
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
