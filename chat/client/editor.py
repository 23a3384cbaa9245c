"""The line being typed, and the conversation above it: keys and messages in, what to write to the terminal out.

A plain object, no terminal and no loop. The screen is the terminal's normal one: the conversation scrolls away at its
top as usual, and below it stands the prompt with the line, on as many rows as it needs. The editor knows on which of
those rows it left the cursor. To show anything it goes to the first of them, erases from there to the end of the
screen, writes what is new in the conversation, and below it the line again.

That relies on nobody else moving the cursor. When the window's size changes, some terminals wrap anew what stands on
the screen, some cut it off, and none says which. A line of one row, before and after, they all leave alone; if it is
longer, the whole screen is painted anew, from the last lines of the conversation.

Columns are counted as Unicode says: wide characters take two, combining marks none. Terminals disagree about emoji that
are joined from several, or made from a text symbol by a variation selector; there the cursor may be off by a column.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import deque

from ..escape import ESCAPES
from ..framing import LIMIT, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

WARN = LIMIT - 100  # bytes from which the prompt counts them
KEPT = 500  # lines of the conversation for painting the screen anew, as many as it may have rows
MOST = 200  # lines of the conversation shown at once: in a flood, what is typed must not wait for long

PASTE, PASTED = "\x1b[200~", "\x1b[201~"  # bracketed paste: around what does not come from the keyboard
KEY = re.compile(  # a paste, a function key, Alt with one of the letters in use, a run of characters, a control key
    r"\x1b\[200~.*?\x1b\[201~|\x1b\[(?!200~)[0-?]*[ -/]*[@-~]|\x1bO[@-~]|\x1b[bdf\x7f\x08]|[^\x00-\x1f\x7f]+|[^\x1b]"
    r"|(?P<begun>\x1b(\[200~.*|\[[0-?]*[ -/]*|O)?)",  # and the beginning of one
    re.DOTALL,
)
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def width(char: str) -> int:
    """How many columns a character takes: 0, 1 or 2."""
    if char < "\u0300":
        return 1
    if unicodedata.category(char) in ("Mn", "Me", "Cf") or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def look(char: str, column: int) -> str:
    """What is shown for a typed character: a tab as spaces, controls and bytes that are no UTF-8 as escapes."""
    if char == "\t":
        return " " * (8 - column % 8)
    if "\udc80" <= char <= "\udcff":  # the decoder's stand-in for such a byte
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char if char == "\n" else ESCAPES.get(ord(char), char)


def lay_out(text: str, columns: int, cursor: int = 0) -> tuple[list[str], int, int]:
    """The rows a text takes, and the row and column of the place `cursor` in it.

    Behind a full row, the next one begins, and there the cursor stands, but marks still belong to the full one.
    """
    rows = [""]
    column = cursor_row = cursor_column = 0
    for place, char in enumerate(text + "\n"):  # the last one stands for the cursor at the end
        for piece in look(char, column % columns):
            taken = width(piece)
            if column + taken > columns:
                rows.append("")
                column = 0
            if place == cursor:
                cursor_row, cursor_column = len(rows) - 1 + column // columns, column % columns
                cursor = -1  # at the first piece
            if piece == "\n":
                rows.append("")
                column = 0
            else:
                rows[-1] += piece
                column += taken
    return rows[:-1], cursor_row, cursor_column


def joins(char: str) -> bool:
    """Whether a character belongs to the one before it."""
    return width(char) == 0 and ord(char) not in ESCAPES


def is_sign(char: str) -> bool:
    """Whether a character stands between words."""
    return not char.isalnum() and not joins(char)


class Editor:
    """Give it keys (press) and lines of the conversation (show), and write what refresh() returns.

    The screen has `columns` columns and `rows` rows, at least 2 of each.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.text = ""
        self.cursor = 0  # the place in it
        self.trouble = ""  # why nothing can be sent now
        self.killed = ""  # what Ctrl-Y brings back
        self.after_kill = ("", 0)  # the line and the cursor as this left them
        self.history = [""]  # what was entered, and behind it the line that was not yet
        self.place = 0  # in the history, of the line that is shown
        self.sought: str | None = None  # by Ctrl-R
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.undecided = ""  # of what was read, what may become a longer key
        self.orders: list[tuple[str, str]] = []  # what press() is about to return
        self.unseen: deque[str] = deque()  # lines of the conversation that are not on the screen yet
        self.seen: deque[str] = deque(maxlen=KEPT)
        self.shown: tuple[list[str], int, int] | None = None  # the line's rows, and the cursor's row and column there
        self.lost = False  # nobody knows what is on the screen

    # Keys.

    def press(self, data: bytes) -> list[tuple[str, str]]:
        """Take what was read from the keyboard, cut anywhere. Return what is to be done now, in this order:

        ("say", text) for what was entered, several lines if they were pasted; ("again", "") if it was entered although
        there is trouble; ("interrupt", ""), ("end", "") and ("suspend", "") for Ctrl-C, Ctrl-D and Ctrl-Z.
        """
        self.orders = []
        text = self.undecided + self.decoder.decode(data)
        self.undecided = ""
        for found in KEY.finditer(text):
            if not found["begun"]:
                self.key(found.group())
            elif found.end() == len(text):
                self.undecided = found.group()  # anywhere else it was broken off, by what is the next key
        return self.orders

    def settle(self) -> None:
        """Nothing has followed for a while: what is undecided was Esc and no more. That ends a search."""
        if not self.undecided.startswith(PASTE):
            self.undecided = ""
            self.sought = None

    def key(self, key: str) -> None:
        """Do what one key does; characters come in runs."""
        if self.sought is not None and self.search(key):
            return
        if act := KEYS.get(key):
            act(self)
        elif key.startswith(PASTE):
            self.put(self.cursor, self.cursor, key[len(PASTE) : -len(PASTED)].replace("\r\n", "\n").replace("\r", "\n"))
        elif key[0] >= " " or key == "\t":
            self.put(self.cursor, self.cursor, key)

    def order(self, what: str, text: str = "") -> None:
        self.orders.append((what, text))

    # The line.

    def put(self, start: int, end: int, text: str = "") -> None:
        """Put `text` instead of what is between two places, and the cursor behind it."""
        self.text = self.text[:start] + text + self.text[end:]
        self.cursor = start + len(text)
        if self.place == len(self.history) - 1:
            self.history[-1] = self.text

    def move(self, place: int) -> None:
        self.cursor = place

    def kill(self, start: int, end: int) -> None:
        """Remove what is between two places; Ctrl-Y brings it back, with what was killed right before."""
        if start < end:
            part = self.text[start:end]
            before = self.killed if (self.text, self.cursor) == self.after_kill else ""
            self.killed = part + before if end == self.cursor else before + part
            self.put(start, end)
            self.after_kill = self.text, self.cursor

    def skip(self, step: int, test: Callable[[str], bool], place: int) -> int:
        """From `place`, in steps of 1 or -1, past all characters that pass the test."""
        while 0 <= (char := place - (step < 0)) < len(self.text) and test(self.text[char]):
            place += step
        return place

    def before(self, place: int) -> int:
        """The place one character before, with the marks that belong to it."""
        return max(self.skip(-1, joins, place) - 1, 0)

    def behind(self, place: int) -> int:
        """The place one character further."""
        return self.skip(1, joins, min(place + 1, len(self.text)))

    def word(self, step: int, between: Callable[[str], bool]) -> int:
        """The start of the word before the cursor (-1) or the end of the one behind it (1)."""
        return self.skip(step, lambda char: not between(char), self.skip(step, between, self.cursor))

    def transpose(self) -> None:
        """Exchange the characters around the cursor; at the end, the last two."""
        end = self.behind(self.cursor)
        middle = self.before(end)
        start = self.before(middle)
        if middle:
            self.put(start, end, self.text[middle:end] + self.text[start:middle])

    def enter(self) -> None:
        """Hand the line over. An empty one is no message, only Enter hit once too often."""
        if self.trouble:
            self.order("again")
        elif self.text:
            if self.history[-2:-1] != [self.text]:
                self.history.insert(-1, self.text)
            self.place = len(self.history) - 1
            self.order("say", self.text)
            self.put(0, len(self.text))

    # The history.

    def recall(self, place: int) -> None:
        """Show what stands at `place` in the history, if there is such a place."""
        if 0 <= place < len(self.history):
            self.place = place
            self.put(0, len(self.text), self.history[place])

    def search(self, key: str) -> bool:
        """Do what a key does during a search; False if it ends the search and is to be carried out."""
        sought = self.sought or ""
        if key == "\x12":
            self.find(sought, self.place - 1)
        elif key in ("\x7f", "\x08"):
            self.find(sought[:-1], len(self.history) - 1)
        elif key[0] >= " ":
            for char in key:
                sought += char
                self.find(sought, self.place)
        else:
            self.sought = None
            if key not in ("\x03", "\x07"):
                return False
            self.recall(len(self.history) - 1)
        return True

    def find(self, sought: str, place: int) -> None:
        """Show the newest line with what is sought, at `place` or before."""
        self.sought = sought
        found = [older for older in range(place + 1) if sought in self.history[older]]
        if found and sought:
            self.recall(found[-1])
            self.cursor = self.text.index(sought)

    # The screen.

    def show(self, lines: list[str]) -> None:
        """Add lines to the conversation: safe to show, in one style or another, each as long as it likes."""
        self.unseen.extend(lines)

    def resize(self, columns: int, rows: int) -> None:
        """The size of the screen is another one, perhaps."""
        self.columns, self.rows = columns, rows
        if self.shown and (len(self.shown[0]) > 1 or sum(map(width, self.shown[0][0])) >= columns):
            self.lost = True

    def repaint(self) -> None:
        """Nobody knows what is on the screen."""
        self.lost = True

    def refresh(self) -> str:
        """What to write, to bring the screen up to date: empty if it is."""
        prompt = self.prompt()
        rows, row, column = lay_out(prompt + self.text, self.columns, len(prompt) + self.cursor)
        top = max(0, min(row - 1, len(rows) - self.rows))
        if top:  # they are too many: the part around the cursor, and the prompt above it
            rows[top] = lay_out(prompt, self.columns)[0][0]
        rows, row = rows[top : top + self.rows], row - top
        if (rows, row, column) == self.shown and not self.unseen and not self.lost:
            return ""
        if self.lost:
            lines = self.last_lines(self.rows - len(rows))
            output = "\x1b[H\x1b[K\x1b[2H\x1b[J\x1b[H"  # in two steps: clearing all at once would fill the scrollback
        else:
            lines = [self.unseen.popleft() for _ in range(min(len(self.unseen), MOST))]
            self.seen.extend(lines)
            output = self.hide()
        self.shown, self.lost = (rows, row, column), False
        output += "".join([line + "\r\n" for line in lines]) + "\r\n".join(rows)
        return output + go(len(rows) - 1 - row, "A") + "\r" + go(column, "C")

    def hide(self) -> str:
        """What to write, to take the line off the screen; refresh() brings it back."""
        shown, self.shown = self.shown, None
        return "\r" + go(shown[1], "A") + "\x1b[J" if shown else ""

    def finish(self) -> str:
        """What to write at the end. A line that was not entered stays to be read."""
        output = "".join(iter(self.refresh, ""))
        if self.text and self.shown:
            rows, row, _ = self.shown
            return output + "\r" + "\n" * (len(rows) - row)
        return output + self.hide()

    def last_lines(self, rows: int) -> list[str]:
        """The last of the conversation, enough to fill so many rows."""
        lines: list[str] = []
        while rows > 0 and len(lines) < len(self.seen):
            lines.append(self.seen[-1 - len(lines)])
            rows -= len(lay_out(STYLE.sub("", lines[-1]), self.columns)[0])
        return lines[::-1]

    def prompt(self) -> str:
        """What stands before the line, and says what one should know when entering it."""
        if self.sought is not None:
            return f"({'search' if self.sought in self.text else 'not found'}: {self.sought}) "
        notes = [self.trouble] if self.trouble else []
        lines = self.text.rstrip("\n").split("\n")
        if len(lines) > 1:
            notes.append(f"{len(lines)} lines")
        longest = max((line.encode("utf-8", "surrogateescape") for line in lines), key=len)
        if len(longest) >= WARN:
            parts = len(split(longest))
            notes.append(f"{len(longest)}/{LIMIT}" + f": {parts} messages" * (parts > 1))
        return f"[{', '.join(notes)}] > " if notes else "> "


