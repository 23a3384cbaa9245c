"""One seed: a world, the server in it, and the oracle's questions."""

from __future__ import annotations

import errno
import signal
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import chat.server.journal
import chat.server.outbox
import chat.server.pace
import chat.server.receiving
import chat.server.room
import chat.server.sending
import chat.server.server
import loop.diagnose
import loop.poller
from chat.handlers.chat import chat as chat_handler
from chat.handlers.echo import echo
from chat.handlers.nick import nick
from chat.server.flags import Options
from loop import EpollPoller, Kernel, KqueuePoller, ReadWait, SelectPoller, WriteWait, recv, sleep

from . import oracle
from .clients import Client
from .handlers import wanderer
from .model import BROKEN, ENDING, Model
from .network import Listener, Socket
from .oracle import FAILED, Oracle, Witness
from .output import Bell, Output, Stderr
from .systems import Epoll, Files, Kqueue, Select
from .world import Failure, World, once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loop.traps import Coroutine

POLLERS: dict[str, tuple[Any, Any]] = {
    "epoll": (Epoll, EpollPoller),
    "kqueue": (Kqueue, KqueuePoller),
    "select": (Select, SelectPoller),
}
HANDLERS: dict[str, Any] = {"chat": chat_handler, "echo": echo, "nick": nick, "wanderer": wanderer}
PATIENCE = 3.0  # seconds of the processor's time that a run may take: it takes a few milliseconds


