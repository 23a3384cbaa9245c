"""What must be true, whatever happened.

The stream of every client is a contiguous slice of one global order a room, cut only at message borders; a client that
moves hears a slice of each in turn, and what it was told stands in its place. A stream that could not be delivered to
its end does not end like one that was. What the server read from a client is published once, in order, with nothing
left out. Accepted and terminated agree with the sockets. What was taken is given back.

What a client should hear is known from the books (model.py). The journal is asked for what the server believes: it
hears of each connection and of each message in the order in which they went into the feeds.
"""

from __future__ import annotations

import gc
import inspect
import re
from collections import Counter
from errno import ECONNRESET, EHOSTUNREACH, ENOBUFS, ENOMEM, ENOSPC, EPIPE, ETIMEDOUT
from os import strerror
from typing import TYPE_CHECKING, Any, ClassVar

import chat.server.journal
import chat.server.outbox
from chat.escape import visible
from chat.framing import LIMIT
from chat.server.connection import FAREWELL, HANDSHAKE, LINGER
from chat.server.journal import Journal
from chat.server.member import APART, BEHIND, CLOSED, KICKED, LOST, NEW, OVER, TOGETHER
from chat.server.outbox import OVERHEAD
from chat.server.pace import GRACE
from chat.server.sending import LOOKS
from chat.server.web.wire import PAUSE, UNANSWERED
from loop import ReadWait, WriteWait

from .browsers import NOT_UNDERSTOOD
from .model import BROKEN, ENDING, LARGEST, Ear, Model
from .network import Socket, show
from .reference import frames, settled
from .world import Failure

if TYPE_CHECKING:
    from chat.server.flags import Options
    from chat.server.loading import Handler
    from chat.server.member import Member
    from chat.server.room import Room
    from chat.server.server import Server
    from chat.server.wire import Wire
    from loop.traps import Coroutine

    from .clients import SimulatedClient
    from .output import Output
    from .world import World

FAILED = {strerror(number).lower() for number in (ECONNRESET, EHOSTUNREACH, EPIPE, ETIMEDOUT, ENOMEM, ENOBUFS, ENOSPC)}
REFUSED = re.compile("the server is full|too many connections from ")
SENT_AWAY = re.compile(r"more than \d+ bytes behind|took nothing for |silent for |the world says so|go away")
LEFT_OUT = re.compile(rb"\((\d+) lines were left out here: [^)]*\)\Z")
ON_PURPOSE = "on purpose"
SLACK = 0.1  # seconds
STALLED = 1 + 1 / LOOKS  # times --stall-timeout: when it is found that a client takes nothing
# Within how many seconds after what a connection has ended.
BOUNDS = {
    "it was kicked": KICKED + FAREWELL + LINGER + SLACK,
    "it could not be sent to": LOST + LINGER + KICKED + LINGER + SLACK,
    "its handler ended": FAREWELL + LINGER + SLACK,
}


class Segment(chat.server.outbox.Segment):
    """A segment as it is, counted while it lives."""

    __slots__ = ("count",)
    # A list of its own for each run, because what a failed run leaves behind goes later.
    living: ClassVar[list[int]] = [0]

    def __init__(self, start: int) -> None:
        self.count = Segment.living
        self.count[0] += 1
        super().__init__(start)

    def __del__(self) -> None:
        self.count[0] -= 1


class Witness(Journal):
    """The journal as it is, which also keeps what it was told."""

    def __init__(self, model: Model, output: Output, most: int, quiet: bool) -> None:
        super().__init__(output, most, quiet)
        self.output: Output
        self.model = model
        self.lines: list[bytes] = []
        self.largest = 0  # bytes that came at once
        self.accepted: set[str] = set()
        self.terminated: dict[str, str] = {}
        self.said_by: dict[str, list[bytes]] = {}
        self.inside: list[tuple[str, int]] = []  # +1 for a member that came, -1 for one that went

    def say(self, who: str, what: str) -> None:
        self.lines.append(f"{who} {what}\n".encode())
        if what == "accepted connection":
            if who in self.accepted:
                raise Failure(f"{who} was accepted twice")
            self.accepted.add(who)
            if not self.model.ears[who].link.wired:
                self.inside.append((who, 1))
        elif what.startswith("connection terminated: "):
            if who not in self.accepted or who in self.terminated:
                raise Failure(f"{who} was terminated, but it was not there")
            self.terminated[who] = what[23:]
            if (who, 1) in self.inside:
                self.inside.append((who, -1))
            self.model.ears[who].close()
        super().say(who, what)

    def messages(self, who: str, messages: list[bytes]) -> None:
        assert self.model.speaking
        order, prefix = self.model.speaking
        self.largest = max(self.largest, sum(map(len, messages)) * 6 + len(messages) * (len(who) + 4))
        for message in messages:
            order.said.append((who, prefix, message))
            self.model.say(order, who, prefix + message + b"\n")
            if not self.quiet:
                self.lines.append(f"{who} > {visible(message)}\n".encode())
        self.said_by.setdefault(who, []).extend(messages)
        super().messages(who, messages)


