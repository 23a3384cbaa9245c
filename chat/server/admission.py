"""How many connections are let in: as members, and to a handshake."""

from __future__ import annotations

from loop.bare import socket

from .flags import Options

MOST = 4096  # connections that may be in a handshake, at most: TLS needs some 60 KiB for each
SPARE = 16  # connections that may be in a handshake in any case: a browser opens up to six at once


def network(host: str) -> str:
    """What counts as one address: for IPv6, all with the same first 64 bits, since one customer gets all of them."""
    if ":" not in host:
        return host
    address, _, zone = host.partition("%")
    try:
        first = socket.inet_pton(socket.AF_INET6, address)[:8]
    except OSError:
        return host
    name = socket.inet_ntop(socket.AF_INET6, first + bytes(8))
    return f"{name}%{zone}/64" if zone else f"{name}/64"


class Count:
    """How many connections there are: in all and, if `by_network`, from each network."""

    def __init__(self, by_network: bool) -> None:
        self.all = 0
        self.by_network = by_network
        self.of: dict[str, int] = {}  # how many from each network

    def add(self, host: str) -> None:
        self.all += 1
        if not self.by_network:
            return
        source = network(host)
        self.of[source] = self.of.get(source, 0) + 1

    def remove(self, host: str) -> None:
        self.all -= 1
        if not self.by_network:
            return
        source = network(host)
        self.of[source] -= 1
        if not self.of[source]:
            del self.of[source]

    def near(self, host: str) -> int:
        """How many connections there are from the network of this address."""
        return self.of.get(network(host), 0)


class Admission:
    """The connections that were let in. One with a wire counts as a member only after its handshake.

    A browser gets the page over one connection, chats over another, and opens some in advance. So a connection in its
    handshake takes no member's place. There may be as many handshakes as free places for members, but at most MOST,
    and half as many from one network. Both limits are at least SPARE.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.members = Count(by_network=bool(options.max_per_ip))
        self.shaking = Count(by_network=True)  # connections in their handshake
        self.refused = Count(by_network=False)  # those that were refused, until they have ended

    def refusal(self, host: str) -> str:
        """Why nobody from `host` can become a member now; empty if somebody can."""
        most, most_per_ip = self.options.max_clients, self.options.max_per_ip
        if most is not None and self.members.all >= most:
            return "the server is full"
        if most_per_ip and self.members.near(host) >= most_per_ip:
            return f"too many connections from {network(host)}"
        return ""

    def handshake_refusal(self, host: str) -> str:
        """Why nobody from `host` can begin a handshake now; empty if somebody can."""
        most, most_per_ip = self.options.max_clients, self.options.max_per_ip
        free_places = MOST if most is None else most - self.members.all
        total = min(MOST, max(SPARE, free_places))
        if self.shaking.all >= total:
            return "too many handshakes"
        share = total // 2
        if most_per_ip:
            share = min(share, most_per_ip - self.members.near(host))
        if self.shaking.near(host) >= max(SPARE, share):
            return f"too many handshakes from {network(host)}"
        return ""
