"""Rooms, each with members and a feed of its own, and what all rooms of a server share."""

from __future__ import annotations

from loop import WaitQueue, report, without_cancelled

from ..framing import LIMIT, NEWLINE, Messages, join, split, too_long
from .misuse import check_but, check_messages, check_spawn, wrong
from .outbox import Feed, Outbox
from .pace import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any, Callable, Protocol, Union
    from weakref import WeakValueDictionary

    from loop import Kernel, Task
    from loop.traps import Coroutine

    from .flags import Options
    from .journal import Journal

    Text = Union[bytes, str]

    class Hearer(Protocol):
        """What a room needs to know of a member."""

        name: str
        prefix: Any
        kicked: bool
        outbox: Outbox

        def stand_apart(self) -> None: ...

    class Cluster(Protocol):
        """What sends messages through Redis, and appends to the feed what comes back."""

        def publish(self, room: Room, text: bytes, member: Any, but: Collection[Any]) -> None: ...
        def tell(self, member: Any, line: bytes) -> bool: ...
        def enter(self, room: Room, member: Any) -> None: ...
        def leave(self, room: Room, member: Any) -> None: ...
        def run(self) -> Coroutine[None]: ...
        def finish(self, timeout: float) -> Coroutine[None]: ...
        def wait_for_return(self, timeout: float) -> Coroutine[None]: ...
        def count_unsettled(self) -> int: ...
        def explain(self) -> list[str]: ...


FIRST = "lobby"  # the room in which every member begins


class Hub:
    """What all rooms of a server share."""

    def __init__(self, kernel: Kernel, options: Options, journal: Journal) -> None:
        self.kernel = kernel
        self.options = options
        self.journal = journal
        self.cluster: Cluster | None = None
        self.first = Room(self, FIRST)
        self.nowhere = Room(self, "")  # for members in no room; its outbox, which new members share, stays empty
        self.rooms: WeakValueDictionary[str, Room] | None = None  # all other rooms, while anything refers to them
        self.tasks: dict[Coroutine[Any], Task] = {}  # tasks that handlers have spawned, by their coroutines
        self.insist: Callable[[Any, float], None]  # gives a member's handler so many seconds to end
        # For spread().
        self.changed: dict[Room, None] = {}  # rooms with something new to send
        self.apart: dict[Any, None] = {}  # members that are APART
        self.news = WaitQueue()  # spread() waits here
        self.wired = False  # whether there was ever a member with a wire
        # How much may be read.
        self.pace = Pace(options, kernel.clock)
        self.timed = bool(options.max_rate or options.idle_timeout)  # whether receive() has to look at the clock

    def room(self, name: str) -> Room:
        """The room of that name, made if there is none."""
        if name == FIRST:
            return self.first
        if self.rooms is None:
            from weakref import WeakValueDictionary  # only now: most servers have one room

            self.rooms = WeakValueDictionary()
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = Room(self, name)
        return room


