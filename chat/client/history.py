"""What was entered before."""

from __future__ import annotations

KEPT = 1 << 20  # characters


class History:
    """The lines that were entered, and after them the one that is being typed. One of all these is shown."""

    def __init__(self) -> None:
        self.lines = [""]
        self.place = 0  # which of the lines is shown

    def edit(self, text: str) -> None:
        """The line that is shown was changed. A line that was entered before stays here as it was."""
        if self.place == len(self.lines) - 1:
            self.lines[-1] = text

    def add(self, text: str) -> None:
        """A line was entered. The oldest lines are removed when there are too many."""
        if self.lines[-2:-1] != [text]:
            self.lines.insert(-1, text)
        size = sum(map(len, self.lines))
        while size > KEPT and len(self.lines) > 2:
            size -= len(self.lines.pop(0))
        self.place = len(self.lines) - 1

    def go(self, place: int) -> str | None:
        """Show the line at this place, and return it; None if there is no such place."""
        if not 0 <= place < len(self.lines):
            return None
        self.place = place
        return self.lines[place]

    def back_to_new(self) -> str:
        """Show the line that was not entered yet, and return it."""
        self.place = len(self.lines) - 1
        return self.lines[-1]

    def find(self, sought: str, place: int) -> int | None:
        """The place of the newest line that contains `sought`, from `place` backwards; None if there is none."""
        if sought:
            for older in range(place, -1, -1):
                if sought in self.lines[older]:
                    return older
        return None
