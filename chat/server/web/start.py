"""What the program does for browsers at its start."""

from __future__ import annotations

from functools import partial

from loop import vital

from ..listen import CannotListen, listen, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Callable

    from ..certificate import Certificate
    from ..flags import Options
    from ..server import Server
    from ..wire import Wire


def listen_for_browsers(
    options: Options, where: tuple[str | None, int], certificate: Certificate | None
) -> dict[socket.socket, Callable[[socket.socket], Wire]]:
    """The sockets at which browsers connect, each with what makes the wire of a connection. Raises CannotListen."""
    try:
        from .wire import BrowserWire, Door
    except ModuleNotFoundError:
        raise CannotListen("--web needs websockets: pip install 'websockets>=13'") from None
    host, port = where
    try:
        listeners = listen(host, port, options.share_port)
    except OSError as error:
        raise CannotListen(f"--web: cannot listen on {f'{host} ' if host else ''}port {port}: {why(error)}") from None
    door = Door(options.web_origin)

    def make_wire(sock: socket.socket) -> Wire:
        return BrowserWire(door, sock, certificate.wire(sock, door.site.plain().data) if certificate else None)

    return dict.fromkeys(listeners, make_wire)


def look_after_browsers(server: Server) -> None:
    """Ping browsers from now on, to notice those that have gone."""
    from .wire import keep_alive

    pings = partial(keep_alive, server.connections, server.hub.pace)
    server.kernel.spawn(vital(pings, "pings"), "pings")
