"""Listening, admission, and each connection's way from accepted to terminated."""

from __future__ import annotations

import errno
import signal
import socket

from loop import (
    Cancelled,
    Kernel,
    Signals,
    TimedOut,
    WaitQueue,
    accept,
    complain,
    explain,
    join,
    recv,
    report,
    sleep,
    write,
)  # fmt: skip

from . import service
from .handlers.chat import chat
from .journal import Journal, standard_output
from .member import Member
from .options import Options, load_handler, occupy_standard_descriptors, parse
from .room import Room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loop.traps import Coroutine

    from .options import Handler

BACKLOG = 1024  # connections the system holds for us until we accept them
FAREWELL = 5.0  # seconds for what is still due to a member that ends
LINGER = 1.0  # seconds for a peer to take our FIN and send its own
# Seconds of silence before TCP asks whether the peer is still there, seconds between its questions, and how many
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
RESERVE = 32  # descriptors that are not for members: ours, and those of clients being refused
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


# The program.


def main(arguments: list[str] | None = None) -> int:
    """Run the server until a signal ends it; returns the exit status."""
    occupy_standard_descriptors()
    options = parse(arguments)
    try:
        handler = chat if options.handler is Options.handler else load_handler(options.handler)
        listeners = service.inherited() or listen(options.host, options.port, options.share_port)
        for listener in listeners:
            prepare(listener, options.stall_timeout)
    except ValueError as error:
        complain(f"chatsrv: {error}")
        return 2
    except OSError as error:
        complain(f"chatsrv: cannot listen on port {options.port}: {error.strerror or error}")
        return 1
    limit = raise_descriptor_limit()
    if options.max_clients is None:
        options.max_clients = max(1, limit - RESERVE)
    kernel = Kernel()
    output, most = standard_output()
    journal = Journal(output, most, options.quiet)
    server = Server(kernel, listeners, journal, options, handler)
    if options.cluster and (trouble := join_cluster(server, options.cluster)):
        complain(f"chatsrv: {trouble}")
        return 1
    signals = Signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    life = kernel.spawn(server.run(), "server")
    kernel.spawn(obey(signals, server), "signals")
    journal.say("chatsrv", f"listens on port {listeners[0].getsockname()[1]}")
    service.notify("READY=1")
    kernel.run(until=life)
    return 0 if life.outcome == "returned" else 1


def join_cluster(server: Server, url: str) -> str:
    """Make the server a node; returns why that is not possible, or an empty string."""
    try:
        from .cluster import enter  # and with it hiredis
    except ImportError:
        return "--cluster needs hiredis: pip install 'hiredis>=3'"
    try:
        enter(server.kernel, server.room, url)
    except ValueError as error:
        return str(error)
    return ""


def obey(signals: Signals, server: Server) -> Coroutine[None]:
    """COROUTINE. SIGUSR1 asks what all wait for. Of other signals, the first begins the end, the next ends at once."""
    while True:
        for number in (yield from signals.wait()):
            if number == signal.SIGUSR1:
                server.kernel.spawn(write(2, server.explain().encode()), "explanation")
            elif server.stopping:
                server.kernel.stop()
            else:
                server.stop()
                service.notify("STOPPING=1")


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as it may have; returns how many."""
    import resource  # not needed to accept connections, so not before

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 1 << 16
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft  # macOS allows less than it says
    return most


def listen(host: str | None, port: int, share: bool = False) -> list[socket.socket]:
    """Listening sockets on `host` (None: on everything, IPv6 and IPv4 in one where the system can). Raises OSError.

    With `share`, other processes may listen there too, and the system deals connections out among them.
    """
    common: Any = {"backlog": BACKLOG, "reuse_port": share}
    if host is None and socket.has_dualstack_ipv6():
        try:
            return [socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, **common)]
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    family = socket.AF_INET6 if host and ":" in host else socket.AF_INET
    return [socket.create_server((host or "", port), family=family, **common)]


def prepare(listener: socket.socket, patience: float | None) -> None:
    """Set up a listening socket. The sockets accepted on it inherit this, which saves the calls for each of them.

    A peer that acknowledges nothing for `patience` seconds (None: as long as TCP tries) loses its connection.
    """
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if patience is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(patience * 1000)))