class Room:
    """The members that hear each other, as a handler sees them. Handlers may set attributes of their own on it."""

    __slots__ = "hub", "name", "feed", "present", "together", "outbox", "told", "__dict__", "__weakref__"

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.feed = Feed()
        self.present: dict[Any, None] = {}  # members in it whose handler runs, oldest first
        self.together: dict[Any, Any] = {}  # TOGETHER members: each with its wire or else its descriptor
        self.outbox = Outbox(self.feed)  # the one that all TOGETHER members share
        self.told: dict[Any, bytes] = {}  # a line for each TOGETHER member to which only this line is due

    # For handlers.

    @property
    def members(self) -> list[Any]:
        """The members of this room whose handler runs, oldest first. The list is a copy."""
        return list(self.present)

    def publish(self, member: Hearer, messages: Text | Iterable[Text], but: Collection[Hearer] = ()) -> None:
        """Send one message or several, without newlines, to all in the room except `but`, with the member's prefix.

        They stay in this order, with no other messages in between. A message of more than 1024 bytes is split. Raises
        ValueError if there is a newline in a message.
        """
        try:
            if member.kicked:
                return
        except AttributeError:
            raise wrong("publish() takes a member first", member) from None
        self.submit(member, member.name, member.prefix, messages, check_but(but) if but else ())

    def announce(self, line: Text) -> None:
        """Send a line to all in the room, without a prefix. A newline in it becomes a space."""
        self.submit(None, "room", b"", [one_line(line)], ())

    def other(self, name: str) -> Room:
        """Another room, with members and a feed of its own: made when first asked for, gone when empty."""
        if not isinstance(name, str):
            raise wrong("other() takes the name of a room, a str", name)
        return self.hub.room(name)

    def spawn(self, coroutine: Coroutine[Any], name: str = "") -> Task:
        """Run a coroutine as a task of its own, until it returns, is cancelled (`cancel()`), or the server ends.

        Returns the task. If it fails, that is reported, and no other task is affected. Raises TypeError if `coroutine`
        is not a new one.
        """
        tasks, kernel = self.hub.tasks, self.hub.kernel  # so that run() does not keep the room alive

        def run() -> Coroutine[None]:
            try:
                yield from coroutine
            except BaseException as error:
                # An Exception and Cancelled are for the kernel. GeneratorExit comes when the task is dropped, or when
                # Python frees it after the kernel has stopped. Anything else, such as SystemExit, is only reported.
                for_kernel = isinstance(error, Exception) or without_cancelled(error) is None
                if for_kernel or task.outcome or not kernel.running:
                    raise
                report(f"task {task.name} failed")
            finally:
                del tasks[coroutine]

        check_spawn(coroutine, name, tasks)
        task = tasks[coroutine] = self.hub.kernel.spawn(run(), name or getattr(coroutine, "__name__", ""))
        return task

    def __repr__(self) -> str:
        return f"<room {self.name}>"

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to overwrite a method, or a slot that has a value: all members of the room depend on them."""
        if hasattr(Room, name) and hasattr(self, name):
            raise AttributeError(f"room.{name} belongs to the server; rename your attribute")
        super().__setattr__(name, value)

    # What the methods for handlers are made of.

    def submit(
        self, member: Hearer | None, who: str, prefix: Text, messages: Text | Iterable[Text], but: Collection[Hearer]
    ) -> None:
        lines, text = compose(prefix, messages)
        if not text:
            return
        if member:
            self.hub.pace.talking.add(id(member))
        if self.hub.cluster:
            self.hub.cluster.publish(self, text, member, but)
        else:
            self.append(text, but)
        self.hub.journal.messages(who, lines)  # after append(), so spread() mostly sends before the journal writes

    def quiet(self) -> bool:
        """Whether the TOGETHER members have been sent all that was said here."""
        return not self.feed.fresh and self.outbox.place is self.feed.last

    def pass_on(self, member: Hearer, line: bytes) -> bool:
        """Put a short line into `told` for a TOGETHER member to which nothing else is due. Else return False."""
        told = self.told
        # A line in `told` implies quiet(): append() empties `told` before it adds to the feed.
        if member in told or len(line) > LIMIT or not (told or self.quiet()):
            return False
        if not told:
            self.hub.changed[self] = None
            self.hub.news.wake()
        told[member] = line
        return True

    def append(self, text: bytes, but: Collection[Hearer] = ()) -> None:
        """Append whole messages, with their newlines, to the feed, for all members except `but`."""
        if self.told:
            for member in list(self.told):
                member.stand_apart()  # moves its line from `told` to an outbox of its own: the line comes before `text`
        if but:
            spared = list(filter(self.present.__contains__, but))
            for member in spared:
                member.stand_apart()
                member.outbox.pull()  # so that skip() leaves out only `text`, and not what was due before
            self.feed.append(text)
            for member in spared:
                member.outbox.skip()
        else:
            self.feed.append(text)
        if self not in self.hub.changed:  # otherwise spread() was woken already
            self.hub.changed[self] = None
            self.hub.news.wake()
        self.hub.pace.add_published(len(text))


def compose(prefix: Text, messages: Text | Iterable[Text]) -> tuple[list[bytes], bytes]:
    """Prepare messages: return them as a list, each at most LIMIT bytes, and as one text with prefixes and newlines.

    Raises ValueError if there is a newline in one of them.
    """
    start: Any = prefix
    if type(messages) is Messages and messages.text:
        start = prefix if type(prefix) is bytes else encoded(prefix, "a prefix")
        if NEWLINE not in start:
            return messages, messages.joined(start)  # as it was received: nothing in it can be wrong
    lines: list[Any] = [messages]
    if not isinstance(messages, (bytes, str, bytearray)):
        lines = messages[:] if isinstance(messages, list) else check_messages(messages)
    if not lines:
        return [], b""
    try:
        text = join(start, lines)
    except TypeError:  # the prefix or a message is a str
        start, lines = encoded(start, "a prefix"), [encoded(line) for line in lines]
        text = join(start, lines)
    if len(text) > LIMIT and too_long(text, len(start) + LIMIT):
        lines = [part for line in lines for part in split(line)]
        text = join(start, lines)
    if NEWLINE in start + b"".join(lines):
        if NEWLINE in start:
            raise ValueError(f"a prefix has no newline in it, but this one has: {start!r}")
        raise ValueError("a message is one line: publish a list of messages instead of one with a newline in it")
    return lines, text


def one_line(text: Text) -> bytes:
    """The text encoded, and on one line: a newline in it becomes a space, so that it can't pass for two lines."""
    return encoded(text).replace(b"\n", b" ")


def encoded(text: Text, what: str = "a message") -> bytes:
    """A str as UTF-8; bytes as they are. Anything else raises a TypeError that begins with `what`."""
    if type(text) is bytes:
        return text
    if isinstance(text, str):
        return text.encode("utf-8", "replace")
    if not isinstance(text, (bytes, bytearray)):
        raise wrong(f"{what} is str or bytes", text)
    return bytes(text)
