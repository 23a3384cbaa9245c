"""What should come of it: one order a room, and for each member all that it is to hear, in a row.

Room and Member are the production classes. Here they also keep book: what is appended to a room's feed is added to what
each member that hears the room should hear, and so is what it is told, in the order in which all that happens. So what
a client receives can be compared with one string. The books know nothing of segments, places, outboxes and states.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import chat.server.member
import chat.server.outbox
import chat.server.pace
import chat.server.receiving
import chat.server.room
from chat.framing import Messages
from chat.server.connection import FAREWELL, LINGER
from chat.server.web.wire import PAUSE, UNANSWERED
from loop import TimedOut

from .reference import parts
from .world import Failure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from chat.server.room import Hub, Text
    from chat.server.wire import Wire
    from loop.traps import Coroutine

    from .network import Socket
    from .world import World

ENDING = "the server is ending"
LARGEST = 64 << 10  # bytes of an entry in a cluster
BROKEN = "its handler failed"


class Away(NamedTuple):
    """A message that has not come back from the cluster."""

    number: int  # of all that were said
    who: str
    line: bytes
    but: frozenset[str]  # who is not to hear it


class Told(NamedTuple):
    """A line for one member alone, and how much had been said before it."""

    line: bytes
    number: int
    order: Order | None  # what the member heard then
    entered: int


class Order:
    """What was ever appended to one room's feed, and which members hear it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.away: deque[Away] = deque()  # in a cluster: what was said here and has not come back
        self.text = bytearray()
        self.said: list[tuple[str, bytes, bytes]] = []  # as the journal was told: by whom, with which prefix, what
        self.hearers: dict[Ear, None] = {}
        self.present: dict[Ear, None] = {}


class Ear:
    """One member's book."""

    def __init__(self, link: Socket, name: str, wire: Wire | None) -> None:
        self.link = link
        self.wire = wire
        self.name = name
        self.should = bytearray()  # all that it is to hear
        self.open = True  # something may be added to that
        self.lost = False  # nothing more can be sent to it
        self.order: Order | None = None  # what it hears
        self.got: list[bytes] = []  # the messages that its handler was given
        self.said: list[bytes] = []  # those that were published for it
        self.deadline: float | None = None  # of the receive() in which its handler is
        self.ends_told = 0
        self.began = self.returned = False
        self.returned_at: float | None = None
        self.receiving = False  # its handler is in receive()
        self.was_held = False  # there, it has waited until it could be read from
        self.failed = False  # its handler has raised something of its own
        self.stubborn = False  # its handler does not let itself be ended
        self.deaf = False  # its handler does not receive any more
        self.kicked = ""
        self.being_told = False
        self.told: deque[Told] = deque()  # lines for it alone that are not due yet
        self.entered = 0  # how much had been said when it came into its room
        self.answered = 0  # how long `should` was when its handler last received something
        self.interrupted = False  # the world has meddled with it between two system calls, perhaps its own
        # Since when it should be about to end.
        self.moments: dict[str, float] = {}

    def close(self) -> None:
        self.open = False
        self.depart()
        if self.order:
            self.order.hearers.pop(self, None)

    def depart(self) -> None:
        if self.order:
            self.order.present.pop(self, None)

    def enter(self, order: Order | None) -> None:
        if self.order:
            self.order.present.pop(self, None)
            self.order.hearers.pop(self, None)
        self.order = order
        if order:
            order.present[self] = order.hearers[self] = None

    @property
    def due(self) -> int:
        """How many bytes of it the system has not taken."""
        return len(self.should) - self.link.out


