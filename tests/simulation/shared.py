"""What the nodes of a cluster share: a simulated Redis, the lines to it, and books of what each node reads there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.oracle import Hearing, Message, check_together, check_whole

import chat.server.cluster.follow
import chat.server.cluster.link
import chat.server.cluster.links
import chat.server.cluster.node
import chat.server.cluster.outgoing
import chat.server.cluster.wire
from chat.server.cluster.address import Address
from chat.server.cluster.follow import SILENCE
from chat.server.cluster.incoming import Loss, Words
from chat.server.cluster.join import join
from chat.server.cluster.node import PAUSES, Cluster

from .lines import Lines, later
from .redis import FakeRedis
from .world import Failure, World

if TYPE_CHECKING:
    from .node import Node

YEAR_2025 = 1735689600.0  # Redis's ids have the time in them
SETTLED = 2 * SILENCE + PAUSES[1] + 3  # seconds after which everybody knows everything


class Track(Hearing):
    """What one node has read of one stream, from when it began to follow it to when it left it alone."""

    def __init__(self, shared: Shared, node: str, stream: str) -> None:
        super().__init__(b"")
        self.node = node
        self.stream = stream
        self.there = not shared.reset  # it may have been there before Redis lost anything
        self.early = not shared.forgotten

    def hear(self, message: Message) -> None:
        self.slices[-1].append(message)

    def lose(self, missing: int | None) -> None:
        self.lost.append(missing)
        self.slices.append([])


class Link(chat.server.cluster.link.Link):
    """A room and its stream as they are, with a book."""

    def __init__(self, room: Any, stream: str, node: str, number: int = 0) -> None:
        super().__init__(room, stream, node, number)
        self.book = room.model
        self.order = room.order
        self.shared: Shared = room.model.shared
        self.track = Track(self.shared, node, stream)
        self.shared.tracks.append(self.track)

    def append(self, found: list[Any]) -> None:
        """Whatever is found goes into the feed, at once and in its order; losses are told."""
        before, text = len(self.order.text), b""
        for what in found:
            if isinstance(what, Loss):
                self.shared.world.count("a loss was told")
                self.track.lose(what.missing)
                missing = what.missing
                line = f"* {missing} messages were lost here." if missing else "* Messages may have been lost here."
                text += line.encode() + b"\n"
            elif isinstance(what, Words):
                for place in range(what.text.count(b"\n")):
                    self.track.hear(self.shared.redis.name_of(self.stream, what.node, what.number, place))
                text += what.text
        super().append(found)
        if self.order.text[before:] != text:
            raise Failure(f"of {text!r} the feed of {self.room.name!r} has {bytes(self.order.text[before:])!r}")

    def append_own(self, entry: Any, text: bytes) -> None:
        self.book.returning = True
        super().append_own(entry, text)
        self.book.returning = False

    def forget(self, lost: list[Any]) -> None:
        for entry in lost:
            if not self.track.lost:
                raise Failure(f"{bytes(entry.text)!r} is given up, and nobody was told")
            self.book.come_back(self.order, bytes(entry.text))
        super().forget(lost)


class Shared:
    """The cluster's side of a world. What has happened decides what must be true."""

    def __init__(self, world: World) -> None:
        pick = world.pick
        self.world = world
        self.lines = Lines(world)
        self.lines.latency = pick(0.0005, 0.001, 0.02, 0.02, 0.3)
        self.lines.speed = pick(0, 0, 0, 0, 0, 3000)
        self.redis = self.another(1)
        self.lines.hosts["redis"] = self.redis
        self.sentinels = [self.another(50), self.another(51)] if world.chance() < 0.3 else []
        for number, sentinel in enumerate(self.sentinels):
            self.lines.hosts[f"sentinel{number}"] = sentinel
            sentinel.master = "redis"
        self.maxlen = pick(10_000, 10_000, 100)
        self.unsettled = pick(1 << 20, 1 << 20, 2000)
        self.largest = pick(64 << 10, 64 << 10, 300)
        self.batch = pick(1 << 20, 1 << 20, 1000)
        self.tracks: list[Track] = []
        self.alive: list[Track] = []  # those that go on when all has settled
        self.reset = False  # Redis has lost what it knew
        self.gone = self.maxlen == 100  # entries were removed from a stream
        self.forgotten = False  # it has forgotten which numbers it had
        self.over = False  # nothing more goes wrong
        self.settled = SETTLED

    def another(self, run: int) -> FakeRedis:
        redis = FakeRedis(lambda: YEAR_2025 + self.world.now, later(self.world))
        redis.run = run
        return redis

    def urandom(self, size: int) -> bytes:
        return self.world.random.getrandbits(8 * size).to_bytes(size, "big")

    def installed(self) -> list[tuple[Any, str, Any]]:
        """What stands in where the production code looks things up."""
        return [
            (chat.server.cluster.wire, "socket", self.lines),
            (chat.server.cluster.node, "os", self),
            (chat.server.cluster.links, "Link", Link),
            (chat.server.cluster.links, "UNSETTLED", self.unsettled),
            (chat.server.cluster.outgoing, "LARGEST", self.largest),
            (chat.server.cluster.follow, "BATCH", self.batch),
        ]

    def join(self, node: Node, at_start: bool) -> None:
        """Make it a node of the cluster; at the start, perhaps as the command line does, which waits for Redis."""
        world, server = self.world, node.server
        node.model.shared = self
        hosts = ",".join(f"sentinel{number}.{node.number}" for number in range(len(self.sentinels)))
        url = f"redis+sentinel://{hosts}/chat" if hosts else f"redis://redis.{node.number}"
        address = Address(f"{url}?maxlen={self.maxlen}")
        if not at_start or world.chance() < 0.3:
            server.hub.cluster = Cluster(world.kernel, server.hub, address)
            return
        try:
            join(world.kernel, server.hub, address, wait=world.chance() < 0.5)
            world.count("a node has joined")
        except ValueError as refusal:
            if not self.excused(node):
                raise Failure(f"Redis is there, and yet: {refusal}") from None
            world.count("a node was refused at the start")
            join(world.kernel, server.hub, address, wait=True)

    def excused(self, node: Node) -> bool:
        """Whether something may keep it from Redis."""
        world = self.world
        return bool(f"{node.number}" in self.lines.away or world.unarmed or world.stops or world.leaps)

    # What must be true.

    def check_settled(self, nodes: list[Node]) -> None:
        """Redis is there for some time, and nothing more was said: everybody knows everything."""
        for node in nodes:
            hub, model = node.server.hub, node.model
            cluster: Any = hub.cluster
            for link in cluster.links.all():
                if link.outgoing.entries or link.outgoing.size:
                    raise Failure(f"{link.outgoing.size} bytes said in {link.room.name!r} have not come back")
                self.alive.append(link.track)
            if hub.pace.full:
                raise Failure("members are not read from, though everything has come back")
            for order in model.orders:
                if order.away:
                    raise Failure(f"{order.away} have not come back to {order.name!r}")
            for member in node.server.connections:
                if model.ears[member.name].open and model.ears[member.name].told:
                    raise Failure(f"{member.name} was never told {model.ears[member.name].told}")
        self.check_streams()
        self.alive.clear()  # what is said at the end need not come to all

    def check_ends(self, nodes: list[Node]) -> None:
        """What has not come back when a node ends is counted."""
        for node in nodes:
            away = sum(len(order.away) for order in node.model.orders)
            if away != node.server.unsettled:
                raise Failure(f"node {node.number} says that {node.server.unsettled} messages are lost; it is {away}")

    def check_streams(self) -> None:
        """One order a room; where it breaks, a line says so."""
        for stream in {track.stream for track in self.tracks}:
            tracks = [track for track in self.tracks if track.stream == stream]
            try:
                self.check_stream(self.redis.order(stream), tracks, self.redis.written_twice(stream))
            except AssertionError as error:
                raise Failure(f"stream {stream}: {error}") from None

    def check_stream(self, order: list[Message], tracks: list[Track], twice: bool) -> None:
        for track in tracks:
            heard = track.messages()
            assert len(set(heard)) == len(heard), "something was heard twice"
            for sender in {sender for sender, _ in heard}:
                numbers = [number for who, number in heard if who == sender]
                assert numbers == sorted(numbers), f"what {sender} said is out of order"
            if not self.reset and track.early and not (self.forgotten and twice):
                assert self.gone or not track.lost, "something was lost, but nothing had been removed"
                check_whole(track, order, track in self.alive)
        if self.reset:
            alive = [track for track in self.alive if track in tracks and track.there]
            senders = {track.node for track in self.alive}
            said = [message for message in order if message[0] in senders]
            for one in alive:
                for other in alive:
                    if not one.lost:
                        check_together(one.messages(), other.messages(), said)