class Oracle:
    """Asks all the questions about one run."""

    def __init__(
        self, world: World, model: Model, server: Server, witness: Witness, handler: str, options: Options
    ) -> None:
        self.world = world
        self.model = model
        self.server = server
        self.witness = witness
        self.handler = handler
        self.options = options
        self.clients: list[SimulatedClient] = []
        self.stopped_at: float | None = None
        self.spread_in = -1  # the turn in which spread() was at it last
        self.most_gathered = 0  # bytes, in one turn
        self.held_since: float | None = None  # nobody is read from
        self.catching_up = 0.0  # how long that may last: a member that reads more slowly is kicked
        self.empty_since: float | None = None  # told to stop, and without a connection
        self.held_at = 0.0  # when last nobody was read from
        self.pinged_until = 0.0  # browsers are asked for signs of life
        self.was_held = False  # somebody had to wait with what it says, so that others have woken it
        self.start_turn = server.hub.pace.start_turn
        server.hub.pace.start_turn = self.note_turn  # type: ignore[method-assign]

    def note_turn(self) -> None:
        self.spread_in = self.world.turns
        self.most_gathered = max(self.most_gathered, self.server.hub.pace.published)
        self.start_turn()

    def watch(self, handler: Handler) -> Handler:
        """The handler, with a look at how it begins."""

        def watched(member: Member, room: Room) -> Coroutine[None]:
            ear = self.model.ears[member.name]
            if room is not self.server.hub.first or member.room is not room or member not in room.members:
                raise Failure(f"{member.name} begins elsewhere")
            if ear.should or ear.link.out:
                raise Failure(f"{member.name} has heard {show(ear.should)} before its handler begins")
            ear.began = True
            if member.wire:
                self.witness.inside.append((member.name, 1))
            yield from handler(member, room)
            ear.returned = True
            ear.returned_at = self.world.now

        return watched

    @property
    def return_time(self) -> float:
        """How long, at the end, the server may wait for what comes back from a cluster."""
        return FAREWELL + LINGER if self.model.shared else 0.0

    @property
    def timely(self) -> bool:
        """Whether times can be asked for: false alarms begin a wait anew, and a clock that leaps leaves no time."""
        world = self.world
        return not (world.leaps or world.stops or world.spurious or world.balk or world.unarmed)

    # Between two turns.

    def turned(self) -> None:
        """Each member is in exactly one place, and is due what it should be."""
        turns, hub = self.world.turns, self.server.hub
        if hub.pace.held:
            self.held_at = self.world.now
        if not hub.pace.held:
            self.held_since = None
        elif self.held_since is None:
            self.held_since = self.world.now
            lag = max((reader.outbox.lag() for reader in hub.pace.behind), default=0)
            self.catching_up = 2 + lag / hub.pace.enough * GRACE  # seconds
        stalled = any(member.unread or member.failure or member.progress for member in self.server.connections)
        self.was_held |= hub.pace.held or stalled
        if turns > 300 and turns % 10:  # long runs are much of the same
            return
        alone = not (self.was_held or self.model.shared or self.server.wires)
        said = not all(room.quiet() for room in hub.changed)
        if self.spread_in == turns and said and self.handler == "chat" and alone:
            raise Failure("spread() has run before one that readiness had woken: half of its work is left")
        rooms = [hub.first, hub.nowhere, *(hub.rooms.values() if hub.rooms else ())]
        everybody = self.server.connections
        for room in rooms:
            for member in room.together:
                if member.sending != TOGETHER or member.room_or_nowhere is not room or member not in everybody:
                    raise Failure(f"{member.name} is {member.sending} and yet together with others in {room.name!r}")
            if room.told and not (room.quiet() and room.told.keys() <= room.together.keys()):
                raise Failure(f"in {room.name!r}, more is due to {list(room.told)} than a line for each alone")
            if room.present or room is hub.first:
                present = [member.name for member in room.members]
                if present != (right := [ear.name for ear in room.order.present]):
                    raise Failure(f"in {room.name!r} are {present} instead of {right}")
        books: Any = ((APART, hub.apart), (BEHIND, hub.pace.behind))
        for state, members in books:
            for member in members:
                if member.sending != state or member not in everybody:
                    raise Failure(f"{member.name} is {member.sending} and yet among those {state}")
        for member in everybody:
            state, writer, outbox = member.sending, member.writer, member.outbox
            hears = member.room_or_nowhere
            right_place = {
                NEW: writer is None and (member.wire is not None or member.task in self.world.kernel.ready),
                TOGETHER: member in hears.together and outbox is hears.outbox and writer is None,
                APART: member in hub.apart and outbox is not hears.outbox and writer is None,
                BEHIND: member in hub.pace.behind
                and outbox is not hears.outbox
                and writer is not None
                and writer in self.world.kernel.tasks,
                OVER: outbox is CLOSED and (writer is None or writer.error is not None),
            }
            if not right_place[state]:
                raise Failure(f"{member.name} is {state}, and not where it should be then")
            if state == OVER:
                continue
            ear = self.model.ears[member.name]
            if ear.open != (outbox.feed is not None):
                raise Failure(f"{member.name} {'is' if ear.open else 'is not'} to hear more; its outbox knows better")
            due = ear.due
            lag = member.lag()
            if due or lag:
                pieces = ear.should.count(b"\n", ear.link.out)
                if not due <= lag <= due + OVERHEAD * (pieces + 1):
                    raise Failure(
                        f"{due} bytes in {pieces} messages are due to {member.name}; its lag is said to be {lag}"
                    )

    # Whenever time passes.

    def idle(self) -> None:
        """The server has nothing to do. Is that so?"""
        world, server, hub = self.world, self.server, self.server.hub
        pausing = world.unarmed and (world.now <= world.refused_at + 0.11 or bool(world.leaps or world.stops))
        if self.stopped_at is None and not pausing:
            for listener in self.server.listeners:
                if listener.backlog and world.now > listener.tried_at + 0.11:  # type: ignore[attr-defined]
                    raise Failure("idle, though connections wait at the door")
        journal, output = self.witness, self.witness.output
        if journal.size and not (journal.closed or output.stalled or output.gone or pausing):
            raise Failure("idle, though the journal has lines and stdout takes them")
        if journal.size > chat.server.journal.WAITING + journal.largest + 200:
            raise Failure(f"{journal.size} bytes wait for stdout")
        talking = hub.pace.talking and not self.model.shared  # in a cluster, what they said is on its way
        if hub.pace.published or talking or hub.changed or hub.apart:
            raise Failure(
                f"idle, though {hub.pace.published} bytes are to be spread, or {list(hub.apart)} to be sent to"
            )
        for coroutine, task in hub.tasks.items():
            if task.outcome and inspect.getgeneratorstate(coroutine) != inspect.GEN_CREATED:
                raise Failure(f"idle, though the room's task {task.name} is listed, and has ended")
        asked = not hub.pace.full and self.stopped_at is None  # at the end nobody is read from anyway
        if self.held_since is not None and asked and self.timely and world.now > self.held_since + self.catching_up:
            raise Failure(f"nobody is read from since {self.held_since}")
        if server.connections or self.stopped_at is None:
            self.empty_since = None
        elif self.empty_since is None:
            self.empty_since = world.now
        elif world.now > self.empty_since + 2 * LINGER + self.return_time + SLACK and self.timely:
            raise Failure(f"all are gone since {self.empty_since}, and the server is still there")
        if self.stopped_at and self.timely and world.now > self.stopped_at + LINGER + self.return_time + SLACK:
            late = [member.name for member in self.server.connections if not member.reason]
            if late or not self.model.tasks_at_stop.isdisjoint(hub.tasks):
                raise Failure(f"the server was told to stop {world.now - self.stopped_at:g} s ago, but {late} were not")
        for member in self.server.connections:
            self.check_moments(member)
        here = {member.name: member for member in self.server.connections if not member.reason}
        for client in self.clients:
            name, link = name_of(client), client.link
            if client.closed or name not in here:
                continue
            member, ear = here[name], self.model.ears[name]
            held = not ear.receiving or member.overfed or hub.pace.held or self.options.max_rate
            if (link.incoming or member.unread) and not held:
                raise Failure(f"idle, though {client.name} has sent what was not read: {show(link.incoming)}")
            self.check_limits(client, link, member)
            if member.sending == NEW:
                continue
            end = client.end
            if member.wire and member.wire.pending and not held:
                raise Failure(f"idle, though the wire of {client.name} has something to be received")
            if client.attentive and ear.open and not held and (what := end.unanswered()):
                raise Failure(f"idle, though {client.name} waits for an answer to {what}")
            if client.attentive and ear.open and len(client.received) != len(end.text(bytes(ear.should))):
                missing = len(end.text(bytes(ear.should))) - len(client.received)
                raise Failure(f"idle, though {missing} bytes are due to {client.name}, which reads")

    def check_moments(self, member: Member) -> None:
        """What ends, ends in time."""
        ear, now = self.model.ears[member.name], self.world.now
        excused = self.world.stops or ear.was_held or self.options.max_rate  # what has come in time is waited for
        if ear.deadline is not None and now > ear.deadline + 0.001 and not excused:
            raise Failure(f"{member.name} was to receive until {ear.deadline}, and does it still")
        if member.sending == NEW and now > ear.link.accepted_at + HANDSHAKE + LINGER + SLACK and self.timely:
            raise Failure(f"{member.name} has been shaking hands since {ear.link.accepted_at}")
        held = member.receiving and self.server.hub.pace.held  # what it has said is read when that is over
        for what, true in (
            ("it was kicked", member.kicked),
            ("it could not be sent to", member.failure and not (self.options.max_rate or held)),
            ("its handler ended", member.handled),
        ):
            bound = BOUNDS[what] + (LINGER if ear.wire else 0.0)  # for the wire's own end
            if not true:
                ear.moments.pop(what, None)
            elif now > ear.moments.setdefault(what, now) + bound and self.timely:
                raise Failure(f"{member.name} is still there, {now - ear.moments[what]:g} s after {what}")
        outbox = member.outbox
        if member.handled and not ear.due and member.sending not in (NEW, OVER) and not unsent(member.wire):
            raise Failure(f"{member.name} has got all that is due to it, and is waited for")
        if ear.open and outbox.feed:
            pieces, place = len(outbox.own), outbox.place
            while place is not outbox.feed.last:
                pieces, place = pieces + 1, place.next
            if member.lag() < ear.due + pieces * OVERHEAD:
                raise Failure(
                    f"{ear.due} bytes in {pieces} pieces are due to {member.name}; its lag is only {member.lag()}"
                )

    def check_limits(self, client: SimulatedClient, link: Socket, member: Member) -> None:
        """Nobody stays that should have been kicked.

        --max-lag is looked at once in a while, when something is published: before that is sent.
        """
        options, now = self.options, self.world.now
        blocked = member.writer is not None and isinstance(member.writer.waits_for, WriteWait)
        most = options.max_lag * 17 // 16 + self.most_gathered + 4 * OVERHEAD
        most = max(most, LIMIT + 4 * OVERHEAD)  # a line that is all that is due to it is sent, and then looked at
        at_once = self.model.shared and options.max_lag < LARGEST  # an entry, and lines that waited for it
        if blocked and not (self.server.hub.pace.held or at_once) and member.outbox.lag() > most:
            raise Failure(f"{client.name} is {member.outbox.lag()} bytes behind, --max-lag is {options.max_lag}")
        asked = (client.attentive or client.steady) and member.sending != NEW and self.handler != "wanderer"
        silent = max(link.read_at, self.held_at) + (UNANSWERED + 1) * PAUSE + SLACK < now < self.pinged_until
        if client.end.mute and asked and silent and not (self.world.leaps or self.world.stops):
            raise Failure(f"{client.name} answers no pings, and is still there")
        if not self.timely:
            return
        taken = max(link.last_send, link.last_drain)
        if blocked and options.stall_timeout and now > taken + options.stall_timeout * STALLED + SLACK:
            raise Failure(f"{client.name} has taken nothing for {now - taken:g} s, and is still there")
        if (
            isinstance(member.task.waits_for, ReadWait)
            and member.sending != NEW
            and options.idle_timeout
            and not options.max_rate
            and now > max(link.last_recv, link.accepted_at) + options.idle_timeout + SLACK
        ):
            raise Failure(f"{client.name} has said nothing for {now - link.last_recv:g} s, and is still there")

    def ended(self, link: Socket) -> None:
        """The server ends a stream, not by a reset. Then it must be whole."""
        ear = self.model.ears[name_of(link.client)]
        whole = not ear.wire or (link.said_end and not guilty(link.client))
        if whole and (ear.due or unsent(ear.wire)) and not (link.reset or link.client.closed or link.client.meddled):
            raise Failure(f"{link.client.name}'s stream is ended as if it were whole, but {ear.due} bytes are missing")

    # Afterwards.

    def let_go(self) -> None:
        """Leave nothing that would hold what the server should have let go."""
        hub = self.server.hub
        hub.changed.clear()  # something may have been said after the last spreading
        hub.pace.start_turn()
        hub.first.outbox.skip()

    def check(self) -> None:
        self.check_ends()
        self.check_journal()
        for order in self.model.orders if not self.model.shared else ():
            self.check_order(order.name, bytes(order.text), order.said)
        for client in self.clients:
            try:
                self.check_client(client)
            except Failure as failure:
                raise Failure(f"{client.name} ({name_of(client)}): {failure}") from None

    def check_ends(self) -> None:
        """Everything is given back."""
        server = self.server
        hub, room = server.hub, server.hub.first
        members, shaking = server.admission.members, server.admission.shaking
        left = server.connections, members.all, members.of, shaking.of, server.change.tasks, room.present, room.together
        if any(
            (*left, hub.nowhere.together, hub.apart, hub.pace.behind, hub.tasks, hub.news.tasks, server.overdue.ends)
        ):
            raise Failure("somebody is left in the room")
        accepted = sum(listener.accepted for listener in server.listeners)  # type: ignore[attr-defined]
        if not accepted == len(self.witness.accepted) == len(self.witness.terminated):
            raise Failure(
                f"{accepted} connections accepted, the journal says {len(self.witness.accepted)}, and"
                f" {len(self.witness.terminated)} terminated"
            )
        if hub.rooms and not server.unsettled:
            raise Failure(f"rooms are left: {list(hub.rooms)}")
        self.check_complaints()
        inside: Counter[str] = Counter()
        for who, change in self.witness.inside:
            if not REFUSED.match(self.witness.terminated[who]):
                inside["all"] += change
                inside[who.rpartition(":")[0]] += change
                if self.options.max_clients and inside["all"] > self.options.max_clients:
                    raise Failure(f"{inside['all']} clients are in, --max-clients is {self.options.max_clients}")
                if (
                    self.options.max_per_ip
                    and max(inside[host] for host in inside if host != "all") > self.options.max_per_ip
                ):
                    raise Failure(f"too many clients from one address are in: {inside}")

    def check_complaints(self) -> None:
        """Only those handlers are complained about that gave a reason."""
        lines = self.world.stderr.text.decode().splitlines()
        for number, line in enumerate(lines):
            if line.startswith("Traceback"):
                end = next(at for at in range(number + 1, len(lines)) if not lines[at].startswith(" "))
                went_on = lines[end + 1 : end + 3][1:] == [
                    "During handling of the above exception, another exception occurred:"
                ]
                if ON_PURPOSE not in lines[end] and not went_on:
                    raise Failure("a task failed: " + "\n".join(lines))
            if found := re.match(r"chatsrv: the handler of (\S+) does not end", line):
                if not self.model.ears[found[1]].stubborn:
                    raise Failure(line)
                self.world.count("a handler was dropped")
            if line.startswith("chatsrv: the task ") and not line.startswith("chatsrv: the task stubborn of "):
                raise Failure(line)
            if found := re.match(r"the handler of (\S+) failed", line):
                if not self.model.ears[found[1]].failed:
                    raise Failure(line)
                self.world.count("a handler failed")

    def check_journal(self) -> None:
        """Each line once, in order, unless it says that some were left out."""
        output, lines = self.witness.output, self.witness.lines
        if self.witness.closed and not output.ever["gone"]:
            raise Failure("the journal is closed, and stdout is not")
        text = bytes(output.text)
        if text == b"".join(lines):
            return
        full = output.ever["full"]  # what a full disk takes may end anywhere
        cut = full or output.stalled or output.gone or self.world.leaps or self.world.stops
        *written, rest = text.split(b"\n")
        if rest and not cut:
            raise Failure(f"the journal ends inside a line: {rest!r}")
        place = 0
        for line in written:
            told = LEFT_OUT.search(line)
            if told and (full or not told.start()):
                place += 0 if full else int(told[1])
            elif full:
                place = next((at + 1 for at in range(place, len(lines)) if lines[at] == line + b"\n"), place)
            elif lines[place : place + 1] == [line + b"\n"]:
                place += 1
            else:
                raise Failure(f"the journal has {line!r} where {lines[place : place + 1]} was said")
        if len(lines) - place != self.witness.left_out and not cut:
            raise Failure(f"of the journal's last {len(lines) - place} lines, {self.witness.left_out} were left out")

    def check_order(self, name: str, order: bytes, said: list[tuple[str, bytes, bytes]]) -> None:
        """What a room's feed has held is what the journal was told, each with its prefix, whole."""
        place = 0
        for who, prefix, message in said:
            if self.handler != "nick" and who != "room":
                host = who.rpartition(":")[0].strip("[]")
                prefix = f"{host}: ".encode() if self.options.prefix else b""
            end = order.find(b"\n", place)
            line = order[place:end]
            if end < 0 or line != prefix + message:
                raise Failure(f"the feed of {name!r} has {show(line)} where {who} said {show(message)}")
            place = end + 1
        if place != len(order):
            raise Failure(f"nobody said {order[place:]!r}")

    def check_client(self, client: SimulatedClient) -> None:
        name = name_of(client)
        if name not in self.witness.accepted:
            if client.received:
                raise Failure(f"never accepted, but it received {show(client.received)}")
            return
        ear, reason = self.model.ears[name], self.witness.terminated[name]
        self.check_reason(client, ear, reason)
        self.check_heard(client, ear, reason)
        self.check_said(client, ear, reason)

    def check_reason(self, client: SimulatedClient, ear: Ear, reason: str) -> None:
        known: Any = reason in FAILED or reason in ("end of stream", "left", ENDING) or SENT_AWAY.match(reason)
        known = known or REFUSED.match(reason) or client.meddled or client.end.explains(reason)
        known = known or (reason == f"no handshake within {HANDSHAKE:g} s" and not ear.began)
        if not (known or (reason in (BROKEN, ON_PURPOSE) and ear.failed)):
            raise Failure(f"terminated, with no good reason: {reason!r}")
        if reason == "left" and not (ear.returned or client.meddled):
            raise Failure("it did not leave by itself, but the journal says so")
        if ear.kicked and reason != ear.kicked:
            raise Failure(f"it was kicked ({ear.kicked}), but the journal says: {reason}")
        if client.attentive and client.broken and not self.excused(client, ear, reason):
            raise Failure(f"it was reset, though it read all the time and went when the server did ({reason})")

    def excused(self, client: SimulatedClient, ear: Ear, reason: str) -> bool:
        """Whether something excuses a loss."""
        world = self.world
        by_wire = ear.wire and client.end.excused(reason)
        return bool(
            client.meddled or ear.lost or ear.stubborn or world.leaps or world.stops or world.unarmed or by_wire
        )

    def check_heard(self, client: SimulatedClient, ear: Ear, reason: str) -> None:
        """What it has heard is what the books say; all of it, if it has read to the end."""
        received, should = bytes(client.received), client.end.text(bytes(ear.should))
        if not should.startswith(received):
            same = next((at for at, (a, b) in enumerate(zip(received, should)) if a != b), len(should))
            begin = received.rfind(b"\n", 0, same) + 1
            raise Failure(
                f"after {begin} bytes it heard {show(received[begin:])} instead of {show(should[begin : begin + 60])}"
            )
        if ear.began and not should.startswith((b"Welcome", b"* You are disconnected: ")):
            raise Failure(f"the greeting is missing: {show(should)}")
        if client.eof and not (client.broken or client.meddled) and (ear.began or client.end.kind == "stranger"):
            client.end.check(ear, reason)
        if client.eof and not client.broken and not client.meddled and len(received) < len(should):
            raise Failure(
                f"{len(should) - len(received)} bytes were due to it, when it ended ({reason}), and never came"
            )

    def check_said(self, client: SimulatedClient, ear: Ear, reason: str) -> None:
        """What it said is published once, in order: all of it, or what came before somebody ended it."""
        link = client.link
        sent, taken = bytes(client.sent), bytes(link.taken)
        assert sent.startswith(taken), "the world is broken"
        failed = (reason in FAILED or reason.startswith(NOT_UNDERSTOOD)) and not client.meddled and not ear.kicked
        natural = ear.ends_told == 1 or failed
        if (reason == "end of stream" and not (link.fin_seen or client.end.ended or client.end.fault)) or (
            reason in FAILED and failed and not (client.reset or client.closed or link.refused or self.world.unarmed)
        ):
            raise Failure(f"terminated: {reason}; but that is not what happened")
        later = "readiness told later" in self.world.hits  # and so nothing more seemed to be there
        part_read = ear.wire and (later or reason.startswith(NOT_UNDERSTOOD))
        if (
            natural
            and ear.began
            and taken != sent
            and not (part_read or client.lossy or link.refused or self.world.unarmed)
        ):
            raise Failure(f"{len(sent) - len(taken)} bytes it had sent were never read")
        rate = self.options.max_rate
        if (
            rate and link.in_rate - link.largest > rate * (link.last_read - link.first_read + 2) + 1
        ):  # the first second is free
            raise Failure(
                f"{link.in_rate} bytes were read in {link.last_read - link.first_read:g} s, --max-rate is {rate}"
            )
        torn = client.end.cut or guilty(client) or (reason in FAILED and (ear.wire or not link.fin_seen))
        said = settled(taken) if torn else frames(sent)
        compare("its handler was given", ear.got, said if natural else said[: len(ear.got)])
        published = self.witness.said_by.get(ear.name, [])
        compare("were published", published, ear.said)
        if self.handler == "chat" and not ear.interrupted:
            compare("were published", published, ear.got)


