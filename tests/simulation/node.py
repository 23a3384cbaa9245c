"""One server in its world: its listeners, its stdout, the books that are kept of it, and its oracle."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import chat.server.server
from chat.handlers.chat import chat as chat_handler
from chat.handlers.echo import echo
from chat.handlers.nick import nick
from chat.server.web.wire import keep_alive
from loop import TimedOut, join

from .handlers import wanderer
from .model import Model
from .network import Listener
from .oracle import Oracle, Witness
from .output import Output
from .wires import Wires

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.server.flags import Options
    from loop.traps import Coroutine

    from .model import Ear
    from .world import World

HANDLERS: dict[str, Any] = {"chat": chat_handler, "echo": echo, "nick": nick, "wanderer": wanderer}
KINDS = "a browser", "TLS", "a browser over TLS"  # of wires: the cheapest first


class Node:
    """A server that runs alone, or one of several in a cluster."""

    def __init__(
        self, world: World, ears: dict[str, Ear], options: Options, handler: str, quiet: bool, number: int = 0
    ) -> None:
        pick, chance = world.pick, world.chance
        self.world = world
        self.number = number
        self.model = Model(world, ears)
        self.output = Output(world, chance() < 0.2)
        self.listeners = [Listener(world, 3100) for _ in range(pick(1, 1, 2))]
        kinds = pick(KINDS, KINDS[:1]) if chance() < 0.25 else ()
        self.kinds = {Listener(world, 3101 + number): kind for number, kind in enumerate(kinds)}
        self.listeners += self.kinds
        wires = Wires()
        self.witness = Witness(self.model, self.output, pick(1 << 20, 100, 10), quiet)
        self.server = server = chat.server.server.Server(
            world.kernel,
            list(self.listeners),  # type: ignore[arg-type]
            self.witness,
            options,
            lambda member, room: self.oracle.watch(HANDLERS[handler])(member, room),
            wires={listener: wires.make(kind) for listener, kind in self.kinds.items()},  # type: ignore[misc]
        )
        self.oracle = Oracle(world, self.model, server, self.witness, handler, options)
        self.ended_at: float | None = None

    def live(self) -> Coroutine[None]:
        """COROUTINE. The server's life."""
        pings = self.world.kernel.spawn(self.ping(self.world.pick(100.0, 300.0)), "pings") if self.kinds else None
        yield from self.server.run()
        if pings:
            pings.cancel()
        self.ended_at = self.world.now

    def ping(self, seconds: float) -> Coroutine[None]:
        """COROUTINE. Asks browsers for signs of life, for so long: a run has to come to rest."""
        server, kernel = self.server, self.world.kernel
        self.oracle.pinged_until = kernel.clock() + seconds
        pings = kernel.spawn(keep_alive(server.connections, server.hub.pace), "all pings")
        try:
            yield from join(pings, seconds)
        except TimedOut:
            pass
        finally:
            pings.cancel()

    def stop(self) -> None:
        world, ask = self.world, self.oracle
        if ask.stopped_at is None:
            busy = any(not client.finished for client in ask.clients)
            world.hit("shutdown while clients talk" if busy else "shutdown at rest")
            if world.history is not None:
                world.note("the server is told to stop")
            ask.stopped_at = self.model.stopped_at = world.now
            self.model.tasks_at_stop = set(self.server.hub.tasks)
        else:
            world.count("told to stop again")
        self.server.stop()

    @property
    def busy(self) -> bool:
        """Whether somebody is at the door, or a member has still something of its own to receive, or to end."""
        if any(listener.backlog for listener in self.listeners):
            return True
        for member in self.server.connections:
            link = self.model.ears[member.name].link
            if link.incoming or member.unread or member.handled or member.kicked or member.failure:
                return True
            if (link.fin or link.reset) and not self.model.ears[member.name].deaf:
                return True
        return False

    # Trouble that no client makes.

    def trouble(self, span: float) -> None:
        world = self.world
        pick, chance = world.pick, world.chance
        for listener in self.listeners:
            if chance() < 0.2:
                numbers = errno.ECONNABORTED, errno.ENOBUFS, errno.EMFILE
                listener.failures = [pick(*numbers) for _ in range(pick(1, 2, 20))]
            if chance() < 0.1:
                listener.short_until = world.now + pick(0.05, 1.0, 5.0)
                listener.short_of = pick(errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        if chance() < 0.3:
            world.at(chance() * span, self.stdout_trouble(pick("stalled", "stalled", "gone", "full")))

    def stdout_trouble(self, kind: str) -> Iterator[float]:
        world = self.world
        output, pick = self.output, world.pick
        if kind == "stalled":
            if output.always:
                return
            output.stalled = output.ever["stalled"] = True
            world.hit("stdout stalled")
            if world.history is not None:
                world.note("stdout stalls")
            yield pick(0.1, 10.0, 1e6)
            if self.ended_at is not None:
                return
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
