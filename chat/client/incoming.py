"""Takes bytes from the server and returns lines."""

from __future__ import annotations

LONGEST = 64 << 10  # so many bytes without a newline are taken for a line


class Incoming:
    """The stream of one connection. Each byte is searched once, however a line is cut into pieces on its way."""

    def __init__(self) -> None:
        self.rest = bytearray()  # what has come of a line that is not complete yet
        self.unseen = False  # whether `rest` has something that look() has not returned yet

    def receive_data(self, data: bytes) -> list[bytes]:
        """Take what has arrived. Return the lines that are now complete, without their ends."""
        self.rest += data
        lines: list[bytes] = []
        if b"\n" in data:
            *lines, rest = bytes(self.rest).split(b"\n")
            self.rest = bytearray(rest)
        if len(self.rest) >= LONGEST:
            lines += self.finish()
        self.unseen = bool(self.rest)
        return [line[:-1] if line.endswith(b"\r") else line for line in lines]

    def look(self) -> bytes:
        """What has come of the unfinished line, to be shown."""
        self.unseen = False
        return bytes(self.rest)

    def finish(self) -> list[bytes]:
        """The stream has ended: a rest without an end is a line, too."""
        rest, self.rest = bytes(self.rest), bytearray()
        return [rest] if rest else []
