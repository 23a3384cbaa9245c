"""The line being typed, and the conversation above it: keys and messages in, what to write to the terminal out.

A plain object, no terminal and no loop. The screen is the terminal's normal one: the conversation scrolls away at its
top as usual, and below it stands the prompt with the line, on as many rows as it needs. The editor knows on which of
those rows it left the cursor. To show anything it goes to the first of them, erases from there to the end of the
screen, writes what is new in the conversation, and below it the line again.

That relies on nobody else moving the cursor. After a change of the window's size somebody has: some terminals wrap anew
what stands on the screen, some cut it off, and none says which. Then the whole screen is painted anew, from the last
lines of the conversation.

Columns are counted as Unicode says: wide characters take two, combining marks none. Terminals disagree about emoji that
are joined from several, or made from a text symbol by a variation selector; there the cursor may be off by a column.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import deque

from .framing import LIMIT, split
from .text import ESCAPES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

WARN = LIMIT - 100  # bytes from which the prompt counts them
KEPT = 500  # lines of the conversation for painting the screen anew, as many as it may have rows
MOST = 200  # lines of the conversation shown at once: in a flood, what is typed must not wait for long

KEY = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[@-~]|\x1b[bdf\x7f\x08]|[^\x00-\x1f\x7f]+|[^\x1b]")
BEGUN = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?")
PASTE, PASTED = "\x1b[200~", "\x1b[201~"  # bracketed paste: around what the terminal did not get from the keyboard
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def width(char: str) -> int:
    """How many columns a character takes: 0, 1 or 2."""
    if char < "\u0300":
        return 1
    if unicodedata.category(char) in ("Mn", "Me", "Cf") or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def joins(char: str) -> bool:
    """Whether a typed character belongs to the one before it."""
    return width(char) == 0 and ord(char) not in ESCAPES


def in_word(char: str) -> bool:
    return char.isalnum() or joins(char)


def in_argument(char: str) -> bool:
    return not char.isspace()


def look(char: str, column: int) -> str:
    """What is shown for a typed character: a tab as spaces, controls and bytes that are no UTF-8 as escapes."""
    if char == "\t":
        return " " * (8 - column % 8)
    if "\udc80" <= char <= "\udcff":  # the decoder's stand-in for such a byte
        return f"\\x{ord(char) - 0xDC00:02x}"
    return ESCAPES.get(ord(char), char)


class Editor:
    """Give it keys (press) and lines of the conversation (show), and write what refresh() returns.

    The screen has `columns` columns, at least 2, and `rows` rows.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        # The line.
        self.text = ""
        self.cursor = 0  # the place in it
        self.trouble = ""  # why nothing can be sent now
        self.killed = ""  # what Ctrl-Y brings back
        self.killing = self.killed_before = False  # whether this key kills, and the one before did: they are joined
        # The history. `place` is in it, or behind it for a line that was not entered yet.
        self.history: list[str] = []
        self.place = 0
        self.unsent = ""  # that line, while the history is shown
        self.sought: str | None = None  # by Ctrl-R
        self.missed = False  # it is nowhere in the history
        # The keyboard.
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.undecided = ""  # what may become a longer key
        self.pasting = False
        self.pasted: list[str] = []
        self.orders: list[tuple[str, str]] = []  # what press() is about to return
        # The screen.
        self.unseen: deque[str] = deque()  # lines of the conversation that are not on it yet
        self.seen: deque[str] = deque(maxlen=KEPT)
        self.row: int | None = None  # of the line's rows, that on which the cursor is; None: the line is not shown
        self.height = 0  # how many rows of the line are shown
        self.changed = True
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
        place = 0
        while place < len(text):
            if self.pasting:
                place = self.paste(text, place)
            elif found := KEY.match(text, place):
                place = found.end()
                self.key(found.group())
            elif begun := BEGUN.match(text, place):  # goes on, or is none; then what broke it off is a key again
                place = begun.end()
                if place == len(text):
                    self.undecided = begun.group()
        self.changed = True
        return self.orders

    def settle(self) -> None:
        """Nothing has followed for a while: what is undecided was Esc and no more. It ends a search."""
        if not self.pasting:
            self.undecided = ""
            self.sought = None
            self.changed = True

    def paste(self, text: str, place: int) -> int:
        """Collect what is pasted: nothing in it is a key. Returns where it ends in `text`."""
        end = text.find(PASTED, place)
        if end >= 0:
            self.pasted.append(text[place:end])
            self.insert("".join(self.pasted).replace("\r\n", "\n").replace("\r", "\n"))
            self.pasted.clear()
            self.pasting = False
            return end + len(PASTED)
        end = next(
            end for end in range(max(place, len(text) - len(PASTED)), len(text) + 1) if PASTED.startswith(text[end:])
        )
        self.pasted.append(text[place:end])
        self.undecided = text[end:]
        return len(text)

    def key(self, key: str) -> None:
        """Do what one key does; characters come in runs."""
        self.killed_before, self.killing = self.killing, False
        if self.sought is not None and self.search(key):
            return
        if act := KEYS.get(key):
            act(self)
        elif key == PASTE:
            self.pasting = True
        elif key == "\t" or (key[0] >= " " and key[0] != "\x7f"):
            self.insert(key)

    def order(self, what: str, text: str = "") -> None:
        self.orders.append((what, text))

    # The line.

    def insert(self, text: str) -> None:
        self.replace(self.cursor, self.cursor, text)

    def replace(self, start: int, end: int, text: str = "") -> None:
        """Put `text` between two places, and the cursor behind it."""
        self.text = self.text[:start] + text + self.text[end:]
        self.cursor = start + len(text)

    def kill(self, start: int, end: int) -> None:
        """Remove what is between two places; Ctrl-Y brings it back, with what the keys before killed."""
        part = self.text[start:end]
        before = self.killed if self.killed_before else ""
        self.killed = part + before if end <= self.cursor else before + part
        self.killing = True
        self.replace(start, end)

    def before(self, place: int) -> int:
        """The place one character before, with the marks that belong to it."""
        place = max(place - 1, 0)
        while place > 0 and joins(self.text[place]):
            place -= 1
        return place

    def behind(self, place: int) -> int:
        """The place one character further."""
        place += 1
        while place < len(self.text) and joins(self.text[place]):
            place += 1
        return min(place, len(self.text))

    def start_of(self, inside: Callable[[str], bool]) -> int:
        """The start of the word before the cursor."""
        place = self.cursor
        while place > 0 and not inside(self.text[place - 1]):
            place -= 1
        while place > 0 and inside(self.text[place - 1]):
            place -= 1
        return place

    def end_of_word(self) -> int:
        place = self.cursor
        while place < len(self.text) and not in_word(self.text[place]):
            place += 1
        while place < len(self.text) and in_word(self.text[place]):
            place += 1
        return place

    def left(self) -> None:
        self.cursor = self.before(self.cursor)

    def right(self) -> None:
        self.cursor = self.behind(self.cursor)

    def home(self) -> None:
        self.cursor = 0

    def end(self) -> None:
        self.cursor = len(self.text)

    def word_left(self) -> None:
        self.cursor = self.start_of(in_word)

    def word_right(self) -> None:
        self.cursor = self.end_of_word()

    def backspace(self) -> None:
        self.replace(self.before(self.cursor), self.cursor)

    def delete(self) -> None:
        self.replace(self.cursor, self.behind(self.cursor))

    def kill_argument(self) -> None:
        self.kill(self.start_of(in_argument), self.cursor)

    def kill_word_left(self) -> None:
        self.kill(self.start_of(in_word), self.cursor)

    def kill_word_right(self) -> None:
        self.kill(self.cursor, self.end_of_word())

    def kill_left(self) -> None:
        self.kill(0, self.cursor)

    def kill_right(self) -> None:
        self.kill(self.cursor, len(self.text))

    def yank(self) -> None:
        self.insert(self.killed)

    def transpose(self) -> None:
        """Exchange the characters around the cursor; at the end, the last two."""
        end = self.behind(self.cursor)
        middle = self.before(end)
        start = self.before(middle)
        self.replace(start, end, self.text[middle:end] + self.text[start:middle] if middle else self.text[start:end])

    def interrupt(self) -> None:
        self.order("interrupt")

    def suspend(self) -> None:
        self.order("suspend")

    def end_or_delete(self) -> None:
        if self.text:
            self.delete()
        else:
            self.order("end")

    def enter(self) -> None:
        """Hand the line over. An empty one is not a message: it is Enter hit once too often."""
        if self.trouble:
            self.order("again")
        elif self.text:
            if self.history[-1:] != [self.text]:
                self.history.append(self.text)
            self.order("say", self.text)
            self.place = len(self.history)
            self.replace(0, len(self.text))

    # The history.

    def recall(self, place: int) -> None:
        """Show what stands at `place` in the history; right behind it, the line that was not entered."""
        if 0 <= place <= len(self.history):
            if self.place == len(self.history):
                self.unsent = self.text
            self.place = place
            self.replace(0, len(self.text), [*self.history[place : place + 1], self.unsent][0])

    def older(self) -> None:
        self.recall(self.place - 1)

    def newer(self) -> None:
        self.recall(self.place + 1)

    def begin_search(self) -> None:
        self.sought = ""
        self.missed = False

    def search(self, key: str) -> bool:
        """Do what a key does during a search; False if it ends the search and is to be carried out."""
        assert self.sought is not None
        if key in ("\x03", "\x07"):
            self.recall(len(self.history))
            self.sought = None
            return True
        if key == "\x12":
            self.find(self.place - 1)
        elif key in ("\x7f", "\x08"):
            self.sought = self.sought[:-1]
            self.find(len(self.history) - 1)
        elif key[0] >= " ":
            self.sought += key
            self.find(self.place)
        else:
            self.sought = None
            return False
        return True

    def find(self, place: int) -> None:
        """Show the newest line with what is sought, at `place` or before."""
        assert self.sought is not None
        self.missed = False
        for older in range(min(place, len(self.history) - 1), -1, -1):
            if self.sought in self.history[older]:
                self.recall(older)
                self.cursor = self.text.index(self.sought)
                return
        self.missed = True

    # The screen.

    def show(self, lines: list[str]) -> None:
        """Add lines to the conversation: safe to show, in one style or another, each as long as it likes."""
        self.unseen.extend(lines)

    def set_trouble(self, trouble: str) -> None:
        """Say in the prompt why nothing can be sent now; empty if it can."""
        self.changed = self.changed or self.trouble != trouble
        self.trouble = trouble

    def resize(self, columns: int, rows: int) -> None:
        """The screen may be another one by now."""
        self.columns, self.rows = max(columns, 2), rows
        self.repaint()

    def repaint(self) -> None:
        """Nobody knows what is on the screen."""
        self.lost = True

    def refresh(self) -> str:
        """What to write, to bring the screen up to date: empty if it is."""
        if not (self.changed or self.unseen or self.lost):
            return ""
        rows, row, column = self.lay_out()
        if self.lost:
            shown = self.last_lines(self.rows - len(rows))
            output = "\x1b[H\x1b[K\x1b[2H\x1b[J\x1b[H"  # in two steps: clearing all would fill the scrollback
        else:
            shown = [self.unseen.popleft() for _ in range(min(len(self.unseen), MOST))]
            self.seen.extend(shown)
            output = self.hide()
        output += "".join([line + "\r\n" for line in shown])
        top = max(0, min(row, len(rows) - self.rows))  # a line with more rows than the screen: those from there
        rows = rows[top : top + self.rows]
        self.row, self.height = row - top, len(rows)
        up = self.height - 1 - self.row
        output += "\r\n".join(rows) + f"\x1b[{up}A" * (up > 0) + "\r" + f"\x1b[{column}C" * (column > 0)
        self.changed = self.lost = False
        return output

    def hide(self) -> str:
        """What to write, to take the line off the screen; refresh() brings it back."""
        row, self.row = self.row, None
        self.changed = True
        return "" if row is None else "\r" + f"\x1b[{row}A" * (row > 0) + "\x1b[J"

    def finish(self) -> str:
        """What to write at the end. A line that was not entered stays to be read."""
        output = ""
        while self.unseen:
            output += self.refresh()
        if self.row is not None and self.text:
            return output + "\r" + "\n" * (self.height - self.row)
        return output + self.hide()

    def last_lines(self, rows: int) -> list[str]:
        """The last of the conversation, enough to fill so many rows."""
        lines: list[str] = []
        for line in reversed(self.seen):
            if rows <= 0:
                break
            lines.append(line)
            rows -= self.rows_of(line)
        return lines[::-1]

    def rows_of(self, line: str) -> int:
        """How many rows the terminal needs for a line of the conversation."""
        rows, column = 1, 0
        for char in STYLE.sub("", line):
            taken = min(8 - column % 8, self.columns - 1 - column) if char == "\t" else width(char)
            if column + taken > self.columns:
                rows, column = rows + 1, 0
            column += taken
        return rows

    def prompt(self) -> str:
        """What stands before the line, and says what one has to know when entering it."""
        if self.sought is not None:
            return f"({'not found' if self.missed else 'search'}: {self.sought}) "
        notes = [self.trouble] if self.trouble else []
        lines = self.text.rstrip("\n").split("\n")
        if len(lines) > 1:
            notes.append(f"{len(lines)} lines")
        if len(self.text) > WARN // 4:  # a character has at most 4 bytes
            longest = max([line.encode("utf-8", "surrogateescape") for line in lines], key=len)
            parts = len(split(longest))
            if parts > 1:
                notes.append(f"{len(longest)}/{LIMIT}: {parts} messages")
            elif len(longest) >= WARN:
                notes.append(f"{len(longest)}/{LIMIT}")
        return f"[{', '.join(notes)}] > " if notes else "> "

    def lay_out(self) -> tuple[list[str], int, int]:
        """The rows of prompt and line, and the row and column of the cursor in them.

        A row that is full is followed by another, where the cursor is when it stands at the end.
        """
        prompt = self.prompt()
        rows = [""]
        column = row = cursor_column = 0
        base = 0  # the row of the character to which marks belong
        for place, char in enumerate(prompt + self.text, -len(prompt)):
            shown = look(char, column) if place >= 0 and char != "\n" else char
            if column + width(shown[0]) > self.columns:
                rows.append("")
                column = 0
            if place == self.cursor:
                row, cursor_column = len(rows) - 1, column
            if char == "\n":
                rows.append("")
                base, column = len(rows) - 1, 0
                continue
            for piece in shown:
                taken = width(piece)
                if taken:
                    base = len(rows) - 1
                rows[base] += piece
                column += taken
                if column >= self.columns:
                    rows.append("")
                    column = 0
        if self.cursor == len(self.text):
            row, cursor_column = len(rows) - 1, column
        return rows, row, cursor_column


