"""A Redis of our own: as much of it as a cluster uses, and the tests need, with the same answers.

It does no I/O: a Session is fed bytes, and pushes bytes. Time is its owner's.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, NamedTuple

import hiredis

from chat.server.cluster.script import SCRIPT

Id = tuple[int, int]
Said = tuple[int, int]  # of a node's message: the number of its entry, and its place in it
NODE = 100  # entries of a stream that `MAXLEN ~` removes together
MANY = 9_999_999_999
TOP = (1 << 64) - 1


class Error(Exception):
    """An answer that is an error."""


class Stream:
    """One key's entries."""

    def __init__(self) -> None:
        self.entries: list[tuple[Id, list[bytes]]] = []
        self.last: Id = (0, 0)


class FakeRedis:
    """`clock` gives seconds since 1970; `later` has something done after so many seconds."""

    def __init__(self, clock: Callable[[], float], later: Callable[[float, Callable[[], None]], None]) -> None:
        self.clock = clock
        self.later = later
        self.password = ""
        self.version = "7.0.15"
        self.role = "master"
        self.keys: dict[tuple[int, bytes], Any] = {}
        self.scripts: dict[bytes, bytes] = {}
        self.sessions: list[Session] = []
        self.skew = 0  # milliseconds that its calendar is wrong
        self.run = 1  # how often it was started
        self.connected = 0  # how many connections there ever were
        self.no_unblock = False
        self.refuse = ""  # the error that writing ends with
        self.master = ""  # of a Sentinel: where it says that the master is
        self.written: dict[bytes, dict[bytes, list[Said]]] = {}  # in a stream, by a node: all messages ever
        self.orders: dict[bytes, list[tuple[str, int]]] = {}

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self.clock() * 1000) + self.skew

    def serve(self) -> None:
        """There is something new: wake what waits for it."""
        for session in list(self.sessions):
            if session.blocked and (found := self.read(session.db, *session.blocked)):
                session.answer(encode(found))

    def stream(self, db: int, key: bytes) -> Stream | None:
        found = self.keys.get((db, key))
        if found is not None and not isinstance(found, Stream):
            raise Error("WRONGTYPE Operation against a key holding the wrong kind of value")
        return found

    def read(self, db: int, count: int, names: list[bytes], after: list[Id]) -> Any:
        found = []
        for name, last in zip(names, after):
            stream = self.stream(db, name)
            entries = [entry for entry in stream.entries if entry[0] > last][:count] if stream else []
            if entries:
                found.append([name, [[show(place), fields] for place, fields in entries]])
        return found or None

    def append(self, db: int, key: bytes, place: Id | None, maxlen: int | None, fields: Any) -> Id:
        stream = self.stream(db, key)
        last = stream.last if stream else (0, 0)
        if last == (TOP, TOP):
            raise Error("ERR The stream has exhausted the last possible ID, unable to add more items")
        if place is None:
            ms = self.now()
            place = (ms, 0) if ms > last[0] else (last[0], last[1] + 1)
            if place[1] > TOP:
                place = place[0] + 1, 0
        elif place <= last:
            raise Error("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        if stream is None:
            stream = self.keys[db, key] = Stream()
        stream.entries.append((place, list(fields)))
        stream.last = place
        if maxlen is not None:
            while len(stream.entries) - NODE >= maxlen:
                del stream.entries[:NODE]
        return place

    def script(self, db: int, keys: list[bytes], argv: list[bytes]) -> Any:
        """What SCRIPT says, in Python."""
        keep, name, redis_run, loss_in, number, back, messages, node, text = argv
        known = self.get(db, keys[1])
        state = State(*known.split(b" ")) if known.count(b" ") == 4 else None
        stream = self.stream(db, keys[0])
        top = stream.last if stream else (0, 0)
        if top == (TOP, TOP):
            del self.keys[db, keys[0]]
            top = 0, 0

        def add(state: State, *fields: bytes) -> State:
            if self.refuse:
                raise Error(self.refuse)
            if self.role != "master":
                raise Error("READONLY You can't write against a read only replica.")
            fields = b"epoch", state.epoch, b"end", state.offset, *fields
            last = show(self.append(db, keys[0], None, int(keep), fields))
            state = state._replace(last=last, mark=state.mark or last)
            self.keys[db, keys[1]] = b" ".join(state)
            return state

        def begin(lost: int) -> State:
            epochs = []
            if state:
                before = self.get(db, keys[2])
                epochs = [b"%b %b %d" % (state.epoch, state.offset, lost), *filter(None, before.split(b","))]
                if len(epochs) > 16:
                    del epochs[-2]
            new = State(state.offset if state else b"0", name, b"", b"", redis_run)
            new = add(new, b"history", b",".join(epochs))
            self.keys[db, keys[2]] = b",".join(epochs)
            return new

        if state is None or (number == b"0" and state.run != redis_run) or parse(state.last) > top:
            state = begin(0)
        if loss_in == state.epoch:
            state = begin(1)
        if number == b"0":
            return [state.epoch, state.offset, state.last, state.mark, self.get(db, keys[2])]
        had = self.get(db, keys[3])
        seen = max(int(back), int(had) if had.isdigit() else 0)
        if int(number) > seen + 1:
            raise Error(f"GAP between {seen} and {int(number)}")
        if int(number) > seen:
            state = state._replace(offset=b"%d" % (int(state.offset) + int(messages)))
            state = add(state, b"node", node, b"number", number, b"text", text)
            self.note(keys[0], node, int(number), int(messages))
            self.keys[db, keys[3]] = number
        return [state.epoch, state.offset]

    # What was written, for the oracle: a message's name is its node, and the how manieth it is of that one's here.

    def note(self, stream: bytes, node: bytes, number: int, messages: int) -> None:
        written = self.written.setdefault(stream, {}).setdefault(node, [])
        for place in range(messages):
            if not written or (number, place) > written[-1]:
                written.append((number, place))
            self.orders.setdefault(stream, []).append(self.name_of(stream.decode(), node, number, place))

    def name_of(self, stream: str, node: bytes, number: int, place: int) -> tuple[str, int]:
        return node.decode(), bisect_left(self.written[stream.encode()][node], (number, place))

    def order(self, stream: str) -> list[tuple[str, int]]:
        """All messages in the order in which they were first written."""
        return list(dict.fromkeys(self.orders.get(stream.encode(), ())))

    def written_twice(self, stream: str) -> bool:
        """Whether a message was written again. A node that begins to read in between hears only the second."""
        written = self.orders.get(stream.encode(), ())
        return len(set(written)) < len(written)

    def get(self, db: int, key: bytes) -> bytes:
        value = self.keys.get((db, key), b"")
        if isinstance(value, Stream):
            raise Error("WRONGTYPE Operation against a key holding the wrong kind of value")
        assert isinstance(value, bytes)
        return value


class State(NamedTuple):
    """What SCRIPT keeps beside a stream."""

    offset: bytes
    epoch: bytes
    last: bytes
    mark: bytes
    run: bytes


class Session:
    """One connection's end at Redis: `push` takes the answers' bytes."""

    def __init__(self, redis: FakeRedis, push: Callable[[bytes], None]) -> None:
        self.redis = redis
        self.push = push
        self.reader = hiredis.Reader(notEnoughData=Ellipsis)
        self.db = 0
        self.caller = ""  # who has made this connection
        self.trusted = not redis.password
        self.blocked: tuple[int, list[bytes], list[Id]] | None = None  # what it waits for
        redis.connected += 1
        self.number = redis.connected
        redis.sessions.append(self)

    def close(self) -> None:
        """Carry out nothing more that comes."""
        if self in self.redis.sessions:
            self.redis.sessions.remove(self)
        self.blocked = None

    def feed(self, data: bytes) -> None:
        """Take what has come from the other end."""
        self.reader.feed(data)
        self.proceed()

    def proceed(self) -> None:
        while not self.blocked and (command := self.reader.gets()) is not Ellipsis:
            try:
                answer = self.carry_out(*command)
            except Error as error:
                self.push(b"-%s\r\n" % str(error).encode())
            else:
                if answer is not Ellipsis:
                    self.push(answer if isinstance(answer, bytes) else encode(answer))
            self.redis.serve()

    def answer(self, data: bytes) -> None:
        """Answer the command that has waited, and go on with those behind it."""
        self.blocked = None
        self.push(data)
        self.proceed()

    def give_up(self, wanted: object) -> None:
        """The time for this is over."""
        if self.blocked is wanted:
            self.answer(b"*-1\r\n")

    def carry_out(self, word: bytes, *arguments: bytes) -> Any:
        name = word.decode().lower()
        if not self.trusted and name != "auth":
            raise Error("NOAUTH Authentication required.")
        method = getattr(self, f"do_{name}", None)
        if method is None:
            raise Error(f"ERR unknown command '{word.decode()}', with args beginning with: ")
        return method(*arguments)

    # The commands. What they return is bytes as they are sent, or something to encode.

    def do_ping(self) -> Any:
        return b"+PONG\r\n"

    def do_auth(self, *words: bytes) -> Any:
        if not self.redis.password and len(words) == 1:
            raise Error(
                "ERR AUTH <password> called without any password configured for the default user. "
                "Are you sure your configuration is correct?"
            )
        user = words[0] if len(words) == 2 else b"default"
        if user != b"default" or (self.redis.password and words[-1].decode() != self.redis.password):
            raise Error("WRONGPASS invalid username-password pair or user is disabled.")
        self.trusted = True
        return OK

    def do_select(self, number: bytes) -> Any:
        if int(number) > 15:
            raise Error("ERR DB index is out of range")
        self.db = int(number)
        return OK

    def do_sentinel(self, verb: bytes, name: bytes) -> Any:
        assert verb.upper() == b"GET-MASTER-ADDR-BY-NAME" and self.redis.master
        return [f"{self.redis.master}.{self.caller}".encode(), b"6379"] if name == b"chat" else b"*-1\r\n"

    def do_client(self, verb: bytes, *rest: bytes) -> Any:
        if verb.upper() == b"ID":
            return self.number
        if verb.upper() == b"UNBLOCK":
            if self.redis.no_unblock:
                raise Error("NOPERM this user has no permissions to run the 'client|unblock' command")
            found = [session for session in self.redis.sessions if session.number == int(rest[0]) and session.blocked]
            for session in found:
                session.answer(b"*-1\r\n")
            return len(found)
        assert verb.upper() == b"SETNAME"
        if b" " in rest[0]:
            raise Error("ERR Client names cannot contain spaces, newlines or special characters.")
        return OK

    def do_info(self, section: bytes) -> Any:
        name = hashlib.sha1(b"%d" % self.redis.run).hexdigest()
        about = f"# Server\r\nredis_version:{self.redis.version}\r\nrun_id:{name}\r\n"
        if section.lower() == b"replication":
            about = f"# Replication\r\nrole:{self.redis.role}\r\nmaster_replid:{name}\r\n"
        return encode(about.encode())

    def do_role(self) -> Any:
        if self.redis.role == "master":
            return [b"master", 0, []]
        return [b"slave", b"127.0.0.1", 6379, b"connect", -1]

    def do_script(self, verb: bytes, *rest: bytes) -> Any:
        if verb.upper() == b"FLUSH":
            self.redis.scripts.clear()
            return OK
        sha = hashlib.sha1(rest[0]).hexdigest().encode()
        self.redis.scripts[sha] = rest[0]
        return encode(sha)

    def do_evalsha(self, sha: bytes, count: bytes, *rest: bytes) -> Any:
        if sha not in self.redis.scripts:
            raise Error("NOSCRIPT No matching script. Please use EVAL.")
        assert self.redis.scripts[sha].decode() == SCRIPT
        return encode(self.redis.script(self.db, list(rest[: int(count)]), list(rest[int(count) :])))

    def do_xread(self, *words: bytes) -> Any:
        options = {}
        index = 0
        while words[index].upper() != b"STREAMS":
            options[words[index].upper()] = int(words[index + 1])
            index += 2
        rest = words[index + 1 :]
        names = list(rest[: len(rest) // 2])
        after = [parse(word) for word in rest[len(rest) // 2 :]]
        wanted = options.get(b"COUNT", MANY), names, after
        if found := self.redis.read(self.db, *wanted):
            return found
        if b"BLOCK" not in options:
            return b"*-1\r\n"
        self.blocked = wanted
        if patience := options[b"BLOCK"] / 1000:
            self.redis.later(patience, lambda: self.give_up(wanted))
        return Ellipsis

    def do_xadd(self, key: bytes, *words: bytes) -> Any:
        maxlen = None
        if words[0].upper() == b"MAXLEN":
            maxlen, words = int(words[2]), words[3:]
        place = None if words[0] == b"*" else parse(words[0])
        return encode(show(self.redis.append(self.db, key, place, maxlen, words[1:])))

    def do_xlen(self, key: bytes) -> Any:
        stream = self.redis.stream(self.db, key)
        return len(stream.entries) if stream else 0

    def do_xrange(self, key: bytes, first: bytes, last: bytes) -> Any:
        assert (first, last) == (b"-", b"+")
        stream = self.redis.stream(self.db, key)
        return [[show(place), fields] for place, fields in stream.entries] if stream else []

    def do_xtrim(self, key: bytes, strategy: bytes, most: bytes) -> Any:
        assert strategy.upper() == b"MAXLEN"
        stream = self.redis.stream(self.db, key)
        excess = max(0, len(stream.entries) - int(most)) if stream else 0
        if stream:
            del stream.entries[:excess]
        return excess

    def do_set(self, key: bytes, value: bytes) -> Any:
        self.redis.keys[self.db, key] = value
        return OK

    def do_get(self, key: bytes) -> Any:
        value = self.redis.keys.get((self.db, key))
        if isinstance(value, Stream):
            raise Error("WRONGTYPE Operation against a key holding the wrong kind of value")
        return encode(value)

    def do_del(self, key: bytes) -> Any:
        return int(self.redis.keys.pop((self.db, key), None) is not None)

    def do_flushall(self) -> Any:
        self.redis.keys.clear()
        return OK


OK = b"+OK\r\n"


def encode(value: Any) -> bytes:
    """An answer as it is sent."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%s\r\n" % (len(value), value)
    return b"*%d\r\n%s" % (len(value), b"".join(map(encode, value)))


def show(place: Id) -> bytes:
    return b"%d-%d" % place


def parse(word: bytes) -> Id:
    ms, _, count = word.partition(b"-")
    return int(ms), int(count or 0)
