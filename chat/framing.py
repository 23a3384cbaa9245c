"""Bytes in, messages out.

Messages are separated by b"\\n"; one b"\\r" before it belongs to the separator, which is what telnet sends. A message
has at most LIMIT bytes, separator not counted; a longer one is sent on in parts, each as soon as it is full.

The same messages come out, however the network cuts the stream into pieces. So if the next byte could still change
where a part ends, the part waits for that byte.
"""

from __future__ import annotations

LIMIT = 1024  # bytes
NEWLINE, RETURN = b"\n\r"  # as numbers, which Python finds faster in bytes


class Rest(bytes):
    """A part of a line that was too long, but not the first part."""


class Framer:
    """One stream's framing. Between two calls it holds at most LIMIT + 2 bytes, so an endless line costs nothing.

    The two extra bytes belong to a UTF-8 character that begins at a part's last byte and is not complete yet.
    """

    __slots__ = ("rest", "begun")

    def __init__(self) -> None:
        self.rest = b""  # of a message that is not complete yet
        self.begun = False  # parts of that message went out already

    def receive_data(self, data: bytes) -> list[bytes]:
        """Take what has arrived. Return the messages that are now complete, without their separators."""
        begun = self.begun
        full = begun and self.rest in (b"", b"\r")  # a separator here ends a full part, and makes no empty message
        if self.rest:
            if NEWLINE not in data and len(self.rest) + len(data) < LIMIT:
                self.rest += data  # only what is new was searched: a line that drips in costs no more than a whole one
                return []
            data = self.rest + data
        if full:
            if data == b"\r":
                self.rest = data
                return []
            if data.startswith((b"\n", b"\r\n")):
                data = data[data.index(b"\n") + 1 :]
                begun = False
        messages = data.split(b"\n")
        self.rest = messages.pop()
        self.begun = begun and not messages
        if RETURN in data:
            messages = [message[:-1] if message.endswith(b"\r") else message for message in messages]
        if len(data) >= LIMIT:
            if too_long(data, LIMIT):
                messages = [part for message in messages for part in split(message)]
            if len(self.rest) >= LIMIT:
                *parts, self.rest = split(self.rest, more=True)
                messages += parts
                self.begun = self.begun or bool(parts)
        if begun and messages:
            messages[0] = Rest(messages[0])
        return messages

    def finish(self) -> list[bytes]:
        """The stream has ended: a rest without a separator is a message too."""
        messages = split(self.rest) if self.rest else []
        if self.begun and messages:
            messages[0] = Rest(messages[0])
        self.rest = b""
        return messages


def too_long(text: bytes, most: int) -> bool:
    """Whether a line of `text` has more than `most` bytes. Looks at only one newline in `most` bytes."""
    start = 0
    while len(text) - start > most:
        start = text.rfind(b"\n", start, start + most + 1) + 1
        if not start:
            return True
    return False


def split(line: bytes, more: bool = False) -> list[bytes]:
    """Cut a line into parts of LIMIT bytes and a last one with what is left.

    With `more`, the line goes on: all parts but the last are full and final, and the last is what has to wait.
    """
    parts: list[bytes] = []
    start = 0
    least = LIMIT if more else LIMIT + 1  # from so many bytes on, a full part is cut off
    while len(line) - start >= least:
        end = boundary(line, start + LIMIT, more)
        if end is None:
            break
        parts.append(Rest(line[start:end]) if parts else line[start:end])
        start = end
    if not parts:
        return [line]
    return [*parts, line[start:] if more else Rest(line[start:])]


def boundary(line: bytes, end: int, more: bool) -> int | None:
    """Where to cut instead of at `end`: before a UTF-8 character that `end` would split, else there.

    None if that depends on bytes which are still to come. Bytes that are no valid character are cut anywhere.
    """
    if more and end == len(line) and line.endswith(b"\r"):
        return None  # the first half of a separator, perhaps
    for start in range(end - 1, end - 4, -1):
        lead = line[start]
        if lead < 0x80 or lead > 0xF4:
            break
        if lead >= 0xC0:
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            try:
                line[start : start + length].decode()
                return start if start + length > end else end
            except UnicodeDecodeError as error:
                return None if more and error.reason == "unexpected end of data" else end
    return end
