"""Bytes in, messages out.

Messages are separated by b"\\n"; one b"\\r" before it belongs to the separator, as telnet sends it. A message has
at most LIMIT bytes, separator not counted. A longer line comes out in parts, each as soon as it is full.

The same messages come out, however the network cuts the stream into pieces. So if the next byte could still change
where a part ends, the part waits for that byte.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

LIMIT = 1024  # bytes
NEWLINE, RETURN = ord("\n"), ord("\r")  # numbers: `10 in data` is faster than `b"\n" in data`


class Rest(bytes):
    """A part of a line that was too long, but not the first part. A handler must not look for a command in it."""


class Messages(list[bytes]):
    """A list that is filled only when it is looked into or changed. Until then, the messages are one `text`.

    Most handlers publish what they receive, and do not look into it. To split the text for them, and to join it again,
    would take a third of Python's processor time.
    """

    __slots__ = ("text", "prefix", "prefixed")

    def __init__(self, text: bytes) -> None:
        self.text = text  # at least one message, each with its newline; b"" once they are in the list
        self.prefix = b""  # the prefix of the latest call of joined()
        self.prefixed = text  # what that call has returned: `text` with the prefix before each message

    def joined(self, prefix: bytes) -> bytes:
        """The text with a prefix before each message. Only for a list that is not filled yet."""
        if not prefix:
            return self.text
        if prefix != self.prefix:
            self.prefix = prefix
            more = (prefix + self.text).replace(b"\n", b"\n" + prefix)  # one prefix too many, at the end
            self.prefixed = more[: len(more) - len(prefix)]
        return self.prefixed

    def how_many(self, prefix: bytes) -> int:
        """How many messages there are, by the size of joined(prefix), which publish() needs anyway."""
        if self.text and prefix:
            return (len(self.joined(prefix)) - len(self.text)) // len(prefix)
        return self.text.count(b"\n") or len(self)

    def __bool__(self) -> bool:
        return bool(self.text) or list.__len__(self) > 0

    def __radd__(self, other: list[bytes]) -> list[bytes]:
        return other + self[:]

    def __reduce_ex__(self, protocol: object) -> tuple[type, tuple[list[bytes]]]:
        return list, (self[:],)  # copy.copy() and pickle make an ordinary list of it


def filling(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method of Messages from a method of list: the new one fills the list first.

    It also fills its arguments: list's own `+` and `==`, for example, look into both lists directly.
    """

    def fill_first(self: Messages, *arguments: Any, **named: Any) -> Any:
        for one in (self, *arguments):
            if type(one) is Messages and one.text:
                text = one.text
                one.text = one.prefixed = b""
                list.extend(one, text[:-1].split(b"\n"))
        return method(self, *arguments, **named)

    return fill_first


UNCHANGED = {"__new__", "__getattribute__", "__class_getitem__", "__hash__"}  # methods that look into no list
for name in vars(list).keys() - vars(Messages).keys() - UNCHANGED:
    setattr(Messages, name, filling(getattr(list, name)))

# Whether to use Messages. PyPy's `copy[:] = messages` calls none of these methods, and copies an empty list.
LAZY = sys.implementation.name == "cpython"


def join(prefix: bytes, messages: list[bytes]) -> bytes:
    """The messages as one text, with the prefix before each of them and a newline after each."""
    if type(messages) is Messages and messages.text:
        return messages.joined(prefix)
    return prefix + (b"\n" + prefix).join(messages) + b"\n"


