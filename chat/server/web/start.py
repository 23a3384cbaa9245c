"""What the program does for browsers at its start."""

from __future__ import annotations

from functools import partial

from loop import vital

from ..listen import describe, listen, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Callable

    from ..flags import Options
    from ..server import Server
    from ..wire import Wire


def listen_for_browsers(
    options: Options, where: tuple[str | None, int]
) -> dict[socket.socket, Callable[[socket.socket], Wire]]:
    """The sockets on which browsers come, and what makes their wires. Raises ValueError with a line for the user."""
    try:
        from .wire import BrowserWire, Door
    except ModuleNotFoundError:
        raise ValueError("--web needs websockets: pip install 'websockets>=13'") from None
    host, port = where
    try:
        listeners = listen(host, port, options.share_port)
    except OSError as error:
        raise ValueError(f"--web: cannot listen on {f'{host} ' if host else ''}port {port}: {why(error)}") from None
    return dict.fromkeys(listeners, partial(BrowserWire, Door(options.web_origin)))


def greet(server: Server) -> None:
    """Tell the journal where browsers can come, and look after those that have."""
    from .wire import keep_alive

    server.journal.say("chatsrv", describe(list(server.wires), "serves browsers on"))
    pings = partial(keep_alive, server.connections, server.hub.pace)
    server.kernel.spawn(vital(pings, "pings"), "pings")
