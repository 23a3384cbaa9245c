"""All rooms of a node and their streams: those with members here, or with something that has not come back."""

from __future__ import annotations

from loop import WaitQueue

from .link import Link, Whisper, stream_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from ..room import Hub, Room

UNSETTLED = 1 << 20  # bytes accepted that have not come back: with more, no member is read from


class Links:
    """Accepts what members say. The session with Redis writes it, and settles it when it has come back."""

    def __init__(self, hub: Hub, stream: str, node: str) -> None:
        self.hub = hub
        self.stream = stream
        self.node = node
        self.first = Link(hub.first, stream, node)
        self.links = {hub.first.name: self.first}  # by the names of their rooms
        self.unwritten: dict[Link, None] = {}  # those with something that has not come back
        self.unseen = {self.first: None}  # those whose streams were not looked at yet
        self.size = 0  # bytes that have not come back
        self.bound = UNSETTLED
        self.number = 0  # the highest number that an entry of any of them has had
        self.names = 0  # how many epochs could have been named
        self.whispers: dict[Any, int] = {}  # bytes of lines that wait, for each member
        self.news = WaitQueue()  # there is something to be written or looked at
        self.progress = WaitQueue()  # something was settled

    def all(self) -> list[Link]:
        return list(self.links.values())

    def looked(self) -> list[Link]:
        """Those whose streams can be followed."""
        return [link for link in self.links.values() if link.looked]

    def link(self, room: Room) -> Link:
        """That of a room, made if there is none."""
        link = self.links.get(room.name)
        if link is None:
            link = Link(room, stream_name(self.stream, room), self.node, self.number)
            self.links[room.name] = link
            self.unseen[link] = None
            self.news.wake_all()
        return link

    def follows(self, link: Link) -> bool:
        """Whether this is the room's link. Once it was left alone, the room may have another one."""
        return self.links.get(link.room.name) is link

    def tidy(self, link: Link) -> None:
        """Stop following a stream that concerns no member here any more."""
        if link is not self.first and not link.room.present and not link.outgoing.entries:
            if self.follows(link):
                del self.links[link.room.name]
            self.unseen.pop(link, None)

    def enter(self, room: Room, member: Any) -> None:
        self.link(room).enter(member)

    def leave(self, room: Room, member: Any) -> None:
        link = self.links[room.name]
        link.since.pop(member, None)
        self.tidy(link)

    def publish(self, room: Room, text: bytes, member: Any, but: Collection[Any]) -> None:
        link = self.link(room)
        link.outgoing.publish(text, member, tuple(but))
        self.number = max(self.number, link.outgoing.number)
        self.unwritten[link] = None
        self.size += len(text)
        self.hold()
        self.news.wake_all()

    def tell(self, member: Any, line: bytes) -> bool:
        waits_for = [(link, *place) for link in self.unwritten if (place := link.waits_for(member))]
        if not waits_for:
            return False
        Whisper(member, line, waits_for, self.whispers)
        most = self.hub.options.max_lag
        if self.whispers[member] > most:
            member.kick(f"more than {most} bytes behind")
        return True

    def settle(self) -> None:
        """Forget what has come back."""
        for link in list(self.unwritten):
            link.settle()
            if not link.outgoing.entries:
                del self.unwritten[link]
                self.tidy(link)
        self.size = sum(link.outgoing.size for link in self.unwritten)
        self.hold()
        self.progress.wake_all()

    def hold(self) -> None:
        """Stop reading from members, or go on, depending on how much has not come back."""
        self.hub.pace.full = self.size > self.bound
        self.hub.pace.hold()

    def name(self) -> str:
        """One that no epoch has yet."""
        self.names += 1
        return f"{self.node[:8]}.{self.names}"

    def say(self, what: str) -> None:
        self.hub.journal.say("cluster", what)

    def inform(self, line: str) -> None:
        """A line for all members of this node."""
        for link in self.all():  # which may send the last member of a room away
            link.inform(line)
