"""What must be true, whatever happened.

The stream of every client is a contiguous slice of one global order, cut only at message borders (who was reset may
lose its tail). What the server read from a client is published once, in order, with nothing left out. Accepted and
terminated agree with the sockets. What was taken is given back.

The journal is asked for what the server believes: it hears of each connection and of each message in the order in which
they went into the feed. The clients are asked for what came of it.
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from errno import ECONNRESET, EHOSTUNREACH, EPIPE, ETIMEDOUT
from os import strerror
from typing import TYPE_CHECKING, ClassVar

import chat.server.outbox
from chat.escape import visible
from chat.handlers.chat import GREETING
from chat.server.journal import Journal
from chat.server.outbox import OVERHEAD
from loop import ReadWait, WriteWait

from .network import show
from .reference import frames, settled
from .world import Failure

if TYPE_CHECKING:
    from chat.server.flags import Options
    from chat.server.loading import Handler
    from chat.server.member import Member
    from chat.server.room import Room
    from chat.server.server import Server
    from loop.traps import Coroutine

    from .clients import Client
    from .network import Socket
    from .world import World

LOST = {strerror(number).lower() for number in (ECONNRESET, EHOSTUNREACH, EPIPE, ETIMEDOUT)}
ENDING = "the server is ending"
REFUSED = re.compile("the server is full|too many connections from ")
KICKED = re.compile(r"more than \d+ bytes behind|took nothing for |silent for |the world says so")
TOLD = re.compile(rb"~(\d+)~\n")
PRIVATE = re.compile(rb"\* (Here: .*|Commands: .*|A name has .*|\S+ is taken)")
LEFT_OUT = re.compile(rb"\((\d+) lines were left out here: they could not be written in time\)\Z")
GREETINGS = {
    "chat": re.compile(re.escape(GREETING.encode()) + rb"\n"),
    "echo": re.compile(rb"Welcome to the echo[^\n]*\n"),
    "nick": re.compile(rb"Welcome, guest\d+\. Commands: [^\n]*\n"),
}


class Feed(chat.server.outbox.Feed):
    """The feed as it is; the world keeps all that was ever appended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.largest = 0
        super().__init__()

    def append(self, data: bytes) -> None:
        self.world.order += data
        self.largest = max(self.largest, len(data) + OVERHEAD)
        super().append(data)


class Segment(chat.server.outbox.Segment):
    """A segment as it is, counted while it lives."""

    __slots__ = ("count",)
    living: ClassVar[list[int]] = [
        0
    ]  # a list of its own for each run, because what a failed run leaves behind goes later

    def __init__(self, start: int) -> None:
        self.count = Segment.living
        self.count[0] += 1
        super().__init__(start)

    def __del__(self) -> None:
        self.count[0] -= 1


class Witness(Journal):
    """The journal as it is, which also keeps what it was told."""

    def __init__(self, world: World, most: int, quiet: bool) -> None:
        super().__init__(world.stdout, most, quiet)
        self.world = world
        self.lines: list[bytes] = []
        self.accepted: set[str] = set()
        self.terminated: dict[str, str] = {}
        self.said: list[tuple[str, bytes]] = []
        self.inside: list[tuple[str, int]] = []  # +1 for who came, -1 for who went

    def say(self, who: str, what: str) -> None:
        self.lines.append(f"{who} {what}\n".encode())
        if what == "accepted connection":
            if who in self.accepted:
                raise Failure(f"{who} was accepted twice")
            self.accepted.add(who)
            self.inside.append((who, 1))
        elif what.startswith("connection terminated: "):
            if who not in self.accepted or who in self.terminated:
                raise Failure(f"{who} was terminated, but it was not there")
            self.terminated[who] = what[23:]
            self.inside.append((who, -1))
        super().say(who, what)

    def messages(self, who: str, messages: list[bytes]) -> None:
        for message in messages:
            self.said.append((who, message))
            if not self.quiet:
                self.lines.append(f"{who} > {visible(message)}\n".encode())
        super().messages(who, messages)


def agree(heard: bytes, order: bytearray, start: int) -> int:
    """How many bytes of what was heard are what the order has from there on."""
    if order.startswith(heard, start):
        return len(heard)
    pairs = zip(heard, order[start : start + len(heard)])
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(heard), len(order) - start))


