"""What is to be sent, and how much of it has surely arrived.

TCP confirms what has reached the other machine, not what the server has read. But a server that publishes what we say
sends it back, in order. So if a message has come back, it has arrived, and so have all messages before it. A command is
not published: it counts as arrived as soon as any line comes from the server. If the server closes the connection after
our stream has ended, it has read all of this stream.
"""

from __future__ import annotations

from collections import Counter, deque

from ..framing import Framer

MOST = 16 << 20  # bytes of messages to remember until they come back: some servers send none of them back
OVERHEAD = 200  # bytes that a remembered message takes besides its own
KICK = b"* You are disconnected: "  # the beginning of the server's last line to a client that it kicks


class Outgoing:
    """Bytes for the server, over one connection after another."""

    def __init__(self) -> None:
        self.waiting = bytearray()  # not sent yet
        self.complete = False  # whether nothing will be added to `waiting`
        self.lost = False  # whether something was on its way when a connection failed
        self.start_anew()

    def start_anew(self) -> None:
        """Begin with a new connection."""
        self.framer = Framer()  # finds the messages as the server does
        self.messages: deque[bytes] = deque()  # sent over this connection, not come back yet, oldest first
        self.counts: Counter[bytes] = Counter()  # how often a message is in `messages`, so that heard() need not search
        self.size = 0  # bytes that `messages` takes
        self.forgotten = False  # whether the messages were too many to remember
        self.echoed = False  # whether some messages have come back
        self.finished = False  # whether our stream has ended
        self.quitting = False  # whether the latest message asked the server to close the connection
        self.kicked = False  # whether the latest line from the server said that it kicks us

    def sent(self, size: int) -> None:
        """The system has taken `size` bytes of what is waiting."""
        messages = self.framer.receive_data(bytes(self.waiting[:size]))
        del self.waiting[:size]
        self.remember(messages)

    def finish(self) -> None:
        """Our stream has ended: the server takes a line without an end for a message, too."""
        self.remember(self.framer.finish())
        self.finished = True

    def remember(self, messages: list[bytes]) -> None:
        if messages:
            self.quitting = messages[-1].split(b" ")[0] == b"/quit"
        for message in messages:
            message = message.removesuffix(b"\r")  # as Incoming takes it off every line
            self.messages.append(message)
            self.counts[message] += 1
            self.size += len(message) + OVERHEAD
        if self.size > MOST:
            self.messages.clear()
            self.counts.clear()
            self.size = 0
            self.forgotten = True

    def heard(self, line: bytes) -> bool:
        """Take a line from the server; return whether it is one of our messages that has come back.

        If somebody else says the same while ours is on its way, theirs counts as ours.
        """
        _, colon, message = line.partition(b": ")
        self.kicked = False
        if line in self.counts:  # this server puts no name before messages
            message = line
        elif line.startswith(KICK):
            self.kicked = True
            return False
        elif not colon or message not in self.counts:  # not ours; any line shows that the oldest commands have arrived
            while self.messages and self.messages[0].startswith(b"/"):
                self.confirm()
            return False
        self.echoed = True
        while self.confirm() != message:
            pass  # the messages before this one will not come back: the server sends them in order
        return True

    def confirm(self) -> bytes:
        """The oldest message that was sent has arrived; return it."""
        message = self.messages.popleft()
        self.size -= len(message) + OVERHEAD
        self.counts[message] -= 1
        if not self.counts[message]:
            del self.counts[message]
        return message

    def end_expected(self) -> bool:
        """Whether the server was asked to close the connection, and has not kicked us instead."""
        return (self.finished or self.quitting) and not self.kicked

    def disconnected(self, clean: bool) -> bool:
        """The connection has ended, `clean` if the server ended it without failure. Return whether data may be lost.

        If we have asked the server to end the connection, it has read everything. But it may not have published
        everything: if some messages have come back, those that have not may be lost.
        """
        lost = bool(self.messages) or self.forgotten
        if clean and self.end_expected():
            lost = self.echoed and any(not message.startswith(b"/") for message in self.messages)
        self.lost = self.lost or lost
        # A message that was half sent is sent again, from its beginning.
        self.waiting = bytearray(self.framer.unfinished) + self.waiting
        self.start_anew()
        return lost