class Framer:
    """One stream's framing. Between two calls it holds at most LIMIT + 2 bytes, so an endless line costs nothing.

    The two extra bytes belong to a UTF-8 character that begins at a part's last byte and is not complete yet.
    """

    __slots__ = ("unfinished", "begun")

    def __init__(self) -> None:
        self.unfinished = b""  # what has come of a message that is not complete yet
        self.begun = False  # whether parts of that message have gone out already

    def receive_data(self, data: bytes) -> list[bytes]:
        """Take what has arrived. Return the messages that are now complete, without their separators."""
        goes_on = self.begun  # whether `data` begins with the rest of a line whose first parts have gone out
        # If a full part has just gone out, a separator only ends that part: it makes no empty message.
        after_full_part = goes_on and self.unfinished in (b"", b"\r")
        if self.unfinished:
            if NEWLINE not in data and len(self.unfinished) + len(data) < LIMIT:
                self.unfinished += data  # only `data` was searched: each byte of a line is searched once
                return []
            data = self.unfinished + data
        if after_full_part:
            if data == b"\r":
                self.unfinished = data
                return []
            if data.startswith((b"\n", b"\r\n")):
                data = data[data.index(b"\n") + 1 :]
                goes_on = False
        if LAZY and not goes_on and (len(data) < LIMIT or not too_long(data, LIMIT - 1)) and RETURN not in data:
            # No line has to be looked at: none has a b"\r", and none is too long. LIMIT - 1, because
            # an unfinished line of LIMIT bytes can be a full part, which goes out at once.
            self.begun = False
            if data and data[-1] == NEWLINE:  # nearly always
                self.unfinished = b""
                return Messages(data)
            end = data.rfind(b"\n") + 1
            self.unfinished = data[end:]
            return Messages(data[:end]) if end else []
        messages = data.split(b"\n")
        self.unfinished = messages.pop()
        self.begun = goes_on and not messages  # without a separator, that line still goes on
        if RETURN in data:
            messages = [message[:-1] if message.endswith(b"\r") else message for message in messages]
        if len(data) >= LIMIT:
            if too_long(data, LIMIT):
                messages = [part for message in messages for part in split(message)]
            if len(self.unfinished) >= LIMIT:
                *parts, self.unfinished = split(self.unfinished, more=True)
                messages += parts
                self.begun = self.begun or bool(parts)
        if goes_on and messages:
            messages[0] = Rest(messages[0])
        return messages

    def finish(self) -> list[bytes]:
        """The stream has ended. What is left, without a separator, counts as a message."""
        messages = split(self.unfinished) if self.unfinished else []
        if self.begun and messages:
            messages[0] = Rest(messages[0])
        self.unfinished = b""
        return messages


def too_long(text: bytes, most: int) -> bool:
    """Whether a line of `text` has more than `most` bytes. Jumps as far as it can, not from line to line."""
    start, end = 0, len(text) - most
    while start < end:
        start = text.rfind(b"\n", start, start + most + 1) + 1  # after the last newline in reach; 0: there is none
        if not start:
            return True
    return False


def split(line: bytes, more: bool = False) -> list[bytes]:
    """Cut a line into parts of LIMIT bytes and a last one with what is left.

    With `more`, the line is not complete: the last part has to wait for what follows, the others are final.
    """
    parts: list[bytes] = []
    start = 0
    enough = LIMIT if more else LIMIT + 1  # a complete line of LIMIT bytes stays whole
    while len(line) - start >= enough:
        end = boundary(line, start + LIMIT, more)
        if end is None:
            break
        parts.append(Rest(line[start:end]) if parts else line[start:end])
        start = end
    if not parts:
        return [line]
    return [*parts, line[start:] if more else Rest(line[start:])]


def boundary(line: bytes, end: int, more: bool) -> int | None:
    """Where a part ends: at `end` or, if that would split a UTF-8 character, before this character.

    None if that depends on bytes that have not come yet. Bytes that are no valid character may be split.
    """
    if more and end == len(line) and line.endswith(b"\r"):
        return None  # perhaps this is the first half of a separator
    for start in range(end - 1, end - 4, -1):
        lead = line[start]
        if lead < 0x80 or lead > 0xF4:
            break
        if lead >= 0xC0:
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            try:
                line[start : start + length].decode()
            except UnicodeDecodeError as error:
                if more and error.reason == "unexpected end of data":
                    return None
                return end
            return start if start + length > end else end
    return end
