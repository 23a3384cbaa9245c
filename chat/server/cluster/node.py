"""More than one machine: one ordered feed on a Redis stream.

Each server is a node. What its members say, it writes to the stream. What the stream holds, it reads, its own messages
included, and only that goes into its feed. So all nodes lay down the same messages in the same order, and a message
that has come back is known to have got through.

An entry of the stream carries the messages of a turn. Its id is its place: the time in milliseconds, which never falls,
and the number of messages up to its end. It also has the id of the entry `after` which it was written: a node that
reads one which is not after the last one it has read knows that there is a gap, and how many messages it has missed.

There are two connections, because a command behind a blocked XREAD would wait: one follows the stream, one writes.
Writing is a script, which Redis carries out in one piece. A node numbers its entries, and the script refuses a number
it has had. So after a cut, everything that has not come back is simply written again.
"""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from urllib.parse import parse_qsl, unquote, urlsplit

from hiredis import ProtocolError, Reader, ReplyError, pack_command

from loop import TimedOut, WaitQueue, connect, recv, send, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from loop import Kernel, Task
    from loop.traps import Coroutine

    from ..room import Hub, Room

    Id = tuple[int, int]  # milliseconds, messages

OLDEST = 6, 2  # the first Redis with all that is used here
BACKLOG = 1 << 20  # bytes accepted that have not come back: with more, no member is read from
ENTRY = 64 << 10  # bytes after which an entry takes no more
COUNT = 256  # entries read at once: more than are written in the time a distant node needs to ask for the next ones
SILENCE = 5.0  # seconds after which a silent connection is tried
PATIENCE = 5.0  # seconds for Redis to take or to answer something
PAUSES = 0.1, 5.0  # seconds between two attempts to connect: at first, and at most
NOWHERE = -1, 0  # no entry's id

# KEYS: the stream; where this node's last number is kept, for a day: longer than anything is on its way.
# ARGV: the number of an entry, the last number known to have come back, messages, node, text, entries to keep.
# Returns the id up to which the stream has to be read to have read this entry. Number 0 asks only for the stream's end.
SCRIPT = """
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
    local about = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #about, 2 do
        if about[i] == 'last-generated-id' then last = about[i + 1] end
    end
end
local number, back = tonumber(ARGV[1]), tonumber(ARGV[2])
local seen = math.max(back, tonumber(redis.call('GET', KEYS[2]) or 0))
if number <= seen then return last end
if number > seen + 1 then return redis.error_reply('GAP between ' .. seen .. ' and ' .. number) end
local ms, messages = last:match('(%d+)-(%d+)')
local now = redis.call('TIME')
ms = math.max(tonumber(ms), now[1] * 1000 + math.floor(now[2] / 1000))
local id = string.format('%.0f-%.0f', ms, messages + ARGV[3])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[6], id,
    'after', last, 'node', ARGV[4], 'number', ARGV[1], 'text', ARGV[5])
redis.call('SET', KEYS[2], ARGV[1], 'EX', 86400)
return id
"""


class Refused(Exception):
    """Redis answers with an error, or is not what is needed here."""


STRANGE = ProtocolError, AttributeError, LookupError, TypeError, ValueError  # answers that make no sense
TROUBLE = (OSError, TimedOut, Refused, *STRANGE)  # what ends a connection; all of it may pass


class Address:
    """Which Redis, and which stream in it, a URL names."""

    def __init__(self, url: str) -> None:
        """Raises ValueError with a line for the user, which does not contain the password."""
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
            self.host, self.port, self.db = parts.hostname or "", parts.port or 6379, int(parts.path[1:] or 0)
            self.user, self.password = unquote(parts.username or ""), unquote(parts.password or "")
            self.stream, self.maxlen = options.pop("stream", "chat"), int(options.pop("maxlen", 10_000))
            self.host.encode("idna")  # as the look-up will
            if parts.scheme != "redis" or not self.host or not self.stream or options or self.db < 0 or self.maxlen < 1:
                raise ValueError
        except ValueError:
            usage = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?stream=NAME&maxlen=ENTRIES]"
            raise ValueError(f"--cluster takes {usage}") from None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{host}:{self.port}/{self.db} (stream {self.stream})"


