"""Connections to Redis, found with the help of Sentinels: commands and answers."""

from __future__ import annotations

import re
import socket

from hiredis import ProtocolError, Reader, ReplyError, pack_command

from loop import TimedOut, connect, recv, send
from loop.stream import countdown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loop import Kernel
    from loop.traps import Coroutine, Stream

    from .address import Address

OLDEST = 6, 2  # the first version of Redis that has all commands used here
TIMEOUT = 5.0  # seconds of silence after which a connection is dead, if Redis has something to take or to answer
# How those errors of Redis begin that can pass by themselves
UNREADY = (
    "BUSY ", "ERR max number of clients", "LOADING ", "MASTERDOWN ", "MISCONF ", "NOREPLICAS ", "OOM ", "READONLY ",
    "TRYAGAIN ",
)  # fmt: skip


class Refused(Exception):
    """Redis answers with an error, or is not of the kind that is needed."""


class Unready(Refused):
    """Redis cannot be used yet, but perhaps later."""


STRANGE = ProtocolError, AttributeError, LookupError, TypeError, ValueError  # from answers that make no sense
PASSING = OSError, TimedOut, Unready  # trouble that can pass by itself
TROUBLE = (OSError, TimedOut, Refused, *STRANGE)  # all that ends a connection


class Connection:
    """Sends commands, and receives the answers in the same order. All its methods raise one of TROUBLE."""

    def __init__(self, sock: Stream) -> None:
        self.socket = sock
        self.reader = Reader(notEnoughData=Ellipsis)

    def ask(self, *command: Any, timeout: float = TIMEOUT) -> Coroutine[Any]:
        """COROUTINE. Returns the answer to one command. `timeout`: seconds without a byte from Redis, at most."""
        yield from send(self.socket, pack(*command), TIMEOUT)
        return (yield from self.answer(timeout))

    def ask_all(self, *commands: tuple[Any, ...]) -> Coroutine[list[Any]]:
        """COROUTINE. Returns the answers to several commands, in one round trip."""
        yield from send(self.socket, b"".join(pack(*command) for command in commands), TIMEOUT)
        answers = []
        for _ in commands:
            answers.append((yield from self.answer()))
        return answers

    def answer(self, timeout: float = TIMEOUT) -> Coroutine[Any]:
        """COROUTINE. Returns the next answer: bytes, a number, None, or a list of these."""
        while (answer := self.reader.gets()) is Ellipsis:
            data = yield from recv(self.socket, 1 << 18, timeout)
            if not data:
                raise OSError("closed by Redis")
            self.reader.feed(data)
        if isinstance(answer, ReplyError):
            words = str(answer)
            raise (Unready if words.startswith(UNREADY) else Refused)(words)
        return answer


def pack(*command: Any) -> bytes:
    packed: bytes = pack_command(command)
    return packed


def dial(kernel: Kernel, address: Address) -> Coroutine[Stream]:
    """COROUTINE. Returns a new connection to Redis; raises one of TROUBLE.

    A fail-over can move Redis to another machine. So each call asks the Sentinels, and looks up host names, which
    blocks the whole server. A Sentinel that has not heard of a fail-over names the old master. If that is a copy now,
    or does not answer, the next Sentinel is asked.
    """
    if address.path:
        return (yield from reach(kernel, [(socket.AF_UNIX, address.path)]))
    if not address.master:
        return (yield from connect_to(kernel, address, *address.hosts[0]))
    trouble: BaseException = OSError("no Sentinel")
    for host, port in address.hosts:
        try:
            found = yield from ask_sentinel(kernel, address, host, port)
            return (yield from connect_to_master(kernel, address, *found))
        except TROUBLE as error:
            trouble = error
    raise trouble


def connect_to_master(kernel: Kernel, address: Address, host: str, port: int) -> Coroutine[Stream]:
    """COROUTINE. Returns a connection to the Redis there. Raises Unready if it is not a master."""
    sock = yield from connect_to(kernel, address, host, port)
    try:
        check_role((yield from Connection(sock).ask_all(*log_in(address), ("ROLE",)))[-1])
    except BaseException:
        kernel.close(sock)
        raise
    return sock