class Oracle:
    """Asks all the questions about one run."""

    def __init__(self, world: World, server: Server, witness: Witness, handler: str, options: Options) -> None:
        self.world = world
        self.server = server
        self.witness = witness
        self.handler = handler
        self.options = options
        self.stopped_at: float | None = None
        self.stopped_in_order = 0  # how long the order was then
        self.began: dict[str, int] = {}  # where in the order each one's handler began
        self.returned: dict[str, int] = {}
        self.told: dict[str, int] = {}  # bytes of the lines that tell() has told it

    def name(self, client: Client) -> str:
        """As the journal calls it."""
        host = client.address[0].replace("::ffff:", "")
        return f"[{host}]:{client.address[1]}" if ":" in host else f"{host}:{client.address[1]}"

    def watch(self, handler: Handler) -> Handler:
        """The handler, with notes about where in the order it begins and returns."""

        def watched(member: Member, room: Room) -> Coroutine[None]:
            self.began[member.name] = len(self.world.order)
            yield from handler(member, room)
            self.returned[member.name] = len(self.world.order)

        return watched

    def tell(self, member: Member) -> None:
        """Tell a member where in the order it should hear this line."""
        line = b"~%d~" % len(self.world.order)
        open_before = member.outbox.feed is not None
        member.tell(line)
        if open_before and not member.kicked and member.name in self.began:
            self.told[member.name] = self.told.get(member.name, 0) + len(line) + 1

    def without_told(self, heard: bytes, start: int, name: str, strict: bool) -> bytes:
        """What was heard from the place `start` on, without the lines of tell(); each must be where it says."""
        told, rest = 0, bytearray()
        for line in heard.splitlines(True):
            if found := TOLD.match(line):
                told += len(line)
                if int(found[1]) != start + len(rest):
                    raise Failure(f"at {start + len(rest)} in the order it is told {show(line)}")
            else:
                rest += line
        if strict and told < self.told.get(name, 0):
            raise Failure(f"{self.told[name] - told} bytes that it was told never came")
        return bytes(rest)

    # While it runs.

    def idle(self) -> None:
        """The server has nothing to do. Is that so?"""
        world = self.world
        if self.stopped_at is None:
            for listener in self.server.listeners:
                if listener.backlog and world.now > listener.tried_at + 0.11:  # type: ignore[attr-defined]
                    raise Failure("idle, though connections wait at the door")
        journal, output = self.witness, world.stdout
        if journal.size and not (journal.closed or output.stalled or output.gone):
            raise Failure("idle, though the journal has lines and stdout takes them")
        if self.handler != "chat":
            return
        talking = {}
        for member in self.server.connections:
            if not member.reason:
                talking[member.name] = member
        for client in world.clients:
            link = client.link
            if client.closed or client.meddled or not talking:
                continue
            name = self.name(client)
            if name not in talking:
                continue
            if link.incoming and not self.options.max_rate and not self.server.hub.pace.held:
                raise Failure(f"idle, though {client.name} has sent what was not read: {show(link.incoming)}")
            self.check_limits(client, link, talking[name])
            if client.attentive and name in self.began:
                heard = len(client.received) - len(GREETING) - 1 - self.told.get(name, 0)
                if missing := len(world.order) - self.began[name] - heard:
                    raise Failure(f"idle, though {missing} bytes are due to {client.name}, who reads")

    # Afterwards.

    def check(self) -> None:
        self.check_ends()
        self.check_journal()
        self.check_order()
        for client in self.world.clients:
            try:
                self.check_client(client)
            except Failure as failure:
                raise Failure(f"{client.name} ({self.name(client)}): {failure}") from None

    def check_ends(self) -> None:
        """Everything is given back."""
        world, server, kernel = self.world, self.server, self.world.kernel
        if kernel.tasks or kernel.ready or kernel.readers or kernel.writers:
            raise Failure(f"tasks are left: {list(kernel.tasks)} {kernel.ready} {kernel.readers} {kernel.writers}")
        hub, room = server.hub, server.hub.first
        left = server.connections, server.admitted, server.per_host, server.change.tasks, room.present, room.together
        if any((*left, hub.nowhere.together, hub.apart, hub.pace.behind, hub.tasks, hub.news.tasks)):
            raise Failure("somebody is left in the room")
        open_files = [fd for fd, file in world.files.items() if file is not world.stdout and file is not world.bell]
        if open_files:
            raise Failure(f"descriptors are left open: {open_files}")
        armed = getattr(world.backend, "armed", {}) or getattr(world.poller, "armed", {})
        if any(armed.values()):
            raise Failure(f"descriptors are left armed: {armed}")
        accepted = sum(listener.accepted for listener in world.listeners)
        if not accepted == len(self.witness.accepted) == len(self.witness.terminated):
            raise Failure(
                f"{accepted} connections accepted, the journal says {len(self.witness.accepted)}, and"
                f" {len(self.witness.terminated)} terminated"
            )
        room.outbox.skip()  # something may have been announced after the last spreading
        if Segment.living[0] != 2:
            gc.collect()
        if Segment.living[0] != 2:
            raise Failure(f"{Segment.living[0] - 2} segments of the feed are left")
        if b"Traceback" in world.stderr.text:
            last = world.stderr.text.decode().rstrip().rpartition("\n")[2]
            raise Failure(f"a task failed: {last}\n{world.stderr.text.decode()}")
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

    def check_journal(self) -> None:
        """Each line once, in order, unless it says that some were left out."""
        output, lines = self.world.stdout, self.witness.lines
        text = bytes(output.text)
        if text == b"".join(lines):
            return
        full = output.ever["full"]  # what a full disk takes may end anywhere
        cut = full or output.stalled or output.gone or self.world.leaps
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
        if len(lines) - place != self.witness.lost and not cut:
            raise Failure(f"of the journal's last {len(lines) - place} lines, {self.witness.lost} are known to be lost")

    def check_order(self) -> None:
        """What the feed holds is what the journal was told, each with its prefix, whole."""
        order = bytes(self.world.order)
        place = 0
        self.last_of: dict[str, int] = {}  # where in the order each one's last message ends
        self.said_by: dict[str, list[bytes]] = {}
        for who, message in self.witness.said:
            end = order.find(b"\n", place)
            line = order[place:end]
            host = who.rpartition(":")[0].strip("[]")
            prefix = f"{host}: ".encode() if self.options.prefix and who != "room" else b""
            right = line == prefix + message or (self.handler == "nick" and line.endswith(b": " + message))
            if end < 0 or not right:
                raise Failure(f"the feed has {show(line)} where {who} said {show(message)}")
            place = end + 1
            self.last_of[who] = place
            self.said_by.setdefault(who, []).append(message)
        if place != len(order):
            raise Failure(f"nobody said {order[place:]!r}")

    def check_client(self, client: Client) -> None:
        name = self.name(client)
        if name not in self.witness.accepted:
            if client.received:
                raise Failure(f"never accepted, but it received {show(client.received)}")
            return
        reason = self.witness.terminated[name]
        known = reason in LOST or reason in ("end of stream", "left", ENDING) or KICKED.match(reason)
        if not (known or REFUSED.match(reason) or client.meddled):
            raise Failure(f"terminated, with no good reason: {reason!r}")
        if client.sent_away and not KICKED.match(reason):
            raise Failure(f"it was kicked, but the journal says: {reason}")
        if REFUSED.match(reason):
            notice = f"* You are disconnected: {reason}.\n".encode()
            if not notice.startswith(client.received) or (self.strict(client) and len(client.received) < len(notice)):
                raise Failure(f"refused, but it received {show(client.received)}")
            return
        if client.attentive and client.broken and not client.meddled and not self.world.leaps:
            raise Failure(f"it was reset, though it read all the time and went when the server did ({reason})")
        self.check_heard(client, name, reason)
        self.check_said(client, name, reason)

    def strict(self, client: Client) -> bool:
        """Whether nothing excuses a loss: it read all the time and to the end, and nobody interfered."""
        return client.attentive and client.eof and not (client.broken or client.meddled or self.world.leaps)

    def check_limits(self, client: Client, link: Socket, member: Member) -> None:
        """Nobody stays who should have been sent away.

        --max-lag is looked at when something is published, and lets pass whose writer is about to run: so a few
        publications more. Times are not asked where the clock leaped or alarms were false: those begin a wait anew.
        """
        options, now, feed = self.options, self.world.now, self.server.hub.first.feed
        blocked = member.writer is not None and isinstance(member.writer.waits_for, WriteWait)
        most = options.max_lag * 17 // 16 + 4 * feed.largest  # type: ignore[attr-defined]
        if blocked and not self.server.hub.pace.held and member.outbox.lag > most:
            raise Failure(f"{client.name} is {member.outbox.lag} bytes behind, --max-lag is {options.max_lag}")
        if self.world.leaps or self.world.spurious or self.world.balk:
            return
        if blocked and options.stall_timeout and now > link.last_send + options.stall_timeout + 0.1:
            raise Failure(f"{client.name} has taken nothing for {now - link.last_send:g} s, and is still there")
        silent = isinstance(member.task.waits_for, ReadWait)
        if (
            silent
            and options.idle_timeout
            and not options.max_rate
            and now > max(link.last_recv, link.accepted_at) + options.idle_timeout + 0.1
        ):
            raise Failure(f"{client.name} has said nothing for {now - link.last_recv:g} s, and is still there")

    def check_heard(self, client: Client, name: str, reason: str) -> None:
        """Greeting, then a slice of the order that begins where its handler did, then the reason if it was kicked."""
        strict = self.strict(client)
        received = bytes(client.received)
        notice = f"* You are disconnected: {reason}.\n".encode() if KICKED.match(reason) or reason == ENDING else b""
        greeting = GREETINGS[self.handler].match(received)
        if greeting is None:
            complete = received.endswith(b"\n")
            if (complete and received != notice) or (strict and received != notice):
                raise Failure(f"the greeting is missing: {show(received)}")
            return
        heard = received[greeting.end() :]
        order = self.world.order
        start = self.began[name]
        least = 0 if notice else self.returned.get(name, 0)
        if reason == ENDING and name not in self.returned:
            least = self.stopped_in_order
        if self.handler == "chat":
            heard = self.without_told(heard, start, name, strict and not notice)
        elif self.handler == "echo":
            order = bytearray().join(message + b"\n" for message in frames(bytes(client.sent)))
            start, least = 0, len(order) if reason == "end of stream" else 0
        else:
            heard = b"".join(line for line in heard.splitlines(True) if not PRIVATE.match(line))
        same = agree(heard, order, start)
        if same < len(heard):
            same = heard.rfind(b"\n", 0, same) + 1
            tail = heard[same:]
            torn = self.handler != "echo" and not strict and b"\n" not in tail  # a private line, perhaps
            if not torn and not (notice and notice.startswith(tail)):
                instead = show(order[start + same : start + same + 60])
                raise Failure(f"after {same} bytes it heard {show(tail)} instead of {instead}")
        if not strict:
            return
        tail = heard[same:]
        if notice and tail != notice:
            raise Failure(f"it was not told why it is kicked ({reason}), but {show(tail)}")
        if same and heard[same - 1] != 10:
            raise Failure(f"its stream ends inside a message: {show(heard[-60:])}")
        if start + same < least:
            raise Failure(f"{least - start - same} bytes were due to it, when it ended ({reason}), and never came")

    def check_said(self, client: Client, name: str, reason: str) -> None:
        """What it said is published once, in order: all of it, or what came before somebody ended it."""
        link = client.link
        sent, taken = bytes(client.sent), bytes(link.taken)
        assert sent.startswith(taken), "the world is broken"
        published = self.said_by.get(name, [])
        natural = (reason == "end of stream" or reason in LOST) and not client.meddled
        if natural:
            if not (link.fin_seen if reason == "end of stream" else client.reset or client.closed):
                raise Failure(f"terminated: {reason}; but that is not what happened")
            if taken != sent and not client.lossy:
                raise Failure(f"{len(sent) - len(taken)} bytes it had sent were never read")
        rate = self.options.max_rate
        if rate and link.in_rate > rate * (link.last_read - link.first_read + 2) + 1:  # the first second is free
            raise Failure(
                f"{link.in_rate} bytes were read in {link.last_read - link.first_read:g} s, --max-rate is {rate}"
            )
        if self.handler == "echo":
            return
        said = settled(taken) if reason in LOST else frames(sent)
        if self.handler == "nick":
            said = [message for message in said if not message.startswith(b"/")]
        if not natural:
            said = said[: len(published)]
        if published != said:
            wrong = next((i for i, (a, b) in enumerate(zip(published, said)) if a != b), min(len(said), len(published)))
            raise Failure(
                f"of what it said, {len(published)} messages were published instead of {len(said)}; number {wrong} is"
                f" {show(b''.join(published[wrong : wrong + 1]))} instead of {show(b''.join(said[wrong : wrong + 1]))}"
            )
