"""Users and channels of an IRC network that is one server, and how they are told something.

A member hears one room. In one channel, a user hears the channel's room: a thousand of them cost what they cost in the
plain chat. In several channels, or none, a user hears no room, and each line is told to it. A user in a channel
sees the same lines in the same order, because each goes to all of them before the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import time

from ...server.member import Member
from ...server.room import Room
from ..naming import key

SERVER = "chatsrv"  # what it calls itself
LINE = 512 - 2  # bytes of a line, without its end, which is b"\r\n"


class Network:
    """All users and channels."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.users: dict[str, User] = {}
        self.channels: dict[str, Channel] = {}

    def user(self, nick: str) -> User | None:
        """The user of that name, if there is one that can be told something."""
        user = self.users.get(key(nick))
        return user if user and user.registered else None

    def channel(self, name: str) -> Channel | None:
        return self.channels.get(name.casefold())

    def open(self, name: str) -> Channel:
        """The channel of that name, made if there is none."""
        folded = name.casefold()
        if folded not in self.channels:
            self.channels[folded] = Channel(name, self.room.other(folded))
        return self.channels[folded]


class Channel:
    def __init__(self, name: str, room: Room) -> None:
        self.name = name
        self.room = room
        self.began = int(time())
        self.users: dict[User, None] = {}
        self.elsewhere: dict[User, None] = {}  # those of them that do not hear its room
        self.topic = ""
        self.topic_set = ""  # by whom, and when
        self.names: list[str] = []  # of its users, as many in each line as fit; empty if somebody has come or gone

    def publish(self, user: User, line: str) -> None:
        """What the user says, for all the others. `line` is without its prefix."""
        prefix = user.member.prefix
        text = wire(line, len(prefix))
        self.room.publish(user.member, text, but=[user.member])
        for other in self.elsewhere:
            if other is not user:
                other.member.tell(prefix + text)
        user.caused += 1 + len(self.elsewhere)

    def list_names(self) -> list[str]:
        if not self.names:
            self.names = [""]
            for user in self.users:
                if len(self.names[-1].encode()) > 300:
                    self.names.append("")
                self.names[-1] += f"{user.nick} "
        return self.names


class User:
    """One connection."""

    def __init__(self, member: Member, network: Network) -> None:
        self.member = member
        self.network = network
        self.nick = self.name = self.real = ""
        self.host = "0" + member.host if member.host.startswith(":") else member.host  # no word begins with a colon
        self.negotiating = False  # between CAP LS and CAP END
        self.registered = False
        self.channels: dict[str, Channel] = {}
        self.caused = 0  # lines that were sent because of it, since the others had their turn
        self.farewell = ""  # what it has said at its end

    @property
    def mask(self) -> str:
        return f"{self.nick}!{self.name}@{self.host}"

    def say(self, line: str) -> None:
        """Tell it a line."""
        self.member.tell(wire(line))
        self.caused += 1

    def reply(self, number: int, *words: str) -> None:
        """Tell it one of the numbered answers."""
        self.say(" ".join([f":{SERVER} {number:03} {self.nick or '*'}", *words[:-1], f":{words[-1]}"]))

    def announce(self, channels: Iterable[Channel], line: str) -> None:
        """Tell all in these channels, once each, what this user does."""
        text = wire(f":{self.mask} {line}")
        elsewhere: dict[User, None] = {}
        for channel in channels:
            channel.room.announce(text)
            elsewhere.update(channel.elsewhere)
        for user in elsewhere:
            user.member.tell(text)
        self.caused += 1 + len(elsewhere)

    def join(self, channel: Channel) -> None:
        self.channels[channel.name.casefold()] = channel
        channel.users[self] = None
        channel.names = []
        self.listen()

    def part(self, channel: Channel) -> None:
        del self.channels[channel.name.casefold()], channel.users[self]
        channel.elsewhere.pop(self, None)
        channel.names = []
        if not channel.users:
            del self.network.channels[channel.name.casefold()]
        self.listen()

    def listen(self) -> None:
        """Hear a room, if it is in one channel only."""
        channels = list(self.channels.values())
        self.member.enter(channels[0].room if len(channels) == 1 else None)
        for channel in channels:
            if len(channels) == 1:
                channel.elsewhere.pop(self, None)
            else:
                channel.elsewhere[self] = None


def wire(line: str, less: int = 0) -> bytes:
    """A line as it is sent, but for its newline: cut, between characters, to what a line may have, minus `less`."""
    data = line.encode("utf-8", "surrogateescape")
    end = LINE - less
    while len(data) > end and data[end] & 0xC0 == 0x80:
        end -= 1
    return data[:end] + b"\r"