def log_in(address: Address) -> list[tuple[Any, ...]]:
    """The commands that a connection begins with."""
    credentials = address.credentials()
    return [("AUTH", *credentials)] if credentials else []


def check_role(role: list[Any]) -> None:
    if role[0] != b"master":
        raise Unready("is a read-only copy of another Redis")


def connect_to(kernel: Kernel, address: Address, host: str, port: int) -> Coroutine[Stream]:
    """COROUTINE. Returns a connection to Redis or a Sentinel, with TLS if the address says so."""
    trust = address.trust()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (UnicodeError, LookupError) as error:  # LookupError: no descriptor was left to import a codec
        raise OSError(str(error)) from None
    sock = yield from reach(kernel, [(family, where) for family, _, _, _, where in found])
    if not trust:
        return sock
    try:
        return (yield from trust.greet(sock, host, countdown(kernel.clock, TIMEOUT)))
    except BaseException:
        kernel.close(sock)
        raise


def reach(kernel: Kernel, places: list[tuple[int, Any]]) -> Coroutine[socket.socket]:
    """COROUTINE. Returns a connection to the first of these places that takes one."""
    trouble: OSError | TimedOut = OSError("has no address")
    for family, where in places:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield from connect(sock, where, TIMEOUT)
            return sock
        except BaseException as error:
            kernel.close(sock)
            if not isinstance(error, (OSError, TimedOut)):
                raise
            trouble = error
    raise trouble


def ask_sentinel(kernel: Kernel, address: Address, host: str, port: int) -> Coroutine[tuple[str, int]]:
    """COROUTINE. Returns the host and port at which this Sentinel knows our master."""
    question = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.master
    sock = yield from connect_to(kernel, address, host, port)
    try:
        connection = Connection(sock)
        try:
            found = yield from connection.ask(*question)
        except Refused as error:
            credentials = address.credentials()
            if not credentials or not str(error).startswith("NOAUTH"):
                raise
            yield from connection.ask("AUTH", *credentials)
            found = yield from connection.ask(*question)
    finally:
        kernel.close(sock)
    if found is None:
        raise Unready(f"the Sentinel at {host}:{port} knows no master {address.master!r}")
    return found[0].decode(), int(found[1])


def introduce(connection: Connection, address: Address, name: str) -> Coroutine[tuple[str, int]]:
    """COROUTINE. Logs in, and sees whether this Redis can be used. `name` is for Redis's list of clients.

    Returns two things. A name for the process that is the Redis: it changes with a restart and with a fail-over. And
    the id that Redis has for this connection; 0 if the Redis user has no right to ask for it.
    """
    before = log_in(address)
    before += [("SELECT", address.db)] if address.db else []
    commands = [*before, ("CLIENT", "SETNAME", name), ("INFO", "server"), ("ROLE",), ("INFO", "replication")]
    *_, server, role, replication = yield from connection.ask_all(*commands)
    version = re.search(rb"redis_version:(\d+)\.(\d+)", server)
    if not version or tuple(map(int, version.groups())) < OLDEST:
        raise Refused("is too old: Redis {}.{} or newer is needed".format(*OLDEST))
    if re.search(rb"(?:redis|server)_mode:cluster", server):
        raise Refused("is part of a Redis Cluster: a Redis of its own is needed")
    check_role(role)
    names = re.findall(rb"(?:run_id|master_replid):(\w{,12})", server + replication)
    try:
        client_id = yield from connection.ask("CLIENT", "ID")
    except Refused:
        client_id = 0
    return b":".join(names).decode(), int(client_id)


def describe(error: BaseException) -> str:
    """An error as a few words in one line."""
    if isinstance(error, TimedOut):
        return "no answer"
    if isinstance(error, STRANGE):
        return f"not the answers of a Redis ({type(error).__name__})"
    return " ".join((getattr(error, "strerror", None) or str(error)).split())
