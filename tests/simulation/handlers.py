"""A handler that does all that handlers may do, and some of what they should not: whatever its client tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loop import TimedOut, WaitQueue, sleep

from .world import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chat.server.member import Member
    from chat.server.room import Room
    from loop.traps import Coroutine

    from .world import World


class OnPurpose(Exception):
    """What a handler fails with."""


FAILURES = {
    "error": lambda: OnPurpose("on purpose"),
    "oserror": lambda: OSError("on purpose"),
    "exit": lambda: SystemExit("on purpose"),
}


def wanderer(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. What is no command is published in the room where the member is."""
    yield from Wanderer(member, room).run()


class Wanderer:
    """One client's handler. Each command is a method: `/go cellar` is go("cellar")."""

    def __init__(self, member: Any, room: Room) -> None:
        self.member = member
        self.ear = member.ear
        self.world: World = member.model.world
        self.first = room
        self.timeout: float | None = None  # of the next receive()
        self.but: list[Any] = []  # whom the next message spares
        self.alone = False  # each message is published alone
        self.swallows: tuple[type[BaseException], ...] = ()
        self.heedless = False  # it goes on after the end of the stream
        self.farewell = ""  # what it announces at its end
        self.closing = False  # once is enough: the garbage collector closes generators too
        self.fails_late = self.haunts = False
        self.done = False

    @property
    def here(self) -> Room:
        return self.member.room or self.first

    def run(self) -> Coroutine[None]:
        """COROUTINE. Until the end of the stream, or longer."""
        self.member.tell("Welcome: go where you like.")
        try:
            while not self.done:
                timeout, self.timeout = self.timeout, None
                try:
                    messages = yield from self.member.receive(timeout)
                except TimedOut:
                    self.member.tell("nobody says anything")
                    continue
                except self.swallows as error:
                    if self.closing and isinstance(error, GeneratorExit):
                        raise
                    self.closing |= isinstance(error, GeneratorExit)
                    self.world.count("an exception was swallowed")
                    continue
                if not messages and not self.heedless:
                    break
                yield from self.obey(messages)
        finally:
            if self.farewell:
                self.here.announce(self.farewell)
                self.member.tell(self.farewell)
            if self.haunts:
                self.here.spawn(waiting(self.world, self.here), f"waiting of {self.member.name}")
            if self.fails_late:
                raise OnPurpose("on purpose")

    def obey(self, messages: list[bytes]) -> Coroutine[None]:
        """COROUTINE. Carry out commands, and publish what is between them."""
        said: list[bytes | str] = []
        for message in messages:
            if not message.startswith(b"/"):
                said.append(message)
                if self.alone or self.but:
                    self.publish(said)
                continue
            self.publish(said)
            verb, *words = message[1:].decode("utf-8", "replace").split()
            pause = getattr(self, verb)(*words)
            if pause is not None:
                yield from pause
            if self.done:
                return
        self.publish(said)

    def publish(self, said: list[bytes | str]) -> None:
        if said:
            if self.but:
                self.world.count("spared somebody")
            self.here.publish(self.member, said[0] if len(said) == 1 else said, self.but)
        said.clear()
        self.but = []

    def other(self, number: str) -> Any:
        """The member with that number, if it is in this room."""
        found = [other for other in self.here.members if other.name.endswith(f":{40000 + int(number)}")]
        return found[0] if found else self.member

    # Rooms.

    def go(self, name: str) -> None:
        self.member.enter(self.first.other(name))

    def out(self) -> None:
        self.member.enter(None)

    def back(self) -> None:
        self.member.enter(self.first)

    def sparing(self, *numbers: str) -> None:
        self.but = [self.other(number) for number in numbers]

    def each(self) -> None:
        self.alone = True

    def announce(self, word: str) -> None:
        self.here.announce(word)

    def text(self, word: str) -> None:
        """Publish text of several kinds at once, and a message over 1024 bytes."""
        self.here.publish(self.member, [word, word.encode(), word * 400])

    def newline(self) -> None:
        try:
            self.here.publish(self.member, "one\ntwo")
        except ValueError:
            self.world.count("a newline was refused")
        else:
            if not self.member.kicked:
                raise Failure("a message with a newline in it was published")

    def tell(self, number: str, word: str) -> None:
        self.other(number).tell(word)

    def kick(self, number: str) -> None:
        self.world.count("kicked by a handler")
        self.other(number).kick("go away")

    # Tasks of the room.

    def spawn(self, kind: str) -> None:
        here = self.here
        task = here.spawn(TASKS[kind](self.world, here), f"{kind} of {self.member.name}")
        if kind == "cancelled":
            task.cancel()

    def haunt(self) -> None:
        """Leave a task behind at the end."""
        self.haunts = True

    # Its own time.

    def listen(self, seconds: str) -> None:
        self.timeout = float(seconds)

    def slow(self, seconds: str) -> Coroutine[None]:
        """COROUTINE. Does not receive for so long."""
        yield from sleep(float(seconds))

    def clock(self, number: str, seconds: str) -> Coroutine[None]:
        """COROUTINE. Receives no more: tells the time some times, and waits for its end."""
        self.ear.deaf = True
        self.world.count("a handler that never receives")
        for tick in range(int(number)):
            yield from sleep(float(seconds))
            self.member.tell(f"tick {tick}")
        yield from WaitQueue().wait()

    # Its end, and what it should not do.

    def wave(self, word: str) -> None:
        self.farewell = word

    def leave(self) -> None:
        self.done = True

    def ignore_end(self) -> None:
        self.heedless = True

    def go_on(self) -> None:
        """Take no end for an end, and no cancelling either."""
        self.ignore_end()
        self.swallow("everything")

    def swallow(self, what: str) -> None:
        self.swallows = (Exception,) if what == "exceptions" else (BaseException,)
        self.ear.stubborn = self.ear.stubborn or what == "everything"

    def stubborn(self) -> Coroutine[None]:
        """COROUTINE. Does not let itself be ended."""
        self.ear.deaf = self.ear.stubborn = True
        yield from insist(self.world)

    def fail(self, kind: str) -> None:
        self.ear.failed = True
        if kind == "late":
            self.fails_late = True
        else:
            raise FAILURES[kind]()  # type: ignore[no-untyped-call]


