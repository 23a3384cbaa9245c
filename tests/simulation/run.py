"""One seed: a world, the server in it, and the oracle's questions."""

from __future__ import annotations

import email.utils
import signal
from collections import Counter
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import websockets.frames
import websockets.utils

import chat.server.journal
import chat.server.outbox
import chat.server.pace
import chat.server.receiving
import chat.server.room
import chat.server.sending
import chat.server.server
import chat.server.web.site
import loop.diagnose
import loop.poller
from chat.server.connection import FAREWELL, LINGER
from chat.server.flags import Options
from loop import EpollPoller, Kernel, KqueuePoller, ReadWait, SelectPoller, WriteWait, join, recv, sleep

from . import oracle
from .clients import SimulatedClient
from .model import BROKEN, ENDING, Ear
from .network import Socket
from .node import Node
from .oracle import FAILED, check_world, name_of
from .output import Bell, Stderr
from .systems import Epoll, Files, Kqueue, Select
from .world import Failure, World, once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loop import Task
    from loop.traps import Coroutine

    from .shared import Shared

POLLERS: dict[str, tuple[Any, Any]] = {
    "epoll": (Epoll, EpollPoller),
    "kqueue": (Kqueue, KqueuePoller),
    "select": (Select, SelectPoller),
}
CLUSTERS = find_spec("hiredis") is not None
LONGEST = 100  # seconds that clients may take to say all, and members to receive it
FEW = 5  # one seed of so many is that of a cluster
END = FAREWELL + 6 * LINGER + oracle.SLACK  # seconds: tasks are ended, members go, and the journal is written
PATIENCE = 60.0  # seconds of the processor's time that a run may take: most take milliseconds, one in 50,000 takes 20 s


def never(usegmt: bool) -> str:
    """The date in each HTTP answer."""
    return "Thu, 01 Jan 1970 00:00:00 GMT"


