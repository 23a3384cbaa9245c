"""Listening sockets: our own, or those that systemd has opened for us."""

from __future__ import annotations

import errno
import os

from loop.bare import Socket, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BACKLOG = 1024  # connections the system holds for us until we accept them
FIRST = 3  # the first descriptor that is handed over
MAPPED = "::ffff:"  # comes before an IPv4 address in an IPv6 address
# How a call fails where there is no IPv6, or no socket for both IPv6 and IPv4.
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENOPROTOOPT)
# accept(2) fails with these because of a single connection, or of the network through which it came.
GONE_EARLY = set(
    "ECONNABORTED ECONNRESET EPROTO EPERM ETIMEDOUT ENETDOWN ENETUNREACH ENONET EHOSTDOWN EHOSTUNREACH ENOPROTOOPT "
    "EOPNOTSUPP".split()
)
IDLE, INTERVAL, PROBES = 60, 15, 4  # keepalive: seconds until the first probe, seconds between probes, number of probes
SHORTEST = 2 * PROBES  # the least TCP_USER_TIMEOUT, in seconds, so that there is time for PROBES probes


class CannotListen(Exception):
    """Its text is a line for the user."""


def inherited() -> list[socket.socket]:
    """The listening sockets handed over in LISTEN_FDS, if any. Raises ValueError if LISTEN_FDS has something else."""
    meant_for = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    if meant_for != str(os.getpid()):
        return []
    if not count.isdecimal():
        raise ValueError(f"LISTEN_FDS is {count!r}, not a number of descriptors")
    listeners: list[socket.socket] = []
    try:
        for fd in range(FIRST, FIRST + int(count)):
            listeners.append(socket_of(fd))
            if objection := objection_to(listeners[-1]):
                raise ValueError(f"descriptor {fd}, handed over in LISTEN_FDS, {objection}")
    except ValueError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def socket_of(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        return Socket(fileno=fd)
    except OSError as error:
        raise ValueError(f"descriptor {fd}, handed over in LISTEN_FDS, is not a socket: {why(error)}") from None


def objection_to(listener: socket.socket) -> str:
    """Why this socket cannot be listened on; empty if it can."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6) or listener.type != socket.SOCK_STREAM:
        return "is not a TCP socket"
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen; with systemd, the socket unit needs Accept=no"
    return ""


def listen(host: str | None, port: int, share: bool = False) -> list[socket.socket]:
    """Listening sockets on `host` (None: on all addresses; only those of IPv4 if no socket can do both).

    With `share`, other processes can listen there, and the system distributes connections among them. Raises OSError.
    """
    if host is not None:
        return [opened(*resolve(host, port), share)]
    try:
        return [opened(socket.AF_INET6, ("::", port), share, both=True)]
    except OSError as error:
        if error.errno not in NO_IPV6:
            raise
    return [opened(socket.AF_INET, ("", port), share)]


def opened(family: int, address: Any, share: bool, both: bool = False) -> socket.socket:
    """A listening socket. With `both`, an IPv6 socket listens for IPv4, too."""
    listener = Socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def resolve(host: str, port: int) -> tuple[int, Any]:
    """The family and the address of a host, IPv4 before IPv6. Raises OSError if there is none."""
    if host.startswith("[") and host.endswith("]"):  # as an IPv6 address is written before a port
        host = host[1:-1]
    try:
        name = host.encode() if host.isascii() else host  # bytes need no codec: loading one doubles the time to start
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM) if name else []
    except UnicodeError:
        found = []
    except LookupError:
        raise OSError("too few descriptors to load Python's module for host names") from None
    if not found:
        raise OSError("this is no host name")
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)  # False first
    where = str(address[0])
    if where.startswith(MAPPED):  # only an IPv6 socket that is also for IPv4 could be bound to it
        return socket.AF_INET, (where[len(MAPPED) :], port)
    return family, address


def prepare(listener: socket.socket, patience: float | None) -> None:
    """Set up a listening socket. Accepted sockets inherit these options, which saves the calls for each of them.

    A peer that acknowledges nothing for `patience` seconds (None: TCP's own limit) loses its connection, and so does a
    peer that answers no probe. With TCP_USER_TIMEOUT, Linux ignores TCP_KEEPCNT: after `patience` silent
    seconds, the next probe ends the connection. So the times below fit PROBES probes into `patience`.
    """
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle, interval = IDLE, INTERVAL
    if patience is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        patience = max(patience, SHORTEST)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience * 1000))
        interval = min(INTERVAL, int(patience * 0.15))
        idle = min(IDLE, int(patience) - PROBES * interval)
    options = {"TCP_KEEPIDLE": idle, "TCP_KEEPALIVE": idle, "TCP_KEEPINTVL": interval, "TCP_KEEPCNT": PROBES}
    for name, value in options.items():
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def describe(listeners: list[socket.socket], does: str = "listens on") -> str:
    """Where these sockets listen, in words. The last word is a port."""
    places, ports = [], []
    private = True
    for listener in listeners:
        host, port = listener.getsockname()[:2]
        private = private and (host == "::1" or host.startswith("127."))
        if host == "::" and not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            host = "all addresses"
        places.append({"::": "all IPv6 addresses", "0.0.0.0": "all IPv4 addresses"}.get(host, host))
        ports.append(str(port))
    reach = "for this machine only" if private else "open to the network"
    return f"at {' and '.join(places)}, {reach}, {does} port {' and '.join(dict.fromkeys(ports))}"


def why(error: OSError) -> str:
    """Why a system call has failed, in the system's words."""
    return error.strerror or str(error)