@contextmanager
def installed(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Put stand-ins where the production code looks things up, and everything back afterwards."""
    before = [(place, name, getattr(place, name)) for place, name, _ in changes]
    for place, name, standin in changes:
        setattr(place, name, standin)
    try:
        yield
    finally:
        for place, name, original in before:
            setattr(place, name, original)


class Run:
    """The life of one world."""

    def __init__(self, seed: int, history: list[str] | None = None) -> None:
        self.world = world = World(seed, history)
        pick, chance = world.pick, world.chance
        world.stderr = Stderr()
        self.system = pick("epoll", "epoll", "kqueue", "select")
        self.handler = pick(
            "chat", "chat", "chat", "chat", "echo", "nick", "wanderer", "wanderer", "wanderer", "wanderer"
        )
        world.count(f"the {self.system} poller")
        world.count(f"the {self.handler} handler")
        if self.system != "epoll":
            world.bare = 0  # a mask of epoll's
        self.options = options = Options()
        options.max_lag = pick(16 << 20, 16 << 20, 3000, 1024, 300)
        options.max_rate = pick(0, 0, 0, 0, 0, 0, 2000, 50)
        options.max_clients = pick(None, None, None, 2)
        options.max_per_ip = pick(0, 0, 0, 1)
        options.stall_timeout = pick(60.0, 2.0, 2.0, None)
        options.idle_timeout = pick(None, None, None, None, None, 30.0, 1.0)
        options.prefix = chance() < 0.8
        self.quiet = chance() < 0.05
        self.constants = [
            (chat.server.pace, "TURN", pick(1 << 20, 1 << 20, 100)),
            (chat.server.sending, "BATCH", pick(64 << 10, 64 << 10, 100, 1)),
            (chat.server.journal, "WAITING", pick(8 << 20, 8 << 20, 8 << 20, 300)),
            (chat.server.receiving, "MOST", pick(1000, 1000, 2)),
            (chat.server.receiving, "MUCH", pick(64 << 10, 64 << 10, 30)),
        ]
        system, self.poller = POLLERS[self.system]
        world.system = system(world)
        self.model = Model(world)
        self.calm = chance() < 0.5  # the end comes when nobody has anything left to do
        self.orders: list[str] = []  # for the task behind the bell

    def go(self) -> None:
        """Run to the end, and ask the oracle. Raises Failure."""
        world = self.world
        oracle.Segment.living = [0]
        with installed(
            (loop.diagnose, "write_some", world.stderr.write),
            (loop.poller, "select", world.system),
            (loop.poller, "os", Files(world)),
            (loop.poller, "MOST", world.most),
            (chat.server.outbox, "Segment", oracle.Segment),
            (chat.server.room, "Room", self.model.room),
            (chat.server.server, "Member", self.model.member),
            *self.constants,
        ):
            self.build()
            try:
                world.kernel.run(until=self.life)
                if self.life.outcome != "returned":
                    raise Failure(f"the server {self.life.outcome}: {world.stderr.text.decode()}")
                took = world.now - (self.oracle.stopped_at or 0)
                if took > 9 and self.oracle.timely:
                    raise Failure(f"the end took {took:g} seconds")
                self.bell_task.cancel()
                world.kernel.run()
                self.oracle.check()
            except BaseException as error:
                for task in list(world.kernel.tasks):  # quietly, now: not by the garbage collector in another run
                    try:
                        task.coroutine.close()
                    except BaseException:
                        pass
                if isinstance(error, Exception):
                    raise Failure(f"the kernel failed: {error!r}") from error
                raise
        self.count_ends()

    def build(self) -> None:
        world = self.world
        pick, chance = world.pick, world.chance
        world.poller = self.poller()
        world.kernel = kernel = Kernel(world.poller, world.clock)
        world.stdout = Output(world, chance() < 0.2)
        world.listeners = [Listener(world, 3100) for _ in range(pick(1, 1, 2))]
        world.bell = Bell(world)
        witness = Witness(self.model, pick(1 << 20, 100, 10), self.quiet)
        self.server = server = chat.server.server.Server(
            kernel,
            list(world.listeners),  # type: ignore[arg-type]
            witness,
            self.options,
            lambda member, room: self.oracle.watch(HANDLERS[self.handler])(member, room),
        )
        self.oracle = Oracle(world, self.model, server, witness, self.handler, self.options)
        world.turned = self.oracle.turned
        world.idle = self.oracle.idle
        world.ended = self.oracle.ended
        world.stuck = self.stuck
        world.meddle = self.meddle
        world.tell = self.tell
        self.life = kernel.spawn(server.run(), "server")
        self.bell_task = kernel.spawn(self.obey(), "the bell")
        span = pick(0.0, 0.01, 1.0, 30.0)  # how long clients go on arriving
        number = pick(1, 2, 3, 3, 4, 5, 8)
        talkative = pick(3, 6, 6, 30) if number < 5 else 4
        if self.handler == "wanderer":
            talkative *= 2
        fine = chance() < 0.4  # short messages through tiny buffers, or longer ones through larger buffers
        sizes = (5, 10, 50, 1000) if fine else (500, 3000, 10000)
        for serial in range(number):
            host = pick("10.0.0.1", "::ffff:10.0.0.2", "2001:db8::3") if serial % 2 else f"10.0.1.{serial}"
            client = Client(world, serial, pick(*world.listeners), host, talkative, fine)
            client.link = Socket(world, client, pick(*sizes), pick(*sizes), self.options.max_rate)
            if client.steady and self.options.max_lag < 10_000:  # just fast enough for --max-lag
                client.gulp = self.options.max_lag * 4 // 10
                client.link.room = self.options.max_lag
            if self.handler == "nick":
                client.speak_nick()
            elif self.handler == "wanderer":
                client.wander(number)
            world.clients.append(client)
            world.at(chance() * span, client.live())
        if self.options.max_lag in (1024, 3000) and any(client.steady for client in world.clients) and chance() < 0.5:
            pick(*world.clients).messages.append(b"\n" * 2000)  # more than a steady one can take at once
            world.leap = world.stop = world.race = 0  # nothing excuses its being sent away
        self.trouble(span)
        if not self.calm:
            world.at(pick(0, chance(), chance() * span, chance() * span), once(lambda: self.ring("stop")))

    # Trouble that no client makes.

    def trouble(self, span: float) -> None:
        world = self.world
        pick, chance = world.pick, world.chance
        for listener in world.listeners:
            if chance() < 0.2:
                numbers = errno.ECONNABORTED, errno.ENOBUFS, errno.EMFILE
                listener.failures = [pick(*numbers) for _ in range(pick(1, 2, 20))]
            if chance() < 0.1:
                listener.short_until = world.now + pick(0.05, 1.0, 5.0)
                listener.short_of = pick(errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        if chance() < 0.3:
            world.at(chance() * span, self.stdout_trouble(pick("stalled", "stalled", "gone", "full")))
        if chance() < 0.25:
            for _ in range(pick(1, 3)):
                world.at(chance() * span, once(lambda: self.ring("meddle")))
        if chance() < 0.3:
            world.telling = pick(0.01, 0.1)
        if chance() < 0.15:
            world.meddling = pick(0.002, 0.02)
            self.meddlings = 3

    def stdout_trouble(self, kind: str) -> Iterator[float]:
        world = self.world
        output, pick = world.stdout, world.pick
        if kind == "stalled":
            if output.always:
                return
            output.stalled = output.ever["stalled"] = True
            world.hit("stdout stalled")
            if world.history is not None:
                world.note("stdout stalls")
            yield pick(0.1, 10.0, 1e6)
            output.stalled = False
            if world.history is not None:
                world.note("stdout flows again")
        elif kind == "gone":
            output.gone = output.ever["gone"] = True
            if world.history is not None:
                world.note("nobody reads stdout any more")
        else:
            output.full, output.ever["full"] = pick(1, 3, 1000), True
            if world.history is not None:
                world.note("the disk under stdout is full")

    def ring(self, what: str) -> None:
        self.orders.append(what)
        self.world.bell.rings += 1

    def obey(self) -> Coroutine[None]:
        """COROUTINE. Does what is wanted of a task: stops the server, kicks somebody."""
        while True:
            try:
                yield from recv(self.world.bell, 1)  # type: ignore[arg-type]
            except OSError:
                yield from sleep(0.1)
                continue
            if self.orders.pop(0) == "stop":
                self.stop()
            else:
                self.interfere()

    def stop(self) -> None:
        world, ask = self.world, self.oracle
        if ask.stopped_at is None:
            busy = any(not client.finished for client in world.clients)
            world.hit("shutdown while clients talk" if busy else "shutdown at rest")
            if world.history is not None:
                world.note("the server is told to stop")
            ask.stopped_at = self.model.stopped_at = world.now
            self.model.tasks_at_stop = set(self.server.hub.tasks)
        else:
            world.count("told to stop again")
        self.server.stop()

    def meddle(self, client: Client | None) -> None:
        """Between two system calls, by way of whichever task makes them."""
        self.meddlings -= 1
        if not self.meddlings:
            self.world.meddling = 0.0
        self.interfere(client if self.world.chance() < 0.5 else None, amid=True)

    def interfere(self, client: Client | None = None, amid: bool = False) -> None:
        """Kick a member or cancel one of its tasks: this client's, or anybody's; perhaps amid its own step."""
        world = self.world
        members = list(self.server.connections)
        if client is not None:
            members = [member for member in members if member.name == self.oracle.name(client)]
        if not members:
            return
        member = world.pick(*members)
        way = world.pick("kick", "kick", "cancel its task", "cancel its writer")
        client = next(client for client in world.clients if self.oracle.name(client) == member.name)
        self.model.ears[member.name].interrupted |= amid
        world.hit(f"meddling: {way}")
        if world.history is not None:
            world.note(f"{client.name}: {way}")
        if way == "kick":
            member.kick("the world says so")
        elif way == "cancel its task":
            client.meddled = True
            member.task.cancel()
        else:
            if not self.model.ears[member.name].began:
                return
            client.meddled = True
            member.lose(ConnectionError("the world has cut it off"))

    def tell(self) -> None:
        """Tell one of the members something."""
        if members := list(self.server.hub.first.members):
            member = self.world.pick(*members)
            self.world.count("told something by a task other than its own")
            self.model.ears[member.name].interrupted = True
            member.tell(b"psst")

    def stuck(self) -> bool:
        """Nothing will happen any more. At a calm end that is the moment to stop."""
        if self.oracle.stopped_at is not None or self.orders:
            return False
        for client in self.world.clients:
            ear = self.model.ears.get(self.oracle.name(client))
            deaf = ear is not None and (ear.deaf or ear.stubborn)
            if client.attentive and client.fin and not (client.eof or client.broken or client.closed or deaf):
                raise Failure(f"{client.name} has ended its stream, reads, and waits for the server's end in vain")
        for member in self.server.connections:
            if member.kicked or member.failure or member.handled:
                raise Failure(
                    f"{member.name} should be gone ({member.reason or member.failure}), and is there for ever"
                )
            if self.options.idle_timeout and isinstance(member.task.waits_for, ReadWait):
                raise Failure(f"{member.name} may be silent for ever, --idle-timeout is {self.options.idle_timeout:g}")
            if self.options.stall_timeout and member.writer and isinstance(member.writer.waits_for, WriteWait):
                raise Failure(
                    f"{member.name} may take nothing for ever, --stall-timeout is {self.options.stall_timeout:g}"
                )
        self.ring("stop")
        return True

    def count_ends(self) -> None:
        """What became of the connections, for the table."""
        count = self.world.count
        for reason in self.oracle.witness.terminated.values():
            for text, name in (
                ("more than", "kicked: too far behind"),
                ("took nothing", "kicked: stalled"),
                ("silent", "kicked: idle"),
                ("the server is full", "refused: full"),
                ("too many", "refused: address"),
                (ENDING, "ended by shutdown"),
                ("end of stream", "ended by FIN"),
                ("left", "left by itself"),
                (BROKEN, "ended by its handler's failure"),
            ):
                if reason.startswith(text):
                    count(name)
            if reason in FAILED:
                count("ended by an error")
        if self.oracle.witness.lost or b"lines were left out" in self.world.stdout.text:
            count("journal left lines out")


def failure_of(seed: int, history: list[str] | None = None) -> tuple[str, Counter[str]]:
    """What the oracle says about a seed ("" if all is well), and how often which fault occurred."""
    Failure.found.clear()
    run = Run(seed, history)

    def hangs(*_: object) -> None:
        raise Failure("the server does not come back to the poller, nor make a system call")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE, 1)  # again and again: what hangs may take it for its own
    failure = ""
    try:
        run.go()
        failure = str(Failure.found[0]) if Failure.found else ""  # somebody has taken it for its own
    except Failure as found:
        failure = str(found)
    except SystemExit as status:
        failure = f"the server has ended with {status!r}: {run.world.stderr.text.decode()}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return failure, Counter(run.world.hits)