def name_of(client: SimulatedClient) -> str:
    """As the journal calls it."""
    host = client.address[0].replace("::ffff:", "")
    return f"[{host}]:{client.address[1]}" if ":" in host else f"{host}:{client.address[1]}"


def check_world(world: World, oracles: list[Oracle]) -> None:
    """What servers take of the world is given back."""
    kernel = world.kernel
    if kernel.tasks or kernel.ready or kernel.readers or kernel.writers:
        raise Failure(f"tasks are left: {list(kernel.tasks)} {kernel.ready} {kernel.readers} {kernel.writers}")
    ours = [world.bell, *(oracle.witness.output for oracle in oracles)]
    open_files = [fd for fd, file in world.files.items() if file not in ours]
    if open_files:
        raise Failure(f"descriptors are left open: {open_files}")
    armed = getattr(world.system, "armed", {}) or getattr(world.poller, "armed", {})
    if any(armed.values()) and not world.unarmed:
        raise Failure(f"descriptors are left armed: {armed}")
    for oracle in oracles:
        oracle.let_go()
    segments = 2 * len(oracles)  # of the first room, and of none
    if Segment.living[0] != segments or any(oracle.server.hub.rooms for oracle in oracles):
        gc.collect()
    if Segment.living[0] != segments and not any(oracle.server.unsettled for oracle in oracles):
        raise Failure(f"{Segment.living[0] - segments} segments of the feeds are left")


def guilty(client: SimulatedClient) -> bool:
    """Whether it has done what is not allowed, or perhaps not, so that its stream may end anywhere."""
    return bool(client.end.fault or client.end.suspect)


def unsent(wire: Wire | None) -> bool:
    """Whether there is something in a wire that the system has not taken."""
    return bool(wire and wire.unsent)


def compare(what: str, these: list[bytes], right: list[bytes]) -> None:
    if these != right:
        least = min(len(these), len(right))
        wrong = next((i for i, (a, b) in enumerate(zip(these, right)) if a != b), least)
        raise Failure(
            f"{len(these)} of its messages {what} instead of {len(right)}; number {wrong} is"
            f" {show(b''.join(these[wrong : wrong + 1]))} instead of {show(b''.join(right[wrong : wrong + 1]))}"
        )
