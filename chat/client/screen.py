"""The conversation, and below it the line being typed: what to write to the terminal so that it shows them.

A plain object, no terminal and no loop. The screen is the terminal's normal one: the conversation scrolls away at its
top as usual. Below it is the prompt with the line being typed, on as many rows as it needs. The object knows on which
of those rows it left the cursor. To show something new, it moves the cursor to the first of these rows, erases them,
writes what is new in the conversation, and below it the line again.

That works only if no other program moves the cursor. When the window's size changes, some terminals wrap all rows anew,
some cut them off, and no terminal says which it does. But if the line being typed takes only one row in the old window
and only one in the new window, all terminals leave it as it is. Otherwise the whole screen is painted anew, with the
last lines of the conversation.
"""

from __future__ import annotations

from collections import deque

from .layout import Draft, wrap

ENOUGH = 16 << 10  # characters of the conversation shown at once: in a flood, what is typed must not wait for long
KEPT = 256 << 10  # characters of the conversation kept for painting the screen anew
OVERHEAD = 100  # bytes that a line takes besides its characters


class Lines:
    """Lines of the conversation, and about how many bytes they take."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque()
        self.size = 0

    def append(self, line: str) -> None:
        self.lines.append(line)
        self.size += len(line) + OVERHEAD

    def popleft(self) -> str:
        line = self.lines.popleft()
        self.size -= len(line) + OVERHEAD
        return line


class Screen:
    """show() takes lines of the conversation, and refresh() returns what to write to the terminal.

    The screen has `columns` columns and `rows` rows, at least 2 of each.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.head = Draft()  # the prompt
        self.draft = Draft()  # what is being typed, after the prompt
        self.unseen = Lines()  # not on the screen yet
        self.seen = Lines()
        self.partial = ""  # what has come of a line that is not complete
        self.bell = False  # whether the bell is to be rung
        self.shown: tuple[list[str], int, int] | None = None  # what bottom() returned when it was last written
        self.width = 0  # columns that prompt and line take, if they take only one row
        self.lost = False  # whether it is unknown what is on the screen

    def show(self, lines: list[str]) -> None:
        """Add lines to the conversation. They are safe to show, may have styles in them, and may be of any length."""
        for line in lines:
            self.unseen.append(line)

    def resize(self, columns: int, rows: int) -> None:
        """The size of the screen may have changed."""
        self.columns, self.rows = columns, rows
        if self.shown and (len(self.shown[0]) > 1 or self.width >= columns):
            self.lost = True

    def repaint(self) -> None:
        """Let refresh() paint everything anew."""
        self.lost = True

    def refresh(self, prompt: str, text: str, cursor: int) -> str:
        """What to write to bring the screen up to date; "" if it is already. `cursor` is a place in the text."""
        rows, row, column = self.bottom(prompt, text, cursor)
        if (rows, row, column) == self.shown and not (self.unseen.lines or self.bell or self.lost):
            return ""
        if self.lost:
            above = self.last_rows(self.rows - len(rows))
            output = "\x1b[H\x1b[K\x1b[2H\x1b[J\x1b[H"  # in two steps: clearing all at once would fill the scrollback
        else:
            output = self.hide()
            above = self.next_rows()
        if self.bell:
            output = "\a" + output
        output += "".join([line + "\r\n" for line in above]) + "\r\n".join(rows)
        output += go(len(rows) - 1 - row, "A") + "\r" + go(column, "C")
        self.shown = rows, row, column
        self.lost = self.bell = False
        # Switch off the terminal's own wrapping meanwhile: the terminal may think that a character is wider than we do
        return output if output.isascii() else f"\x1b[?7l{output}\x1b[?7h"

    def bottom(self, prompt: str, text: str, cursor: int) -> tuple[list[str], int, int]:
        """The rows below the conversation, and the cursor's row and column there.

        The draft begins in the row in which the prompt ends. If there are more rows than the screen has, we show those
        around the cursor, below the first row of the prompt.
        """
        self.head.update(prompt, self.columns)
        joint, begin = self.head.find(len(prompt))  # the row and the column in which the prompt ends
        self.head.lay_out(joint + 1)
        self.draft.update(text, self.columns, begin)
        draft_row, column = self.draft.find(cursor)
        row = joint + draft_row  # like all numbers of rows from here on, counted from the first row of the prompt
        count = joint + self.draft.lay_out(draft_row + self.rows)  # no more rows than the screen can need
        top = max(0, min(row - 1, count - self.rows))  # the first row on the screen
        rows = [*self.head.rows[:joint], self.head.rows[joint] + self.draft.rows[0]][top:]
        rows += self.draft.rows[max(top - joint, 1) : top - joint + self.rows]
        del rows[self.rows :]
        if top:
            rows[0] = self.head.rows[0]
        self.width = self.draft.find(len(text))[1] if count == 1 else self.columns
        left = self.rows - len(rows)
        above = wrap(self.partial, self.columns)[-left:] if self.partial and left else []
        return above + rows, len(above) + row - top, column

    def next_rows(self) -> list[str]:
        """Rows for what is new in the conversation, not too many at once."""
        rows = []
        until = self.unseen.size - ENOUGH
        while self.unseen.lines and self.unseen.size > until:
            line = self.unseen.popleft()
            rows += wrap(line, self.columns)
            self.seen.append(line)
        while self.seen.size > KEPT and len(self.seen.lines) > 1:
            self.seen.popleft()
        return rows

    def last_rows(self, most: int) -> list[str]:
        """The last rows of the conversation."""
        rows: list[str] = []
        for line in reversed(self.seen.lines):
            if len(rows) >= most:
                break
            rows = wrap(line, self.columns) + rows
        return rows[len(rows) - most :] if len(rows) > most else rows

    def hide(self) -> str:
        """What to write to take the line off the screen; refresh() brings it back.

        Its first row is erased first, and then the others. If one step erased the whole screen, tmux would move the
        rows to its scrollback.
        """
        shown, self.shown = self.shown, None
        if not shown:
            return ""
        rows, row, _ = shown
        return "\r" + go(row, "A") + "\x1b[K" + ("\x1b[B\x1b[J\x1b[A" if len(rows) > 1 else "")

    def drop(self) -> None:
        """Forget what is not on the screen yet."""
        self.unseen = Lines()

    def finish(self, prompt: str, text: str, cursor: int) -> str:
        """What to write at the end. A line that was not entered stays on the screen."""
        if self.partial:
            self.show([self.partial])
            self.partial = ""
        output = ""
        while more := self.refresh(prompt, text, cursor):
            output += more
        if text and self.shown:
            rows, row, _ = self.shown
            return output + "\r" + "\n" * (len(rows) - row)
        return output + self.hide()


def go(steps: int, way: str) -> str:
    """What to write to move the cursor up (A) or to the right (C)."""
    return f"\x1b[{steps}{way}" if steps else ""
