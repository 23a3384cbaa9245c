"""The sender of a line, and how it is shown: a colour for each sender, our own lines in bold, and our name marked.

Our own name is what comes before our own messages when they come back. Until then it is the name in the server's
welcome. When the server says that our name has changed, the new one counts.
"""

from __future__ import annotations

import re
from zlib import crc32

from ..escape import plain, visible

COLOURS = 31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96  # all can be read on a dark and on a light background
MOST = 1000  # names that are remembered
LONGEST = 64  # characters of a name; what is longer is not taken for one
WELCOME = re.compile(r"Welcome, (\S+?)[.,:!]( |$)")
PRIVATE = re.compile(r"^\((\S+) to you\)")
RENAMED = re.compile(r"\* (\S+) is now (\S+)")


class Speakers:
    def __init__(self, colour: bool) -> None:
        self.colour = colour
        self.names: dict[str, None] = {}  # the names of others that have spoken, the latest one last
        self.me = ""
        self.named = False  # whether a line has named us; Window.show() resets this

    def dress(self, line: bytes, own: bool) -> str:
        """A received line as it is shown; `own`: it is a message of ours that has come back."""
        text = legible(line)
        sender, colon, said = text.partition(": ")
        if not colon or not 0 < len(sender) <= LONGEST or " " in sender:
            sender = colon = ""
            said = text
        if own:
            self.me = sender
            self.names.pop(sender, None)
        elif sender:
            self.meet(sender)
        else:
            self.learn(text)
        if self.colour and sender:
            sender = f"\x1b[{COLOURS[crc32(sender.encode()) % len(COLOURS)]}m{sender}\x1b[39m"
        if own:
            return f"\x1b[1m{sender}{colon}{said}\x1b[m" if self.colour else text
        pattern = self.naming(sender, said)
        if not pattern:
            return sender + colon + said
        self.named = True
        if not self.colour:
            return f"! {text}"
        return sender + colon + pattern.sub("\x1b[7m\\g<0>\x1b[27m", said)

    def meet(self, name: str) -> None:
        """Somebody of this name has spoken."""
        self.names.pop(name, None)
        self.names[name] = None
        if len(self.names) > MOST:
            oldest = next(iter(self.names))
            del self.names[oldest]

    def learn(self, text: str) -> None:
        """Take a line of the server's own: it may be about names."""
        if welcome := WELCOME.match(text):
            self.me = welcome[1]
        elif renamed := RENAMED.fullmatch(text):
            if renamed[1] == self.me:
                self.me = renamed[2]
            elif renamed[1] in self.names:
                del self.names[renamed[1]]
                self.meet(renamed[2])

    def naming(self, sender: str, said: str) -> re.Pattern[str] | None:
        """A pattern that finds what to mark in a line that names us, or is for us alone; None for other lines."""
        if not sender and (private := PRIVATE.match(said)):
            self.meet(private[1])
            return PRIVATE
        doer = said.removeprefix("* ").split(" ")[0]
        if not self.me or not (sender or doer in self.names):
            return None
        name = re.compile(rf"(?<!\w){re.escape(self.me)}(?!\w)", re.IGNORECASE)
        return name if name.search(said) else None


def legible(line: bytes) -> str:
    """A received line as harmless text, with its tabs."""
    return line.decode() if plain(line) else "\t".join(map(visible, line.split(b"\t")))
