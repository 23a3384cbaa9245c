"""The line being typed: takes keys, returns orders for the client. A plain object; screen.py shows it."""

from __future__ import annotations

import re

from ..framing import LIMIT, split
from .history import History
from .keys import Keyboard
from .line import Line, is_between_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .keys import Key

WARN = LIMIT - 100  # if a line has so many bytes, the prompt says how many
LONG = re.compile(rf"[^\n]{{{WARN // 4},}}")  # a line with fewer characters has fewer bytes than WARN


class Editor(Line):
    """press() takes what was read from the keyboard, and view() returns what to show."""

    def __init__(self) -> None:
        super().__init__()
        self.keyboard = Keyboard()
        self.trouble = ""  # why nothing can be sent now
        self.history = History()
        self.sought: str | None = None  # what Ctrl-R looks for; None if there is no search
        self.names: dict[str, None] = {}  # the names that Tab completes, the latest one last
        # The line and the cursor as the last Tab left them, where the name begins, and the names for the next Tab
        self.completion: tuple[str, int, int, list[str]] = ("", -1, 0, [])
        self.noted: tuple[str, list[str]] = ("", [])  # the line when prompt() last looked at it, and notes() about it
        self.orders: list[tuple[str, str]] = []  # what press() is about to return

    def press(self, data: bytes) -> list[tuple[str, str]]:
        """Take any piece of what the keyboard sends. Return what is to be done now, in order:

        ("say", text) for what was entered, several lines if they were pasted; ("again", "") for Enter while nothing can
        be sent; ("interrupt", ""), ("end", ""), ("suspend", "") and ("repaint", "") for Ctrl-C, Ctrl-D, Ctrl-Z and
        Ctrl-L.
        """
        return self.carry_out(self.keyboard.press(data))

    def settle(self) -> list[tuple[str, str]]:
        """Nothing was read for `keyboard.patience` seconds. Return what is to be done now."""
        return self.carry_out(self.keyboard.settle())

    def carry_out(self, keys: list[Key]) -> list[tuple[str, str]]:
        self.orders = []
        for key, text in keys:
            if self.sought is not None and self.search(key, text):
                continue
            if text:
                self.put(self.cursor, self.cursor, text)
            elif act := BINDINGS.get(key):
                act(self)
        return self.orders

    def order(self, what: str, text: str = "") -> None:
        self.orders.append((what, text))

    def put(self, start: int, end: int, text: str = "") -> None:
        super().put(start, end, text)
        self.history.edit(self.text)

    def complete(self) -> None:
        """Complete the name of somebody who has spoken; when repeated, another such name. If none fits, add a tab."""
        text, cursor, begin, names = self.completion
        if (self.text, self.cursor) != (text, cursor):
            begin = max(self.text.rfind(blank, 0, self.cursor) for blank in " \n\t") + 1
            word = self.text[begin : self.cursor].lower()
            names = [name for name in reversed(self.names) if word and name.lower().startswith(word)]
        if not names:
            self.put(self.cursor, self.cursor, "\t")
            return
        line_begins = begin == 0 or self.text[begin - 1] == "\n"
        self.put(begin, self.cursor, names[0] + (": " if line_begins else " "))
        self.completion = (self.text, self.cursor, begin, names[1:] + names[:1])

    def enter(self) -> None:
        """Hand the line over. An empty line is no message, only Enter hit once too often."""
        if self.trouble:
            self.order("again")
        elif self.text:
            self.order("say", self.text)
            self.history.add(self.text)
            self.put(0, len(self.text))

    # What was entered before.

    def recall(self, text: str | None) -> None:
        """Show a line of the history, if there is one."""
        if text is not None:
            self.text, self.cursor = text, len(text)

    def search(self, key: str, text: str) -> bool:
        """Do what a key does during a search. Return False if the key ends the search and has yet to be carried out."""
        sought = self.sought or ""
        if key == "Ctrl-R":
            self.seek(sought, self.history.place - 1)
        elif key == "Backspace":
            self.seek(sought[:-1], len(self.history.lines) - 1)
        elif key == "text":
            found, most = 0, len(text)
            # Find how much of the text's beginning the history has, in few steps: both may be long
            while found < most:
                middle = (found + most + 1) // 2
                if self.history.find(sought + text[:middle], self.history.place) is None:
                    most = middle - 1
                else:
                    found = middle
            self.seek(sought + text[:found], self.history.place)
            self.sought = sought + text
        else:
            self.sought = None
            if key not in ("Ctrl-C", "Ctrl-G"):
                return False
            self.recall(self.history.back_to_new())
        return True

    def seek(self, sought: str, place: int) -> None:
        """Search for `sought`, from `place` of the history backwards, and show the first line that has it."""
        self.sought = sought
        found = self.history.find(sought, place)
        if found is not None:
            self.recall(self.history.go(found))
            self.cursor = self.text.index(sought)

    # What is seen.

    def view(self) -> tuple[str, str, int]:
        """The prompt, the line, and the cursor's place in it."""
        return self.prompt(), self.text, self.cursor

    def prompt(self) -> str:
        """What stands before the line: in brackets what the user should know now, if anything; and "> "."""
        if self.sought is not None:
            return f"({'search' if self.sought in self.text else 'not found'}: {self.sought}) "
        if self.noted[0] is not self.text:
            self.noted = self.text, notes(self.text)
        said = [self.trouble] if self.trouble else []
        said += self.noted[1]
        if self.keyboard.paste is not None:
            said.append("pasting, Ctrl-G ends it")
        return f"[{', '.join(said)}] > " if said else "> "