class Dice:
    """The `secrets` of websockets."""

    def __init__(self, world: World) -> None:
        self.world = world

    def token_bytes(self, size: int) -> bytes:
        return self.world.random.getrandbits(8 * size).to_bytes(size, "big")


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

    def __init__(self, seed: int, history: list[str] | None = None, cluster: bool = False) -> None:
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
        self.ears: dict[str, Ear] = {}
        self.nodes: list[Node] = []
        self.lives: list[Task] = []
        self.shared: Shared | None = None
        if cluster:
            from .shared import Shared

            self.shared = Shared(world)
        self.calm = chance() < 0.5  # the end comes when nobody has anything left to do
        self.orders: list[Callable[[], object]] = []  # for the task behind the bell

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
            (chat.server.sending, "write", world.write),
            (chat.server.room, "Room", lambda hub, name: hub.journal.model.room(hub, name)),
            (chat.server.server, "Member", lambda *about: about[3].journal.model.member(*about)),
            (websockets.frames, "secrets", Dice(world)),
            (websockets.utils, "secrets", Dice(world)),
            (chat.server.web.site, "formatdate", never),
            (email.utils, "formatdate", never),
            *self.constants,
            *(self.shared.installed() if self.shared else ()),
        ):
            self.build()
            try:
                world.kernel.run(until=self.life)
                self.bell_task.cancel()
                world.kernel.run()
                for node in self.nodes:
                    if node.ended_at is None:
                        raise Failure(f"a server has failed: {world.stderr.text.decode()}")
                    took = node.ended_at - (node.oracle.stopped_at or 0)
                    if took > END + node.oracle.return_time and node.oracle.timely:
                        raise Failure(f"the end took {took:g} seconds")
                oracles = [node.oracle for node in self.nodes]
                check_world(world, oracles)
                for one in oracles:
                    one.check()
                if self.shared:
                    self.shared.check_streams()
                    self.shared.check_ends(self.nodes)
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
        for _ in range(pick(1, 2, 2, 3) if self.shared else 1):
            self.add_node(at_start=True)
        world.bell = Bell(world)
        world.turned = self.turned
        world.idle = self.idle
        world.ended = lambda link: self.home(link.client).oracle.ended(link)
        world.stuck = self.stuck
        world.meddle = self.meddle
        world.tell = self.tell
        self.life = kernel.spawn(self.live(), "lives") if self.shared else self.lives[0]
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
            home = pick(*self.nodes) if len(self.nodes) > 1 else self.nodes[0]
            client = SimulatedClient(world, serial, pick(*home.listeners), host, talkative, fine)
            if kind := home.kinds.get(client.listener):
                client.come_with(kind)
            client.link = Socket(world, client, pick(*sizes), pick(*sizes), self.options.max_rate)
            if client.steady and self.options.max_lag < 10_000:  # just fast enough for --max-lag
                client.gulp = self.options.max_lag * 4 // 10
                client.link.room = self.options.max_lag
            if self.handler == "nick":
                client.speak_nick()
            elif self.handler == "wanderer":
                client.wander(number)
            world.clients.append(client)
            home.oracle.clients.append(client)
            world.at(chance() * span, client.live())
        if self.options.max_lag in (1024, 3000) and any(client.steady for client in world.clients) and chance() < 0.5:
            pick(*world.clients).messages.append(b"\n" * 2000)  # more than a steady one can take at once
            world.leap = world.stop = world.race = 0  # nothing excuses its being sent away
        for node in self.nodes:
            node.trouble(span)
        self.interruptions(span)
        if self.shared:
            from .accidents import Accidents

            self.accidents = Accidents(self, self.shared)
            world.at(chance() * pick(0, 0.01, span), self.accidents.happen())
            if self.calm:
                world.at(span, self.wait_for_calm(self.shared))
        if not self.calm:
            world.at(pick(0, chance(), chance() * span, chance() * span), once(lambda: self.ring(self.stop)))

    # Nodes.

    def add_node(self, at_start: bool = False) -> None:
        if self.nodes and self.ended:
            return
        node = Node(self.world, self.ears, self.options, self.handler, self.quiet, len(self.nodes))
        self.nodes.append(node)
        if self.shared:
            self.shared.join(node, at_start)
        self.lives.append(self.world.kernel.spawn(node.live(), "server"))

    def live(self) -> Coroutine[None]:
        """COROUTINE. Until the last node has ended."""
        for life in self.lives:  # there may be more of them meanwhile
            yield from join(life)

    def wait_for_calm(self, shared: Shared) -> Iterator[float]:
        """Steps for World.at: until nothing more goes wrong, and everybody has said all, if that does not take long."""
        waited = 0
        while not (shared.over and (self.finished or waited > LONGEST)):
            waited += shared.over
            yield 1.0
        self.ring(lambda: self.world.kernel.spawn(self.settle(shared), "settling"))

    def settle(self, shared: Shared) -> Coroutine[None]:
        """COROUTINE. Let all that was said become known to all, and ask whether it is; then comes the end."""
        world = self.world
        self.accidents.mend()
        world.be_calm()
        for _ in range(10 * LONGEST):
            yield from sleep(1)
            if self.finished and not any(node.busy for node in self.nodes):
                break
        yield from sleep(shared.settled)
        alive = [node for node in self.nodes if node.oracle.stopped_at is None]
        shared.check_settled(alive)  # though nobody speaks
        for node in alive:
            node.server.hub.first.announce(f"this was node {node.number}")
        yield from sleep(shared.settled)
        world.count("a cluster settled")
        shared.check_settled(alive)
        self.check_clients()
        self.stop()

    @property
    def finished(self) -> bool:
        """Whether all clients have said all."""
        return all(client.finished for client in self.world.clients)

    @property
    def ended(self) -> bool:
        """Whether all are told to stop."""
        return all(node.oracle.stopped_at is not None for node in self.nodes)

    def home(self, client: SimulatedClient) -> Node:
        """Where that one is connected."""
        return next(node for node in self.nodes if client.listener in node.listeners)

    def turned(self) -> None:
        for node in self.nodes:
            node.oracle.turned()

    def idle(self) -> None:
        for node in self.nodes:
            if node.ended_at is None:
                node.oracle.idle()

    # Trouble that no client makes.

    def interruptions(self, span: float) -> None:
        world = self.world
        pick, chance = world.pick, world.chance
        if chance() < 0.25:
            for _ in range(pick(1, 3)):
                world.at(chance() * span, once(lambda: self.ring(self.interfere)))
        if chance() < 0.3:
            world.telling = pick(0.01, 0.1)
        if chance() < 0.15:
            world.meddling = pick(0.002, 0.02)
            self.meddlings = 3

    def ring(self, what: Callable[[], object]) -> None:
        """Have a task do this."""
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
            self.orders.pop(0)()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def meddle(self, client: SimulatedClient | None) -> None:
        """Between two system calls, by way of whichever task makes them."""
        self.meddlings -= 1
        if not self.meddlings:
            self.world.meddling = 0.0
        self.interfere(client if self.world.chance() < 0.5 else None, amid=True)

    def interfere(self, client: SimulatedClient | None = None, amid: bool = False) -> None:
        """Kick a member or cancel one of its tasks: this client's, or anybody's; perhaps amid its own step."""
        world = self.world
        members = [member for node in self.nodes for member in node.server.connections]
        if client is not None:
            members = [member for member in members if member.name == name_of(client)]
        if not members:
            return
        member = world.pick(*members)
        way = world.pick("kick", "kick", "cancel its task", "cancel its writer")
        client = next(client for client in world.clients if name_of(client) == member.name)
        self.ears[member.name].interrupted |= amid
        world.hit(f"meddling: {way}")
        if world.history is not None:
            world.note(f"{client.name}: {way}")
        if way == "kick":
            member.kick("the world says so")
        elif way == "cancel its task":
            client.meddled = True
            member.task.cancel()
        else:
            if not self.ears[member.name].began:
                return
            client.meddled = True
            member.lose(ConnectionError("the world has cut it off"))

    def tell(self) -> None:
        """Tell one of the members something."""
        if members := [member for node in self.nodes for member in node.server.hub.first.members]:
            member = self.world.pick(*members)
            self.world.count("told something by a task other than its own")
            self.ears[member.name].interrupted = True
            member.tell(b"psst")

    def stuck(self) -> bool:
        """Nothing will happen any more. At a calm end that is the moment to stop."""
        if self.ended or self.orders or self.shared:
            return False
        self.check_clients()
        self.check_members()
        self.ring(self.stop)
        return True

    def check_clients(self) -> None:
        """Nobody waits for what will never happen."""
        for client in self.world.clients:
            ear = self.ears.get(name_of(client))
            deaf = ear is not None and (ear.deaf or ear.stubborn)
            if client.attentive and client.fin and not (client.eof or client.broken or client.closed or deaf):
                raise Failure(f"{client.name} has ended its stream, reads, and waits for the server's end in vain")

    def check_members(self) -> None:
        """No member stays that should go, now that nothing happens any more."""
        for member in [member for node in self.nodes for member in node.server.connections]:
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

    def count_ends(self) -> None:
        """What became of the connections, for the table."""
        count = self.world.count
        for reason in [reason for node in self.nodes for reason in node.witness.terminated.values()]:
            for text, name in (
                ("more than", "kicked: too far behind"),
                ("took nothing", "kicked: stalled"),
                ("silent", "kicked: idle"),
                ("no answer to a ping", "kicked: mute"),
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
        if any(node.witness.left_out or b"lines were left out" in node.output.text for node in self.nodes):
            count("journal left lines out")


def failure_of(seed: int, history: list[str] | None = None, cluster: bool | None = None) -> tuple[str, Counter[str]]:
    """What the oracle says about a seed ("" if all is well), and how often which fault occurred.

    `cluster`: whether there are several servers in it; None: the seed decides.
    """
    Failure.found.clear()
    run = Run(seed, history, CLUSTERS and seed % FEW == FEW - 1 if cluster is None else cluster)

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