class Model:
    """All the books of one server. `ears` are those of all servers in the world, by the member's name."""

    def __init__(self, world: World, ears: dict[str, Ear]) -> None:
        self.world = world
        self.orders: list[Order] = []
        self.ears = ears
        self.said = 0  # how many messages
        self.but: frozenset[str] = frozenset()  # whom those spare that are said just now
        self.stopped_at = 0.0  # when the server was told to stop
        self.tasks_at_stop: set[Any] = set()  # those of rooms, then
        self.shared: Any = None  # in a cluster: what it shares with others
        self.returning = False  # what is appended now was said here
        self.speaking: tuple[Order, bytes] | None = None  # the room of which the journal hears just now, and the prefix

    def room(self, hub: Hub, name: str) -> Room:
        if any(order.name == name and order.present for order in self.orders):
            raise Failure(f"there is already a room {name!r}, and somebody in it")
        return Room(self, hub, name)

    def member(self, sock: Any, host: str, port: int, hub: Hub, wire: Wire | None) -> Member:
        return Member(self, sock, host, port, hub, wire)

    # In a cluster.

    def say(self, order: Order, who: str, line: bytes) -> None:
        """Somebody has said this, and it will come back."""
        self.said += 1
        if self.shared:
            order.away.append(Away(self.said, who, line, self.but))

    def come_back(self, order: Order, text: bytes, but: frozenset[str] | None = None) -> None:
        """Messages come back as they were said, each once and in their order. `but` is None for those that are lost."""
        for line in lines_of(text):
            if not order.away or order.away[0].line != line:
                raise Failure(f"{line!r} comes back to {order.name!r} out of order")
            number, who, _, spared = order.away.popleft()
            if but is None:
                continue  # nobody hears them, so they are ahead of nothing
            if but != spared:
                raise Failure(f"{line!r} comes back for all but {set(but)} instead of {set(spared)}")
            ear = self.ears.get(who)
            if ear and ear.open and ear.told and ear.told[0].number < number:
                elsewhere = any(self.holds_back(ear, ear.told[0], other) for other in self.orders if other is not order)
                if not elsewhere:
                    raise Failure(f"{line!r} comes back ahead of {ear.told[0].line!r}, which {who} was told before")

    def check_told(self, ear: Ear, told: Told) -> None:
        """What this member has said before it was told this is not on its way any more."""
        for order in self.orders:
            if line := self.holds_back(ear, told, order):
                raise Failure(f"{ear.name} is told {told.line!r} ahead of {line!r}, which was said before")

    def holds_back(self, ear: Ear, told: Told, order: Order) -> bytes:
        """The message in this room for which that line has to wait, if there is one."""
        for number, who, line, _ in order.away:
            if number > told.number:
                break
            if who == ear.name or (who == "room" and order is told.order and number > told.entered):
                return line
        return b""


def lines_of(text: bytes) -> list[bytes]:
    return [line + b"\n" for line in text.split(b"\n")[:-1]]


class Room(chat.server.room.Room):
    """A room as it is, with a book."""

    def __init__(self, model: Model, hub: Hub, name: str) -> None:
        super().__init__(hub, name)
        self.model = model
        self.order = Order(name)
        model.orders.append(self.order)

    def publish(self, member: Any, messages: Text | Iterable[Text], but: Collection[Any] = ()) -> None:
        said = [messages] if isinstance(messages, (bytes, str)) else list(messages)
        kicked = member.kicked
        self.model.but = frozenset(one.name for one in but)
        super().publish(member, messages, but)
        self.model.but = frozenset()
        if not kicked:
            for one in said:
                member.ear.said += parts(one.encode() if isinstance(one, str) else one)

    def submit(self, member: Any, who: str, prefix: Text, *rest: Any) -> None:
        self.model.speaking = self.order, prefix.encode() if isinstance(prefix, str) else prefix
        super().submit(member, who, prefix, *rest)
        self.model.speaking = None

    def append(self, text: bytes, but: Collection[Any] = ()) -> None:
        if self.model.returning:
            self.model.come_back(self.order, text, frozenset(member.name for member in but))
        spared = {member.ear for member in but}
        self.order.text += text
        for ear in self.order.hearers:
            if ear not in spared:
                ear.should += text
        super().append(text, but)