# Names as in bash's readline. Where terminals disagree, every sequence that some of them sends.
KEYS: dict[str, Callable[[Editor], None]] = {
    key: act
    for keys, act in (
        ("\r \n", Editor.enter),
        ("\x03", Editor.interrupt),
        ("\x04", Editor.end_or_delete),
        ("\x1a", Editor.suspend),
        ("\x02 \x1b[D \x1bOD", Editor.left),
        ("\x06 \x1b[C \x1bOC", Editor.right),
        ("\x01 \x1b[H \x1bOH \x1b[1~ \x1b[7~", Editor.home),
        ("\x05 \x1b[F \x1bOF \x1b[4~ \x1b[8~", Editor.end),
        ("\x1bb \x1b[1;5D \x1b[1;3D \x1bOd", Editor.word_left),
        ("\x1bf \x1b[1;5C \x1b[1;3C \x1bOc", Editor.word_right),
        ("\x7f \x08", Editor.backspace),
        ("\x1b[3~", Editor.delete),
        ("\x17", Editor.kill_argument),
        ("\x1b\x7f \x1b\x08", Editor.kill_word_left),
        ("\x1bd \x1b[3;5~", Editor.kill_word_right),
        ("\x15", Editor.kill_left),
        ("\x0b", Editor.kill_right),
        ("\x19", Editor.yank),
        ("\x14", Editor.transpose),
        ("\x10 \x1b[A \x1bOA", Editor.older),
        ("\x0e \x1b[B \x1bOB", Editor.newer),
        ("\x12", Editor.begin_search),
        ("\x0c", Editor.repaint),
    )
    for key in keys.split(" ")
}