def notes(text: str) -> list[str]:
    """What the user should know before sending a text: that it is several lines, or that the server will split it."""
    said = []
    lines = text.rstrip("\n").count("\n") + 1
    if lines > 1:
        said.append(f"{lines} lines")
    longest = max([line.encode("utf-8", "surrogateescape") for line in LONG.findall(text)], key=len, default=b"")
    if len(longest) >= WARN:
        size = f"{len(longest)}/{LIMIT}"
        parts = len(split(longest))
        said.append(f"{size}: {parts} messages" if parts > 1 else size)
    return said


# As in bash's readline. The names are those of keys.py.
BINDINGS: dict[str, Callable[[Editor], None]] = {
    key: act
    for keys, act in (
        ("Enter", Editor.enter),
        ("Tab", Editor.complete),
        ("Left Ctrl-B", lambda e: e.move(e.left())),
        ("Right Ctrl-F", lambda e: e.move(e.right())),
        ("Ctrl-Left Alt-Left Alt-B", lambda e: e.move(e.word_left(is_between_words))),
        ("Ctrl-Right Alt-Right Alt-F", lambda e: e.move(e.word_right(is_between_words))),
        ("Home Ctrl-A", lambda e: e.move(0)),
        ("End Ctrl-E", lambda e: e.move(len(e.text))),
        ("Backspace", lambda e: e.put(e.left(), e.cursor)),
        ("Delete", lambda e: e.put(e.cursor, e.right())),
        ("Ctrl-W", lambda e: e.kill(e.word_left(str.isspace), e.cursor)),
        ("Alt-Backspace", lambda e: e.kill(e.word_left(is_between_words), e.cursor)),
        ("Alt-D Ctrl-Delete", lambda e: e.kill(e.cursor, e.word_right(is_between_words))),
        ("Ctrl-U", lambda e: e.kill(0, e.cursor)),
        ("Ctrl-K", lambda e: e.kill(e.cursor, len(e.text))),
        ("Ctrl-Y", lambda e: e.put(e.cursor, e.cursor, e.killed)),
        ("Ctrl-T", Editor.transpose),
        ("Up Ctrl-P", lambda e: e.recall(e.history.go(e.history.place - 1))),
        ("Down Ctrl-N", lambda e: e.recall(e.history.go(e.history.place + 1))),
        ("Ctrl-R", lambda e: e.seek("", e.history.place)),
        ("Ctrl-L", lambda e: e.order("repaint")),
        ("Ctrl-Z", lambda e: e.order("suspend")),
        ("Ctrl-D", lambda e: e.put(e.cursor, e.right()) if e.text else e.order("end")),
        ("Ctrl-C", lambda e: e.order("interrupt")),
    )
    for key in keys.split()
}