def go(steps: int, way: str) -> str:
    """What to write, to move the cursor up (A) or to the right (C)."""
    return f"\x1b[{steps}{way}" if steps else ""


# As in bash's readline. Where terminals disagree, every sequence that one of them sends for the key.
KEYS: dict[str, Callable[[Editor], None]] = {
    key: act
    for keys, act in (
        ("\r \n", Editor.enter),
        ("\x03", lambda e: e.order("interrupt")),
        ("\x04", lambda e: e.put(e.cursor, e.behind(e.cursor)) if e.text else e.order("end")),
        ("\x1a", lambda e: e.order("suspend")),
        ("\x0c", Editor.repaint),
        ("\x02 \x1b[D \x1bOD", lambda e: e.move(e.before(e.cursor))),
        ("\x06 \x1b[C \x1bOC", lambda e: e.move(e.behind(e.cursor))),
        ("\x01 \x1b[H \x1bOH \x1b[1~ \x1b[7~", lambda e: e.move(0)),
        ("\x05 \x1b[F \x1bOF \x1b[4~ \x1b[8~", lambda e: e.move(len(e.text))),
        ("\x1bb \x1b[1;5D \x1b[1;3D \x1bOd", lambda e: e.move(e.word(-1, is_sign))),
        ("\x1bf \x1b[1;5C \x1b[1;3C \x1bOc", lambda e: e.move(e.word(1, is_sign))),
        ("\x7f \x08", lambda e: e.put(e.before(e.cursor), e.cursor)),
        ("\x1b[3~", lambda e: e.put(e.cursor, e.behind(e.cursor))),
        ("\x17", lambda e: e.kill(e.word(-1, str.isspace), e.cursor)),
        ("\x1b\x7f \x1b\x08", lambda e: e.kill(e.word(-1, is_sign), e.cursor)),
        ("\x1bd \x1b[3;5~", lambda e: e.kill(e.cursor, e.word(1, is_sign))),
        ("\x15", lambda e: e.kill(0, e.cursor)),
        ("\x0b", lambda e: e.kill(e.cursor, len(e.text))),
        ("\x19", lambda e: e.put(e.cursor, e.cursor, e.killed)),
        ("\x14", Editor.transpose),
        ("\x10 \x1b[A \x1bOA", lambda e: e.recall(e.place - 1)),
        ("\x0e \x1b[B \x1bOB", lambda e: e.recall(e.place + 1)),
        ("\x12", lambda e: e.find("", e.place)),
    )
    for key in keys.split(" ")
}
