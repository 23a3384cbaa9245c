"""The program: flags, the handler, listening sockets, signals, and the end of the process."""

from __future__ import annotations

import os
import signal
import socket

from loop import Kernel, Signals, complain, write

from ..handlers.chat import chat
from ..options import occupy_standard_descriptors
from ..stdout import standard_output
from .flags import Options, parse
from .journal import Journal
from .listen import inherited, listen, prepare
from .server import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop.traps import Coroutine

    from .loading import Handler, Start

RESERVE = 32  # descriptors that are not for members: ours, and those of clients being refused


def main(arguments: list[str] | None = None) -> int:
    """Run the server until a signal ends it; returns the exit status."""
    occupy_standard_descriptors()
    options = parse(arguments)
    try:
        handler, start = find_handler(options.handler)
    except ValueError as error:
        complain(f"chatsrv: --handler: {error}")
        return 2
    try:
        listeners = inherited() or listen(options.host, options.port, options.share_port)
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
    if start:
        kernel.spawn(start(server.room), "start")
    journal.say("chatsrv", f"listens on port {listeners[0].getsockname()[1]}")
    notify("READY=1")
    kernel.run(until=life)
    return 0 if life.outcome == "returned" else 1


def find_handler(where: str) -> tuple[Handler, Start | None]:
    """The handler, and the function that its module wants to be run at the start. Raises ValueError."""
    if where == Options.handler:
        return chat, None
    from .loading import load_handler  # takes long, and most servers do without it

    return load_handler(where)


def join_cluster(server: Server, url: str) -> str:
    """Make the server a node; returns why that is not possible, or an empty string."""
    try:
        from .cluster.node import enter  # and with it hiredis
    except ImportError:
        return "--cluster needs hiredis: pip install 'hiredis>=3'"
    try:
        enter(server.kernel, server.hub, url)
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
                notify("STOPPING=1")


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


def notify(state: str) -> None:
    """Tell the supervisor: "READY=1", "STOPPING=1"."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            sock.send(state.encode())
    except OSError:
        pass  # it is gone; the chat is none the worse
