"""Users and channels of an IRC network that is one server, and how they are told something.

A member hears one room. A user in one channel hears the room of this channel, so such users cost no more than members
of the plain chat. A user in several channels hears no room: each line is told to this user alone.
All users in a channel see the same lines in the same order, because each line goes to all of them before the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import time

from ...server.member import Member
from ...server.room import Room
from ..naming import key

SERVER = "chatsrv"  # the name of the server in its answers
LINE = 512 - 2  # bytes of a line, without the b"\r\n" at its end


class Network:
    """All users and channels."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.users: dict[str, User] = {}
        self.channels: dict[str, Channel] = {}

    def user(self, nick: str) -> User | None:
        """The registered user of that name, or None."""
        user = self.users.get(key(nick))
        return user if user and user.registered else None

    def channel(self, name: str) -> Channel | None:
        return self.channels.get(name.casefold())

    def open(self, name: str) -> Channel:
        """The channel of that name; a new one if there is none."""
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
        self.elsewhere: dict[User, None] = {}  # those users that do not hear the room
        self.topic = ""
        self.topic_set = ""  # by whom, and when
        self.names: list[str] = []  # the lines that list_names() returned; [] if they are out of date

    def publish(self, user: User, line: str) -> None:
        """Send what the user says to all the others in the channel. `line` has no prefix."""
        prefix = user.member.prefix
        text = to_bytes(line, len(prefix))
        self.room.publish(user.member, text, but=[user.member])
        for other in self.elsewhere:
            if other is not user:
                other.member.tell(prefix + text)
        user.caused += 1 + len(self.elsewhere)

    def list_names(self) -> list[str]:
        """The nicknames of all users, as lines that are not too long."""
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
        self.negotiating = False  # whether CAP LS was said, and CAP END was not
        self.registered = False
        self.channels: dict[str, Channel] = {}
        self.caused = 0  # how many lines this user has caused to be sent since the others had their turn
        self.farewell = ""  # what QUIT said

    @property
    def mask(self) -> str:
        return f"{self.nick}!{self.name}@{self.host}"

    def tell(self, line: str) -> None:
        """Tell this user a line."""
        self.member.tell(to_bytes(line))
        self.caused += 1

    def reply(self, number: int, *words: str) -> None:
        """Tell this user one of the numbered answers of IRC."""
        self.tell(" ".join([f":{SERVER} {number:03} {self.nick or '*'}", *words[:-1], f":{words[-1]}"]))

    def announce(self, channels: Iterable[Channel], line: str) -> None:
        """Tell each user in these channels once what this user does."""
        text = to_bytes(f":{self.mask} {line}")
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
        self.choose_room()

    def part(self, channel: Channel) -> None:
        del self.channels[channel.name.casefold()], channel.users[self]
        channel.elsewhere.pop(self, None)
        channel.names = []
        if not channel.users:
            del self.network.channels[channel.name.casefold()]
        self.choose_room()

    def choose_room(self) -> None:
        """Hear the room of the channel, if this user is in one channel only; otherwise no room."""
        channels = list(self.channels.values())
        self.member.enter(channels[0].room if len(channels) == 1 else None)
        for channel in channels:
            if len(channels) == 1:
                channel.elsewhere.pop(self, None)
            else:
                channel.elsewhere[self] = None


def to_bytes(line: str, reserved: int = 0) -> bytes:
    """A line with its b"\\r"; tell() adds the newline. It is cut between characters to LINE minus `reserved` bytes."""
    data = line.encode("utf-8", "surrogateescape")
    end = LINE - reserved
    while len(data) > end and data[end] & 0xC0 == 0x80:
        end -= 1
    return data[:end] + b"\r"
