"""The links of a node: one for each room that has members here, or has something that has not come back."""

from __future__ import annotations

from loop import WaitQueue

from ...escape import harmless
from .link import Link, Whisper, stream_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from ..room import Hub, Room

UNSETTLED = 1 << 20  # bytes that have not come back: while there are more, no member is read from


class Links:
    """Accepts what members say. A Session writes it to Redis, and calls settle() when something may have come back."""

    def __init__(self, hub: Hub, stream: str, node: str) -> None:
        self.hub = hub
        self.stream = stream
        self.node = node
        self.first = Link(hub.first, stream, node)
        self.links = {hub.first.name: self.first}  # by the names of their rooms
        self.unsettled: dict[Link, None] = {}  # the links with something that has not come back
        self.new = {self.first: None}  # the links for which look() was not called yet
        self.size = 0  # bytes that have not come back
        self.bound = UNSETTLED  # while `size` is above it, no member is read from
        self.number = 0  # the highest number of an entry, in all streams
        self.epoch_names = 0  # how many names new_epoch_name() has given
        self.whispers: dict[Any, int] = {}  # for each member, the bytes of its lines that wait
        self.news = WaitQueue()  # there is something to be written or looked at
        self.progress = WaitQueue()  # something was settled

    def all(self) -> list[Link]:
        return list(self.links.values())

    def looked(self) -> list[Link]:
        """The links whose streams can be read."""
        return [link for link in self.links.values() if link.looked]

    def link(self, room: Room) -> Link:
        """The link of a room; a new one if there is none."""
        link = self.links.get(room.name)
        if link is None:
            link = Link(room, stream_name(self.stream, room), self.node, self.number)
            self.links[room.name] = link
            self.new[link] = None
            self.news.wake_all()
        return link

    def follows(self, link: Link) -> bool:
        """Whether the stream is still read for this link. After tidy() it is not, even if the room gets a new link."""
        return self.links.get(link.room.name) is link

    def tidy(self, link: Link) -> None:
        """Stop reading the stream if its room has no member here and everything has come back."""
        if link is not self.first and not link.room.present and not link.outgoing.entries:
            if self.follows(link):
                del self.links[link.room.name]
            self.new.pop(link, None)

    def enter(self, room: Room, member: Any) -> None:
        self.link(room).enter(member)

    def leave(self, room: Room, member: Any) -> None:
        link = self.links[room.name]
        link.entered_at.pop(member, None)
        self.tidy(link)

    def publish(self, room: Room, text: bytes, member: Any, but: Collection[Any]) -> None:
        link = self.link(room)
        link.outgoing.publish(text, member, tuple(but))
        self.number = max(self.number, link.outgoing.number)
        self.unsettled[link] = None
        self.size += len(text)
        self.hold()
        self.news.wake_all()

    def tell(self, member: Any, line: bytes) -> bool:
        waits_for = [(link, *place) for link in self.unsettled if (place := link.waits_for(member))]
        if not waits_for:
            return False
        Whisper(member, line, waits_for, self.whispers)
        most = self.hub.options.max_lag
        if self.whispers[member] > most:
            member.kick(f"more than {most} bytes behind")
        return True

    def settle(self) -> None:
        """Forget what has come back."""
        for link in list(self.unsettled):
            link.settle()
            if not link.outgoing.entries:
                del self.unsettled[link]
                self.tidy(link)
        self.size = sum(link.outgoing.size for link in self.unsettled)
        self.hold()
        self.progress.wake_all()

    def hold(self) -> None:
        """Stop reading from members, or go on, depending on how much has not come back."""
        self.hub.pace.full = self.size > self.bound
        self.hub.pace.set_held()

    def new_epoch_name(self) -> str:
        """A name that no epoch has yet, in case Redis has to begin an epoch."""
        self.epoch_names += 1
        return f"{self.node[:8]}.{self.epoch_names}"

    def say(self, what: str) -> None:
        self.hub.journal.say("cluster", harmless(what))

    def inform(self, line: str) -> None:
        """Show a line to all members of this node."""
        for link in self.all():  # a copy: a member for whom the line is too much is kicked, which can remove a link
            link.inform(line)
