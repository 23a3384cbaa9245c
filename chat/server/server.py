"""Admission, and each connection's way from accepted to terminated."""

from __future__ import annotations

import errno
import socket

from loop import Cancelled, Kernel, TimedOut, WaitQueue, accept, complain, explain, join, recv, report, sleep

from ..handlers.chat import chat
from .flags import Options
from .journal import Journal
from .member import Member
from .room import Room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loop.traps import Coroutine

    from .loading import Handler

FAREWELL = 5.0  # seconds for what is still due to a member that ends
LINGER = 1.0  # seconds for a peer to take our FIN and send its own
# What accept(2) fails with because of that one connection, or of the network it came through
PASSING = set(
    "ECONNABORTED ECONNRESET EPROTO EPERM ETIMEDOUT ENETDOWN ENETUNREACH ENONET EHOSTDOWN EHOSTUNREACH ENOPROTOOPT "
    "EOPNOTSUPP".split()
)


class Server:
    """A chat on `listeners`, non-blocking listening sockets; whatever else it uses comes from accepting on them."""

    def __init__(
        self,
        kernel: Kernel,
        listeners: list[socket.socket],
        journal: Journal,
        options: Options,
        handler: Handler = chat,
    ) -> None:
        self.kernel = kernel
        self.listeners = listeners
        self.journal = journal
        self.options = options
        self.handler = handler
        self.room = Room(kernel, options, journal)
        self.sessions: dict[Member, None] = {}  # the room's members, and those who are being refused
        self.per_host: dict[str, int] = {}
        self.stopping = False
        self.change = WaitQueue()  # run() waits here: for stop(), then for members to go

    def run(self) -> Coroutine[None]:
        """COROUTINE. The whole life of the server; ends after stop(), when everybody is gone and everything written."""
        kernel = self.kernel
        writers = [kernel.spawn(self.journal.write(), "journal"), kernel.spawn(self.room.spread(), "spread")]
        cluster = self.room.cluster
        membership = kernel.spawn(cluster.run(), "cluster") if cluster else None
        doors = [kernel.spawn(self.admit(listener), "accept") for listener in self.listeners]
        while not self.stopping:
            yield from self.change.wait()
        for door in doors:
            door.cancel()
        for listener in self.listeners:
            kernel.close(listener)
        if cluster:
            yield from cluster.finish(FAREWELL)
        for member in self.sessions:
            if not member.reason:
                member.reason = "the server is ending"
                member.task.cancel()
        end = kernel.clock() + FAREWELL + 2 * LINGER
        try:
            while self.sessions:
                yield from self.change.wait(max(0, end - kernel.clock()))
        except TimedOut:  # a handler does not let itself be ended
            for member in list(self.sessions):
                complain(f"chatsrv: the handler of {member.name} does not end")
                self.conclude(member)
        if cluster and membership:
            yield from cluster.returned(LINGER)  # what the handlers said at their ends
            membership.cancel()
        try:
            yield from self.journal.flush(LINGER)
        except TimedOut:
            pass
        for writer in writers:
            writer.cancel()

    def stop(self) -> None:
        """Begin the orderly end: no new connections, no more reading; what is due is delivered, within FAREWELL."""
        self.stopping = True
        self.change.wake_all()

    def explain(self) -> str:
        """What every task waits for, and how far behind each member is."""
        lines = [f"chatsrv: {len(self.room.members)} members, {len(self.kernel.tasks)} tasks"]
        lines += map(explain, self.kernel.tasks)
        lines += (f"{member.name}: {member.lag} bytes behind" for member in self.room.members)
        return "\n".join(lines) + "\n"

    # Admission.

    def admit(self, listener: socket.socket) -> Coroutine[None]:
        """COROUTINE. Accepts whoever comes, for as long as the server runs. No OSError ends this."""
        tell_at = 0.0
        while True:
            try:
                for sock, address in (yield from accept(listener)):
                    self.let_in(sock, address)
            except OSError as error:
                if errno.errorcode.get(error.errno or 0) in PASSING:
                    continue
                if self.kernel.clock() >= tell_at:
                    complain(f"chatsrv: cannot accept connections: {error.strerror}; trying on")
                    tell_at = self.kernel.clock() + 60
                yield from sleep(0.1)  # we are out of something; the connection stays in the backlog, and readable

    def let_in(self, sock: socket.socket, address: Any) -> None:
        """Make a member of a new connection, or refuse it."""
        host, port = address[0], address[1]  # getpeername fails after an early reset
        if host.startswith("::ffff:"):
            host = host[7:]
        member = Member(sock, host, port, self.room)
        self.journal.say(member.name, "accepted connection")
        self.sessions[member] = None
        objection = self.objection(host)
        if not objection:
            self.room.members[member] = None
            self.per_host[host] = self.per_host.get(host, 0) + 1
        member.task = self.kernel.spawn(self.session(member), member.name)
        member.begin()
        if objection:
            member.dismiss(objection)

    def conclude(self, member: Member) -> None:
        """Close the connection, and take the member off all lists."""
        if member not in self.sessions:
            return
        del self.sessions[member]
        member.mute()
        self.kernel.close(member.socket)
        self.journal.say(member.name, f"connection terminated: {member.reason}")
        if member in self.room.members:
            del self.room.members[member]
            self.per_host[member.host] -= 1
            if not self.per_host[member.host]:
                del self.per_host[member.host]
        self.change.wake_all()

    def objection(self, host: str) -> str:
        """Why nobody from `host` can come in now; empty if somebody can."""
        if self.options.max_clients is not None and len(self.room.members) >= self.options.max_clients:
            return "the server is full"
        if self.options.max_per_ip and self.per_host.get(host, 0) >= self.options.max_per_ip:
            return f"too many connections from {host}"
        return ""

    # A connection.

    def session(self, member: Member) -> Coroutine[None]:
        """COROUTINE. One connection, from accepted to terminated, however it ends."""
        try:
            if member in self.room.members:
                yield from self.converse(member)
            yield from self.part(member)
        except OSError as error:
            member.reason = member.reason or (error.strerror or str(error)).lower()
        finally:
            self.conclude(member)

    def converse(self, member: Member) -> Coroutine[None]:
        """COROUTINE. Run the handler to its end. Raises OSError if the connection has failed."""
        if member.reachable:
            member.begin()  # anew: what was said since it was accepted is not to come before the greeting
        try:
            yield from self.handler(member, self.room)
            member.reason = member.reason or ("end of stream" if member.peer_ended else "left")
            if self.room.cluster:  # what the member said last is due to it, too
                yield from self.room.cluster.returned(FAREWELL)
        except Cancelled:
            pass  # kicked, or the server is ending
        except (Exception, SystemExit) as error:
            if isinstance(error, TimedOut) and member.reason:  # receive() has noted it: the handler has not failed
                return
            if isinstance(error, OSError) and member.lost:
                raise
            member.reason = "its handler failed"
            report(f"the handler of {member.name} failed")

    def part(self, member: Member) -> Coroutine[None]:
        """COROUTINE. Deliver what is due, say FIN, and read to the peer's own end.

        Closing a socket with something unread in it makes TCP send a reset, which can destroy what was just sent.
        """
        if member.task.error:  # it was kicked while it ran, by its own last words perhaps, and is yet to be told so
            try:
                yield from sleep(0)
            except Cancelled:
                pass
        member.leave()
        try:
            if member.writer:
                yield from join(member.writer, FAREWELL)
            if member.peer_ended:
                return
            member.socket.shutdown(socket.SHUT_WR)
            end = self.kernel.clock() + LINGER
            while (left := end - self.kernel.clock()) > 0 and (yield from recv(member.socket, 1 << 16, left)):
                pass
        except TimedOut:
            pass
