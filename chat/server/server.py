"""Admission, the life of a connection from accepted to terminated, and the orderly end."""

from __future__ import annotations

import errno

from loop import (
    Cancelled,
    Kernel,
    TimedOut,
    WaitQueue,
    accept,
    complain,
    explain,
    report,
    sleep,
    vital,
    without_cancelled,
)

from ..escape import harmless
from ..handlers.chat import chat
from .admission import Admission, Count
from .connection import FAREWELL, LINGER, Patience, reset_unless_complete, see_off, shake_hands
from .flags import Options
from .journal import Journal
from .listen import GONE_EARLY, MAPPED
from .member import APART, NEW, OVER, Member
from .overdue import Overdue, end_tasks
from .room import Hub
from .sending import spread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Any, Callable

    from loop import Task
    from loop.traps import Coroutine

    from .loading import Handler, Start
    from .wire import MakeWire, Wire


class Server:
    """A chat on `listeners`, non-blocking listening sockets. The only descriptors it opens are those of connections.

    `handler` is run for each member, and `start` once, when the server starts. `wires` has, for each listener
    that is not for plain connections, the function that makes a member's wire from its socket.
    """

    def __init__(
        self,
        kernel: Kernel,
        listeners: list[socket.socket],
        journal: Journal,
        options: Options,
        handler: Handler = chat,
        start: Start | None = None,
        wires: Mapping[socket.socket, MakeWire] | None = None,
    ) -> None:
        self.kernel = kernel
        self.listeners = listeners
        self.journal = journal
        self.options = options
        self.handler = handler
        self.start = start
        self.wires = wires or {}
        self.hub = Hub(kernel, options, journal)
        self.admission = Admission(options)
        self.connections: dict[Member, Count] = {}  # oldest first; each with the Count that it is in
        self.stopping = False
        self.unsettled = 0  # messages that have not come back from the cluster at the end
        self.change = WaitQueue()  # run() waits here: for stop(), then until all members are gone
        self.overdue = Overdue(kernel, self.drop)
        self.hub.insist = self.overdue.insist
        journal.before_writing = kernel.close_collected  # a connection is closed before the journal says so

    def run(self) -> Coroutine[None]:
        """COROUTINE. The whole life of the server. Ends after stop(), when all members are gone and all is written."""
        kernel, hub = self.kernel, self.hub
        writers = [self.spawn("journal", self.journal.write), self.spawn("spread", spread, hub)]
        helpers = [self.spawn("accept", self.keep_accepting, listener) for listener in self.listeners]
        helpers.append(self.spawn("pace", hub.pace.keep_looking))
        overdue = self.spawn("overdue", self.overdue.see_handlers_end)
        cluster_task = self.spawn("cluster", hub.cluster.run) if hub.cluster else None
        if self.start:
            hub.first.spawn(self.run_start(self.start), "start")
        while not self.stopping:
            yield from self.change.wait()
        for helper in helpers:
            helper.cancel()
        for listener in self.listeners:
            kernel.close(listener)
        yield from end_tasks(hub)
        if hub.cluster:
            yield from hub.cluster.finish(FAREWELL)
        patience = Patience(kernel.clock, FAREWELL + 3 * LINGER, FAREWELL)
        for member in self.connections:
            member.kick("the server is ending", keep=True)
        try:
            while self.connections:
                yield from patience.spend(self.change.wait)
        except TimedOut:
            for member in list(self.connections):
                self.drop(member)
        yield from end_tasks(hub)  # tasks that handlers have spawned meanwhile
        if hub.cluster and cluster_task:
            yield from hub.cluster.wait_for_return(LINGER)  # for what handlers have said while they ended
            cluster_task.cancel()
            self.unsettled = hub.cluster.count_unsettled()
        try:
            yield from self.journal.flush(LINGER)
        except TimedOut:
            pass
        for task in [overdue, *writers]:
            task.cancel()

    def run_start(self, start: Start) -> Coroutine[None]:
        """COROUTINE. Runs `start`, in a task of its own, so that its mistakes are reported like those of any task."""
        yield from start(self.hub.first)

    def spawn(self, name: str, begin: Callable[..., Coroutine[None]], *arguments: object) -> Task:
        """Run a coroutine that the server cannot do without."""
        return self.kernel.spawn(vital(lambda: begin(*arguments), name), name)

    def stop(self) -> None:
        """Begin the orderly end: no new connections, no more reading; what is due is delivered, within FAREWELL."""
        self.stopping = True
        self.change.wake_all()

    # Admission.

    def keep_accepting(self, listener: socket.socket) -> Coroutine[None]:
        """COROUTINE. Accepts connections for as long as the server runs. Goes on after every OSError."""
        complain_from = 0.0  # no complaint before this time
        make_wire = self.wires.get(listener)
        while True:
            try:
                for sock, address in (yield from accept(listener)):
                    self.begin_serving(sock, address, make_wire)
            except OSError as error:
                if errno.errorcode.get(error.errno or 0) in GONE_EARLY:
                    continue
                if self.kernel.clock() >= complain_from:
                    complain(f"chatsrv: cannot accept connections: {error.strerror}; still trying")
                    complain_from = self.kernel.clock() + 60
                yield from sleep(0.1)  # out of descriptors or memory; the connection stays in the backlog

    def begin_serving(self, sock: socket.socket, address: Any, make_wire: MakeWire | None = None) -> None:
        """Begin to serve a new connection, which counts as a member now or after its handshake; or refuse it."""
        if address is None:  # on macOS, if the connection was reset before it was accepted
            return self.kernel.close(sock)
        host, port = address[0], address[1]  # getpeername() would fail after an early reset
        if host.startswith(MAPPED):
            host = host[len(MAPPED) :]
        wire, why = self.wire(sock, host, make_wire) if make_wire else (None, "")
        member = Member(sock, host, port, self.hub, wire)
        self.journal.say(member.name, "accepted connection")
        if why:
            self.count(member, self.admission.refused)
            member.reason = why
            return self.close(member)  # without a handshake, the member cannot be told why
        member.task = self.kernel.spawn(self.serve(member), member.name)
        if wire:
            self.count(member, self.admission.shaking)
        else:
            self.admit_or_refuse(member)

    def wire(self, sock: socket.socket, host: str, make_wire: MakeWire) -> tuple[Wire | None, str]:
        """A wire for a connection from `host`, or why there is none."""
        try:
            if refusal := self.admission.handshake_refusal(host):
                return None, refusal
            return make_wire(sock), ""
        except OSError as error:
            return None, (error.strerror or str(error)).lower()
        except Exception:
            report(f"there is no wire for a connection from {host}")
            return None, "it has no wire"

    def admit_or_refuse(self, member: Member) -> None:
        """Count the connection as a member from now on, or tell it why not."""
        if refusal := self.admission.refusal(member.host):
            self.count(member, self.admission.refused)
            member.handled = True  # it has no handler
            member.dismiss(refusal)
        else:
            self.count(member, self.admission.members)

    def count(self, member: Member, count: Count) -> None:
        """Count a connection in `count`, and no longer where it was counted before."""
        if member in self.connections:
            self.connections[member].remove(member.host)
        count.add(member.host)
        self.connections[member] = count

    # A connection.

    def serve(self, member: Member) -> Coroutine[None]:
        """COROUTINE. One connection, from accepted to terminated, however it ends."""
        try:
            if member.wire:
                if not (yield from shake_hands(member, member.wire)):
                    return
                self.admit_or_refuse(member)
            try:
                if member.reason:  # it was refused, or kicked in its handshake
                    member.become(APART)
                else:
                    member.enter(self.hub.first)
                    yield from self.handler(member, self.hub.first)
                    if self.hub.cluster and not member.reason:  # its last words have yet to come back from Redis
                        yield from self.hub.cluster.wait_for_return(FAREWELL)
            except Cancelled:
                pass  # it was kicked, or its handler asked for messages after the end
            except BaseException as error:
                if member.handled or member not in self.connections:
                    return  # drop() has set `handled`; this is the handler's answer
                if isinstance(error, GeneratorExit) and not self.kernel.running:
                    raise  # the kernel has stopped, and Python frees this coroutine
                connection_failed = isinstance(error, OSError) and member.end_known
                if not connection_failed and without_cancelled(error) is not None:
                    report(f"the handler of {member.name} failed")
                    member.dismiss("its handler failed", keep=True)
            member.handled = True
            if member.end_known and not member.reason:
                member.reason = "end of stream" if member.peer_ended else member.failure.lower()
            member.reason = member.reason or "left"
            member.leave()
            # Most often all was sent, and the peer has ended its stream, too: then there is nothing to wait for.
            if member.sending != OVER or not member.peer_ended or member.wire or member.task.error:
                yield from see_off(member)
        except OSError as error:
            member.reason = member.reason or (error.strerror or str(error)).lower()
        finally:
            self.close(member)

    def close(self, member: Member) -> None:
        """Close the connection, and take the member off all lists."""
        count = self.connections.pop(member, None)
        if not count:
            return
        count.remove(member.host)
        reset_unless_complete(member)
        if member.sending != OVER:
            member.become(OVER)
        if self.overdue.ends:
            self.overdue.forget(member)
        self.kernel.close_later(member.socket)
        self.journal.say(member.name, f"connection terminated: {harmless(member.reason)}")
        if self.stopping:
            self.change.wake_all()

    def drop(self, member: Member) -> None:
        """End a member that has not ended in time."""
        hangs = not (member.handled or member.task.cancel_due)
        where = explain(member.task) if hangs else ""
        member.depart()  # first, because the handler's `finally` may change member.room
        member.handled = True
        ended = "end of stream" if member.peer_ended else member.failure.lower()
        member.reason = member.reason or ended or "its handler does not end"
        if member.wire and member.sending != NEW and not (member.failure or member.lag()):
            member.wire.end(member.reason)  # all that was due to it is sent: end its stream in good order
        self.kernel.drop(member.task)
        self.close(member)
        if hangs:
            complain(f"chatsrv: the handler of {member.name} does not end; it was dropped\n{where}")
