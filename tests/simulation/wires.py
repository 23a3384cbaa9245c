"""Members' wires, as they are, which also count what they take and give: in bytes of the plain stream.

That is what the oracle asks about, whatever the bytes go through on their way.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from chat.server.certificate import TOLD, Secured
from chat.server.sending import taken
from chat.server.web.site import Site
from chat.server.web.wire import BrowserWire, Door
from loop.gate import Gate

from .certificate import server_context
from .strangers import PAGE
from .world import Failure

if TYPE_CHECKING:
    from typing import Callable

    from loop.traps import Coroutine

    from .network import Listener, Socket


class Watched:
    """What a wire is besides, when it is watched."""

    link: Socket
    unsent: bool
    pending: bool

    def handshake(self, left: Callable[[], float]) -> Coroutine[str]:
        """COROUTINE. As it is."""
        why: str = yield from super().handshake(left)  # type: ignore[misc]
        self.link.shaken = not why
        return why

    def send(self, data: Any) -> int:
        try:
            count: int = super().send(data)  # type: ignore[misc]
        except BlockingIOError as wait:
            self.note(taken(wait), len(data))
            raise
        self.note(count, len(data))
        if self.unsent:
            raise Failure(f"{self.link.client.name}: a send that need not wait leaves something unsent")
        return count

    def note(self, count: int, size: int) -> None:
        if not 0 <= count <= size:
            raise Failure(f"{self.link.client.name}: of {size} bytes, {count} were taken")
        self.link.out += count

    def recv(self, most: int) -> bytes:
        data: bytes = super().recv(most)  # type: ignore[misc]
        self.link.account(data, most)
        return data

    def end(self, reason: str = "") -> None:
        self.link.said_end = True
        super().end(reason)  # type: ignore[misc]


class WatchedTLS(Watched, Secured):
    pass


class WatchedBrowser(Watched, BrowserWire):
    pass


@cache
def site() -> Site:
    """As it is, with a page that takes no time."""
    site = Site([])
    site.page = PAGE
    return site


class Wires:
    """What makes the wires of one run. `gate` is that of all TLS handshakes."""

    def __init__(self) -> None:
        self.gate = Gate()

    @cached_property
    def door(self) -> Door:
        """What all browsers share."""
        door = Door([])
        door.site = site()
        return door

    def secured(self, sock: Any) -> Any:
        return self.watch(self.over_tls(WatchedTLS, sock), sock)

    def browser(self, sock: Any) -> Any:
        return self.watch(WatchedBrowser(self.door, sock), sock)

    def secured_browser(self, sock: Any) -> Any:
        tls = self.over_tls(Secured, sock, self.door.site.plain().data)
        return self.watch(WatchedBrowser(self.door, sock, tls), sock)

    def over_tls(self, kind: type[Secured], sock: Socket, told: bytes = TOLD) -> Secured:
        """As Certificate.wire makes it."""
        wire = kind(sock, server_context(), gate=self.gate, address=sock.client.address[0])  # type: ignore[arg-type]
        wire.told = told
        return wire

    def watch(self, wire: Any, sock: Socket) -> Any:
        wire.link = sock
        sock.wired = True
        return wire

    def make(self, kind: str) -> Callable[[Listener], Any]:
        return {"TLS": self.secured, "a browser": self.browser, "a browser over TLS": self.secured_browser}[kind]