class Member(chat.server.member.Member):
    """A member as it is, with a book."""

    def __init__(self, model: Model, sock: Any, host: str, port: int, hub: Hub, wire: Wire | None) -> None:
        self.model = model
        super().__init__(sock, host, port, hub, wire)
        self.ear = model.ears[self.name] = Ear(sock, self.name, wire)

    # What it hears.

    def tell(self, line: Text) -> None:
        model, ear = self.model, self.ear
        if ear.open:
            text = (line.encode() if isinstance(line, str) else line) + b"\n"
            ear.told.append(Told(text, model.said, ear.order, ear.entered))
        super().tell(line)
        if ear.told and ear.open and not model.shared:
            raise Failure(f"{self.name} was told {ear.told}, which is not due to it")

    def queue(self, line: bytes) -> None:
        ear = self.ear
        if ear.open:
            if not ear.told or ear.told[0].line != line:
                raise Failure(f"{line!r} is due to {self.name}, which was told {list(ear.told)[:3]}")
            self.model.check_told(ear, ear.told.popleft())
            ear.should += line
        ear.being_told = True
        super().queue(line)
        ear.being_told = False
        most = self.hub.options.max_lag * (2 if self.sending == chat.server.member.BEHIND else 1)
        if self.outbox.lag() > most and not self.reason:
            raise Failure(f"{self.name} is told something, and is {self.outbox.lag()} bytes behind by it")

    def enter(self, room: Any) -> None:
        world, ear = self.model.world, self.ear
        if not (self.reason or self.handled):  # also if nothing can be sent to it
            ear.enter(room.order if room else None)
            ear.entered = self.model.said
            world.count("went to a room" if room else "went nowhere")
            if self.sending == chat.server.member.BEHIND:
                world.count("moved while it was behind")
        super().enter(room)

    def dismiss(self, reason: str, keep: bool = False) -> None:
        self.note_last(reason)
        super().dismiss(reason, keep)

    def note_last(self, reason: str) -> None:
        """The reason comes instead of all that is due, but for a message begun; or after it, if it is no fault."""
        ear, sent = self.ear, self.ear.link.out
        if ear.open:
            if reason not in (ENDING, BROKEN):
                begun = sent and ear.should[sent - 1] != 10
                del ear.should[ear.should.index(b"\n", sent) + 1 if begun else sent :]
                if begun:
                    self.model.world.count("kicked within a message")
            ear.should += f"* You are disconnected: {reason}.\n".encode()
        ear.close()

    def kick(self, reason: Any, keep: bool = False) -> None:
        if not self.reason:
            self.ear.kicked = reason
            self.check_kick(reason)
            self.note_last(reason)
        super().kick(reason, keep)

    def leave(self) -> None:
        self.check_echo()
        self.ear.close()
        super().leave()

    def lose(self, error: OSError) -> None:
        self.ear.open = False  # but it is in its room as long as its handler runs
        if self.ear.order:
            self.ear.order.hearers.pop(self.ear, None)
        self.ear.lost = True
        super().lose(error)

    def check_echo(self) -> None:
        """A member that goes by itself hears what it has said, if that comes back in time."""
        ear, model = self.ear, self.model
        waited = ear.returned_at is None or self.model.world.now >= ear.returned_at + FAREWELL
        if waited or self.kicked or model.stopped_at or not ear.open or ear.link.client.meddled:
            return
        for order in model.orders:
            for _, who, line, _ in order.away:
                if who == self.name:
                    raise Failure(f"{self.name} leaves, and {line!r}, which it has said, has not come back")

    # What it says.

    def receive(self, timeout: float | None = None) -> Coroutine[list[bytes]]:
        """COROUTINE. Receive, and see that it is done as it should be."""
        ear, world = self.ear, self.model.world
        began = world.now
        ear.deadline = None if timeout is None else began + timeout
        ear.receiving, ear.was_held = True, False
        try:
            messages = yield from super().receive(timeout)
        except TimedOut:
            punctual = not (ear.was_held or self.hub.options.max_rate or world.leaps or world.stops)
            late = timeout is not None and world.now > began + timeout + 0.1 and punctual
            if timeout is None or world.now < began + timeout or late:
                raise Failure(
                    f"{self.name} was to wait {timeout} s for a message, and waited {world.now - began:g} s"
                ) from None
            if self.unread:
                raise Failure(f"{self.name} was to wait for a message, though it has {self.unread}") from None
            unread = ear.link.client.sent[len(ear.link.taken) :] if self.wire else ear.link.incoming
            if b"\n" in unread or ear.link.fin:
                self.check_overlooked(ear.link.arrived, "a message had come in time")
            world.count("received nothing in time")
            raise
        finally:
            ear.deadline = None
            ear.receiving = False
        if self.kicked and not ear.interrupted:
            raise Failure(f"{self.name} was kicked, and yet its handler receives {messages}")
        # The handler gets those that nobody has looked into.
        seen = Messages(messages.text) if isinstance(messages, Messages) and messages.text else messages
        much = self.hub.options.max_lag // 4
        if messages and not self.peer_ended and self.sending == chat.server.member.BEHIND and ear.due > much:
            raise Failure(f"{self.name} is read from, though {ear.due} bytes are due to it")
        ear.answered = len(ear.should) if self.sending == chat.server.member.BEHIND else ear.link.out
        ear.got += seen
        world.work += 1
        ear.ends_told += not messages
        if ear.ends_told > 1:
            raise Failure(f"{self.name}'s handler is told of the end of the stream again and again")
        prefixes = len(seen) * len(self.prefix)
        if len(seen) > chat.server.receiving.MOST or prefixes > chat.server.receiving.MUCH + len(self.prefix):
            raise Failure(f"{self.name}'s handler is given {len(seen)} messages at once, {prefixes} bytes of prefixes")
        return messages

    # Whether it is rightly kicked.

    def check_kick(self, reason: str) -> None:
        world, link, options = self.model.world, self.ear.link, self.hub.options
        if reason == ENDING:
            if not self.model.tasks_at_stop.isdisjoint(self.hub.tasks):
                raise Failure("the goodbyes are said, though rooms' tasks go on")
            took = world.now - self.model.stopped_at
            if took > LINGER + (FAREWELL if self.model.shared else 0) + 0.1 and not (world.leaps or world.stops):
                raise Failure(f"the goodbyes are said {took:g} s after the server was told to stop")
        if reason == self.failure.lower() and self.receiving and (link.incoming or link.fin):
            raise Failure(f"{self.name} is kicked, though what it has said is still read")
        if reason.startswith("silent for "):
            if options.idle_timeout is None or world.now < max(link.last_recv, link.accepted_at) + options.idle_timeout:
                raise Failure(f"{self.name} is kicked, but it was silent only since {link.last_recv}")
            if (link.incoming and not self.wire) or link.fin:
                self.check_overlooked(link.arrived, "it had spoken")
        elif reason.startswith("no answer to a ping"):
            in_parts = getattr(self.wire, "tls", None)  # a part of a record is no sign of life
            if world.now < link.read_at + UNANSWERED * PAUSE and not in_parts:
                raise Failure(f"{self.name} is kicked, but it was silent only since {link.read_at}")
            if link.incoming or link.fin:
                self.check_overlooked(link.arrived, "it had answered")
        elif reason.startswith("took nothing for "):
            if options.stall_timeout is None or world.now < link.last_drain + options.stall_timeout:
                raise Failure(f"{self.name} is kicked, but it took something at {link.last_drain}")
            if len(link.outgoing) * 3 <= link.room * 2 and not link.reset:
                self.check_overlooked(link.roomy, "there was room to send")
        elif reason.startswith("more than "):
            messages = self.ear.should.count(b"\n", self.ear.link.out)
            cluster: Any = self.hub.cluster
            most = (
                (cluster.links.whispers.get(self, 0) if cluster else 0)
                + self.ear.due
                + (messages + 3) * chat.server.outbox.OVERHEAD
            )
            if most <= options.max_lag:
                raise Failure(f"{self.name} is kicked, but only {self.ear.due} bytes are due to it")
            told = self.ear.being_told
            reads = link.client.attentive or (link.client.steady and not told)
            too_much = told and self.grown > options.max_lag * 3 // 4  # at once
            at_once = self.model.shared and options.max_lag < LARGEST  # an entry of the stream
            if reads and not (too_much or at_once or world.leaps or world.stops or world.race):
                raise Failure(f"{self.name} is kicked ({reason}), though it reads")

    @property
    def grown(self) -> int:
        """By how much, at most, its lag has grown since it has received something: that is not held back."""
        ear = self.ear
        pieces = ear.should.count(b"\n", ear.answered) + 3
        return len(ear.should) - ear.answered + pieces * chat.server.outbox.OVERHEAD

    def be_held(self) -> Coroutine[None]:
        self.ear.was_held = self.ear.was_held or self.hub.pace.held or self.overfed
        return super().be_held()

    def wait_for_progress(self, timeout: float | None) -> Coroutine[None]:
        if self.overfed:
            self.model.world.count("not read from while much is due to it")
        return super().wait_for_progress(timeout)

    def check_overlooked(self, since: int, what: str) -> None:
        """Something was there before the time for it ran out, and the system would have said so."""
        world = self.model.world
        seen = since < world.looks == world.looked.get(self.ear.link.fd)
        if (seen or world.blind) and not (self.hub.options.max_rate or self.hub.pace.held or self.overfed):
            raise Failure(f"{self.name}: the time ran out, though {what}")