def dial(kernel: Kernel, address: Address) -> Coroutine[socket.socket]:
    """COROUTINE. Returns a new connection to Redis; raises OSError or TimedOut.

    A name is looked up each time, because a fail-over may move it to another machine. That lookup blocks.
    """
    trouble: OSError | TimedOut = OSError("has no address")
    for family, kind, _, _, where in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield from connect(sock, where, PATIENCE)
            return sock
        except BaseException as error:
            kernel.close(sock)
            if not isinstance(error, (OSError, TimedOut)):
                raise
            trouble = error
    raise trouble


class Connection:
    """Commands out, answers in, in the same order. Everything raises one of TROUBLE."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.reader = Reader(notEnoughData=Ellipsis)

    def ask(self, *command: Any, timeout: float = PATIENCE) -> Coroutine[Any]:
        """COROUTINE. Returns the answer to one command."""
        yield from send(self.socket, pack(*command), PATIENCE)
        return (yield from self.answer(timeout))

    def answer(self, timeout: float = PATIENCE) -> Coroutine[Any]:
        """COROUTINE. Returns the next answer: bytes, a number, None, or a list of these."""
        while (answer := self.reader.gets()) is Ellipsis:
            data = yield from recv(self.socket, 1 << 18, timeout)
            if not data:
                raise OSError("closed by Redis")
            self.reader.feed(data)
        if isinstance(answer, ReplyError):
            raise Refused(str(answer))
        return answer


class Entry:
    """Whole messages under this node's number for them. It takes more of them until it is first sent."""

    __slots__ = ("number", "place", "text")

    def __init__(self, number: int, text: bytearray) -> None:
        self.number = number
        self.text = text
        self.place: Id | None = None  # who has read the stream up to here has read this; None: is to be written


