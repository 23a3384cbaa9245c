"""How many connections are let in: as members, and to a handshake."""

from __future__ import annotations

from loop.bare import socket

from .flags import Options

MOST = 4096  # connections that may be in a handshake: TLS needs some 60 KiB for each
SPARE = 16  # that may be in a handshake in any case: a browser opens up to six connections at once


def network(host: str) -> str:
    """What counts as one address: for IPv6 the first 64 bits, because a customer gets at least so many addresses."""
    if ":" not in host:
        return host
    address, _, zone = host.partition("%")
    try:
        first = socket.inet_pton(socket.AF_INET6, address)[:8]
    except OSError:
        return host
    return f"{socket.inet_ntop(socket.AF_INET6, first + bytes(8))}{zone and '%'}{zone}/64"


class Count:
    """How many there are: in all and, `by_network`, from each network."""

    def __init__(self, by_network: bool) -> None:
        self.all = 0
        self.by_network = by_network
        self.of: dict[str, int] = {}

    def add(self, host: str) -> None:
        self.all += 1
        if not self.by_network:
            return
        place = network(host)
        self.of[place] = self.of.get(place, 0) + 1

    def remove(self, host: str) -> None:
        self.all -= 1
        if not self.by_network:
            return
        place = network(host)
        self.of[place] -= 1
        if not self.of[place]:
            del self.of[place]

    def near(self, host: str) -> int:
        """How many there are from the network of this address."""
        return self.of.get(network(host), 0)


class Admission:
    """The connections that were let in. One with a wire counts as a member only after its handshake.

    A browser gets the page over one connection, chats over another, and opens some in advance. Connections in their
    handshake keep no member out. But there may be no more of them than members that could still come (or than SPARE,
    if that is more), and never more than MOST. From one address (with IPv6, one network), half as
    many are allowed, but at least SPARE.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.members = Count(by_network=bool(options.max_per_ip))
        self.shaking = Count(by_network=True)  # those in their handshake

    def refusal(self, host: str) -> str:
        """Why nobody from `host` can become a member now; empty if somebody can."""
        most, most_per_ip = self.options.max_clients, self.options.max_per_ip
        if most is not None and self.members.all >= most:
            return "the server is full"
        if most_per_ip and self.members.near(host) >= most_per_ip:
            return f"too many connections from {network(host)}"
        return ""

    def crowd(self, host: str) -> str:
        """Why nobody from `host` can begin a handshake now; empty if somebody can."""
        most, most_per_ip = self.options.max_clients, self.options.max_per_ip
        total = MOST if most is None else min(MOST, max(SPARE, most - self.members.all))
        if self.shaking.all >= total:
            return "too many handshakes"
        share = max(SPARE, total // 2)
        if most_per_ip:
            share = min(share, max(SPARE, most_per_ip - self.members.near(host)))
        if self.shaking.near(host) >= share:
            return f"too many handshakes from {network(host)}"
        return ""