def insist(world: World) -> Coroutine[None]:
    """COROUTINE. Waits for ever, and will not be told otherwise."""
    closing = False
    while True:
        try:
            yield from WaitQueue().wait()
        except BaseException as error:
            if closing and isinstance(error, GeneratorExit):
                raise
            closing |= isinstance(error, GeneratorExit)
            world.count("an exception was swallowed")


def game(world: World, room: Room) -> Coroutine[None]:
    """COROUTINE. Says something now and then."""
    for turn in range(3):
        yield from sleep(world.pick(0, 0.01, 1.0))
        room.announce(f"turn {turn}")
    world.count("a room's task ended")


def failing(world: World, room: Room) -> Coroutine[None]:
    """COROUTINE. Fails."""
    yield from sleep(0.01)
    world.count("a room's task failed")
    raise OnPurpose("on purpose")


def waiting(world: World, room: Room) -> Coroutine[None]:
    """COROUTINE. Waits for ever."""
    try:
        yield from WaitQueue().wait()
    finally:
        world.count("a room's task was ended")
        room.announce("the game is over")


def stubborn(world: World, room: Room) -> Coroutine[None]:
    """COROUTINE. Does not let itself be ended."""
    yield from insist(world)


TASKS: dict[str, Any] = {
    "game": game, "failing": failing, "waiting": waiting, "stubborn": stubborn, "cancelled": game,
}  # fmt: skip


def commands(world: World, number: int) -> Iterator[bytes]:
    """Commands for a client, `number` of them to be with: endless, but not many different ones."""
    pick, below = world.pick, world.below
    kinds = [pick(*COMMANDS) for _ in range(5)]
    while True:
        yield pick(*kinds)(pick, lambda: below(number)).encode()


COMMANDS: list[Callable[[Callable[..., Any], Callable[[], int]], str]] = [
    lambda pick, other: f"/go {pick('cellar', 'attic')}",
    lambda pick, other: f"/go {pick('cellar', 'attic')}",
    lambda pick, other: "/out",
    lambda pick, other: "/back",
    lambda pick, other: f"/sparing {other()} {other()}",
    lambda pick, other: f"/sparing {other()}",
    lambda pick, other: "/each",
    lambda pick, other: f"/announce {pick('hear', 'now')}",
    lambda pick, other: "/text grüße",
    lambda pick, other: "/newline",
    lambda pick, other: f"/tell {other()} {pick('psst', 'x' * 99)}",
    lambda pick, other: f"/tell {other()} {pick('psst', 'x' * 99)}",
    lambda pick, other: f"/spawn {pick(*TASKS)}",
    lambda pick, other: f"/listen {pick('0', '0.01', '1', '3')}",
    lambda pick, other: f"/listen {pick('0', '0.01', '1', '3')}",
    lambda pick, other: f"/kick {other()}",
    lambda pick, other: f"/slow {pick('0', '0.01', '0.5', '3')}",
    lambda pick, other: f"/wave {pick('bye', 'farewell')}",
    lambda pick, other: "/haunt",
]


def mischief(world: World, number: int) -> bytes:
    """What a handler should not do."""
    pick = world.pick
    text: str = pick(
        f"/clock {pick(1, 3, 20)} {pick('0', '0.5', '3')}", "/stubborn", "/stubborn", "/swallow exceptions",
        "/swallow everything", "/spawn stubborn", "/spawn stubborn", "/ignore_end", "/go_on", f"/fail {pick('error', 'oserror', 'exit', 'late', 'late')}",
        f"/kick {world.below(number)}", "/leave",
    )  # fmt: skip
    return text.encode()