class Cluster:
    """This node. open() it, then run() it; the rest is for the room and the server."""

    def __init__(
        self,
        kernel: Kernel,
        hub: Hub,
        address: Address,
        dial: Callable[[Kernel, Address], Coroutine[socket.socket]] = dial,
    ) -> None:
        self.kernel = kernel
        self.hub = hub
        self.room = hub.first
        self.address = address
        self.dial = dial
        self.node = os.urandom(16).hex()
        self.keys = 2, address.stream, f"{address.stream}:{self.node}"
        self.sha = b""
        self.connections: list[Connection] = []  # the one that follows and the one that writes, while they last
        self.writer: Task | None = None
        self.trouble: BaseException | None = None  # what the writer has met
        # From the members to the stream.
        self.pending: deque[Entry] = deque()  # what has not come back; those that are to be written are at the end
        self.number = 0  # of the youngest entry
        self.sent = 0  # the number of the youngest that was ever sent
        self.accepted = 0  # bytes, ever
        self.settled = 0  # how many of them have come back, or were lost where members are told of a loss
        self.bound = BACKLOG
        self.news = WaitQueue()  # the writer waits here
        self.progress = WaitQueue()
        # From the stream to the members.
        self.last = NOWHERE  # the last entry that was read; at the start, the stream's end
        self.heard: dict[bytes, int] = {}  # the last number of each node

    # For the room and the server.

    def publish(self, room: Room, text: bytes, member: Any, but: Any) -> None:
        """Accept whole messages. They will be in every node's feed, this one's too."""
        if self.number == self.sent or len(self.pending[-1].text) >= ENTRY:
            self.number += 1
            self.pending.append(Entry(self.number, bytearray()))
        self.pending[-1].text += text
        self.accepted += len(text)
        self.hold()
        self.news.wake_all()

    def tell(self, member: Any, line: bytes) -> bool:
        return False

    def enter(self, room: Room) -> None:
        pass

    def leave(self, room: Room) -> None:
        pass

    def explain(self) -> list[str]:
        return []

    def returned(self, timeout: float) -> Coroutine[None]:
        """COROUTINE. Returns when what was accepted by now has come back, or after `timeout` seconds."""
        mark, end = self.accepted, self.kernel.clock() + timeout
        try:
            while self.settled < mark:
                yield from self.progress.wait(max(0, end - self.kernel.clock()))
        except TimedOut:
            pass

    def finish(self, timeout: float) -> Coroutine[None]:
        """COROUTINE. Like returned(), and no member is read from any more."""
        self.bound = -1
        self.hold()
        yield from self.returned(timeout)

    def run(self) -> Coroutine[None]:
        """COROUTINE. Follow and write, from one cut to the next, until cancelled."""
        pause = PAUSES[0]
        reason, told = "", False
        while True:
            began = self.kernel.clock()
            try:
                if not self.connections:
                    count = yield from self.open()
                    self.say(f"connected again; {count} messages sent again")
                    if told:
                        self.inform("* The other servers are back.")
                    reason, told = "", False
                yield from self.follow()
            except TROUBLE as error:
                before, reason = reason, explain(self.trouble or error)
                self.trouble = None
                if reason != before:
                    self.say(f"lost {self.address}: {reason}; trying again")
                if before and not told:  # a cut that is mended at once is nobody's business
                    self.inform("* The other servers are out of reach. What you say will be passed on later.")
                    told = True
            finally:
                self.hang_up()
            lasted = self.kernel.clock() - began
            pause = PAUSES[0] if lasted > pause else min(2 * pause, PAUSES[1])
            yield from sleep(pause)

    # Connecting.

    def open(self) -> Coroutine[int]:
        """COROUTINE. Connect, and write what is pending. Returns how many messages were sent again; raises TROUBLE."""
        address = self.address
        for role in "follows", "writes":
            connection = Connection((yield from self.dial(self.kernel, address)))
            self.connections.append(connection)
            if address.password:
                yield from connection.ask("AUTH", *filter(None, [address.user, address.password]))
            if address.db:
                yield from connection.ask("SELECT", address.db)
            yield from connection.ask("CLIENT", "SETNAME", f"chatsrv-{self.node[:8]}-{role}")
        version = re.search(rb"redis_version:(\d+)\.(\d+)", (yield from connection.ask("INFO", "server")))
        if not version or tuple(map(int, version.groups())) < OLDEST:
            raise Refused("is too old: Redis {}.{} or newer is needed".format(*OLDEST))
        if (yield from connection.ask("ROLE"))[0] != b"master":
            raise Refused("is a read-only copy of another Redis")
        self.sha = yield from connection.ask("SCRIPT", "LOAD", SCRIPT)
        yield from self.compare(connection)
        self.start_over()
        count = sum(entry.text.count(b"\n") for entry in self.pending if entry.number <= self.sent)
        yield from self.hand_on(connection)
        self.writer = self.kernel.spawn(self.write(connection), "cluster writer")
        return count

    def hang_up(self) -> None:
        """Close both connections and end the writer. Who waits for one of them is woken with an error."""
        for connection in self.connections:
            self.kernel.close(connection.socket)
        self.connections = []
        if self.writer:
            self.writer.cancel()

    # Writing.

    def write(self, connection: Connection) -> Coroutine[None]:
        """COROUTINE. Hand on what is accepted, for as long as the connection lasts.

        While one lot is on its way the next one gathers: the busier the chat, the more an entry carries.
        """
        try:
            while True:
                while not self.due():
                    try:
                        yield from self.news.wait(SILENCE)
                    except TimedOut:
                        yield from connection.ask("PING")
                yield from self.hand_on(connection)
        except TROUBLE as error:
            self.trouble = error
            self.hang_up()

    def due(self) -> list[Entry]:
        """What is to be written."""
        return [entry for entry in self.pending if entry.place is None]

    def hand_on(self, connection: Connection) -> Coroutine[None]:
        """COROUTINE. Write what is due now."""
        due = self.due()
        self.sent = self.number
        yield from send(connection.socket, b"".join(map(self.pack, due)), PATIENCE)
        for entry in due:
            entry.place = parse_id((yield from connection.answer()))
        self.settle()

    def pack(self, entry: Entry) -> bytes:
        back = self.pending[0].number - 1
        arguments = entry.number, back, entry.text.count(b"\n"), self.node, bytes(entry.text), self.address.maxlen
        return pack("EVALSHA", self.sha, *self.keys, *arguments)

    def start_over(self) -> None:
        """Everything that has not come back is to be written again. Answers on their way find only the old entries."""
        self.pending = deque(Entry(entry.number, entry.text) for entry in self.pending)
        self.news.wake_all()

    def settle(self) -> None:
        """Take leave of the entries that have come back."""
        while self.pending and self.pending[0].place and self.pending[0].place <= self.last:
            self.settled += len(self.pending.popleft().text)
        self.hold()
        self.progress.wake_all()

    def hold(self) -> None:
        """Keep the members from being read, or not any more."""
        self.hub.pace.full = self.accepted - self.settled > self.bound
        self.hub.pace.hold()

    # Following.

    def follow(self) -> Coroutine[None]:
        """COROUTINE. Lay what comes from the stream into the feed; ends by raising one of TROUBLE."""
        connection = self.connections[0]
        read = "XREAD", "COUNT", COUNT, "BLOCK", int(SILENCE * 1000), "STREAMS", self.address.stream
        while True:
            answer = yield from connection.ask(*read, f"{self.last[0]}-{self.last[1]}", timeout=SILENCE + PATIENCE)
            if answer is None:
                yield from self.compare(connection)
            else:
                for place, fields in answer[0][1]:
                    self.take(parse_id(place), dict(zip(fields[::2], fields[1::2])))
                    if self.hub.pace.gathered >= self.hub.pace.turn:
                        yield from sleep(0)  # a turn's worth: let it be spread
            self.settle()

    def compare(self, connection: Connection) -> Coroutine[None]:
        """COROUTINE. Ask for the stream's end; if that is before our place, it is another stream, or a cut one."""
        end = parse_id((yield from connection.ask("EVALSHA", self.sha, *self.keys, 0, 0, 0, "", "", 0)))
        if self.last == NOWHERE:
            self.last = end
        elif end < self.last:
            self.last = end
            self.miss(0)

    def take(self, place: Id, fields: dict[bytes, bytes]) -> None:
        """Lay one entry into the feed."""
        before, self.last = self.last, place
        try:
            after, node, number = parse_id(fields[b"after"]), fields[b"node"], int(fields[b"number"])
            text = fields[b"text"]
        except (KeyError, ValueError):
            text = b""
        if not text.endswith(b"\n"):
            self.say("skipped an entry that no server has written")
            return
        if after != before:
            self.miss(after[1] - before[1])
        if number > self.heard.get(node, 0):  # else Redis has lost its memory, and taken again what it had had
            self.heard[node] = number
            self.room.append(text)

    def miss(self, count: int) -> None:
        """There is a gap here, of `count` messages; without a positive count, nobody knows of how many."""
        what = f"{count} messages were lost here" if count > 0 else "Messages may have been lost here"
        self.say(f"{what.lower()}: the stream was {'trimmed too soon' if count > 0 else 'reset'}")
        self.inform(f"* {what}.")
        self.start_over()  # ours may be among them

    # Telling.

    def say(self, what: str) -> None:
        self.hub.journal.say("cluster", what)

    def inform(self, line: str) -> None:
        """A line for the members of this node alone."""
        self.room.append(line.encode() + b"\n")


def pack(*command: Any) -> bytes:
    packed: bytes = pack_command(command)
    return packed


def parse_id(text: bytes) -> Id:
    ms, _, messages = text.partition(b"-")
    return int(ms), int(messages)


def explain(error: BaseException) -> str:
    """An error as a few words in one line."""
    if isinstance(error, TimedOut):
        return "no answer"
    if isinstance(error, STRANGE):
        return f"not the answers of a Redis ({type(error).__name__})"
    return " ".join((getattr(error, "strerror", None) or str(error)).split())


def enter(kernel: Kernel, hub: Hub, url: str) -> None:
    """Make the hub's server a node, before anything else runs on the kernel. Raises ValueError with a line."""
    cluster = Cluster(kernel, hub, Address(url))
    trouble = []

    def first() -> Coroutine[None]:
        try:
            yield from cluster.open()
        except TROUBLE as error:
            trouble.append(error)

    kernel.run(until=kernel.spawn(first(), "cluster"))
    if trouble:
        raise ValueError(f"--cluster {cluster.address}: {explain(trouble[0])}")
    cluster.say(f"connected to {cluster.address} as node {cluster.node[:8]}")
    hub.cluster = cluster
