"""The program: flags, the handler, listening sockets, signals, and the end of the process."""

from __future__ import annotations

import os
import signal
import socket
from functools import partial
from itertools import islice

from loop import Kernel, Signals, Watchdog, complain, sleep, vital, write
from loop.poller import default_poller

from ..handlers.chat import chat
from ..options import occupy_standard_descriptors
from ..stdout import standard_output
from .flags import Options, parse
from .journal import Journal
from .listen import CannotListen, prepare, why
from .ports import Ports
from .server import FAREWELL, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from loop import Task
    from loop.poller import Poller
    from loop.traps import Coroutine

    from ..stdout import Output
    from .certificate import Certificate
    from .loading import Handler, Start

RESERVE = 32  # descriptors that are not for members: ours, and those of clients being refused
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME = 1.0  # seconds in which several of these are one: a terminal, a shell and a supervisor may all send theirs
AT_ONCE = 100  # tasks or members of which a step tells what they wait for
LONG = 1.5  # seconds after which an end needs words: without anything to deliver, it takes up to a second


def main(arguments: list[str] | None = None) -> int:
    """Run the server until a signal ends it; returns the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until we listen to signals: no KeyboardInterrupt, no traceback
    occupy_standard_descriptors()
    options = parse(arguments)
    try:
        limit = raise_descriptor_limit()
    except (OSError, ImportError) as error:
        return cannot_start(error)
    if options.max_clients is None:
        options.max_clients = max(1, limit - RESERVE)
    try:
        handler, start = find_handler(options.handler)
    except ValueError as error:
        complain(f"chatsrv: --handler: {error}")
        return 2
    if options.trace:
        try:
            open(options.trace[0], "a").close()
        except OSError as error:
            complain(f"chatsrv: --trace: cannot write {options.trace[0]}: {why(error)}")
            return 2
    ports = Ports()
    try:
        ports.open(options)
        return serve(options, ports, handler, start)
    except ValueError as error:
        complain(f"chatsrv: {error}")
        return 2
    except CannotListen as error:
        complain(f"chatsrv: {error}")
        return 1
    except (OSError, ImportError) as error:
        return cannot_start(error)
    finally:
        close(*ports.listeners)


def cannot_start(error: OSError | ImportError) -> int:
    """Say so; returns the exit status. A module of C code cannot be loaded when there are no descriptors."""
    complain(f"chatsrv: cannot start: {why(error) if isinstance(error, OSError) else error}")
    return 1


def close(*opened: socket.socket | Output | Poller | Signals) -> None:
    """Close all of them at the end, when a failure does not matter any more."""
    for one in opened:
        try:
            one.close()
        except OSError:
            pass


def find_handler(where: str) -> tuple[Handler, Start | None]:
    """The handler, and the function that its module wants to be run at the start. Raises ValueError."""
    if where == Options.handler:
        return chat, None
    from .loading import load_handler  # takes long, and most servers do without it

    return load_handler(where)


def serve(options: Options, ports: Ports, handler: Handler, start: Start | None) -> int:
    """Run the server on these ports; returns the exit status. Raises OSError if it cannot have what it needs."""
    for listener in ports.listeners:
        prepare(listener, options.stall_timeout)
    poller = default_poller()
    output, most = standard_output()
    try:
        journal = Journal(output, most, options.quiet, options.timestamps)
        signals = Signals(*ENDING, signal.SIGUSR1)
        try:
            watchdog = Watchdog(poller, signals, *ending(ports))
            kernel = traced(watchdog, lambda: server.admitted, *options.trace) if options.trace else Kernel(watchdog)
            server = Server(kernel, ports.listeners, journal, options, handler, start, ports.wires)
            return run(server, signals, ports)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {*ENDING, signal.SIGALRM})  # no late one may change the status
            close(signals)
    finally:
        close(output, poller)


def traced(poller: Poller, members: Callable[[], int], path: str, seconds: float) -> Kernel:
    """A kernel that writes down what it does."""
    from loop.trace import TracedKernel

    kernel = TracedKernel(poller)
    kernel.counters["members"] = members
    kernel.write_to(path, seconds)
    return kernel


def ending(ports: Ports) -> list[signal.Signals]:
    """The signals that end the server: with a certificate, HUP means to read that again."""
    return [number for number in ENDING if not (ports.certificate and number == signal.SIGHUP)]


def run(server: Server, signals: Signals, ports: Ports) -> int:
    """Run the server until a signal ends it; returns the exit status."""
    kernel, journal, options = server.kernel, server.journal, server.options
    if options.cluster and (status := join_cluster(server, options.cluster, options.cluster_wait)):
        return status
    life = kernel.spawn(server.run(), "server")
    kernel.spawn(vital(partial(handle_signals, signals, server, ports), "signals"), "signals")
    for line in ports.describe():
        journal.say("chatsrv", line)
    if options.web:
        from .web.start import look_after_browsers

        look_after_browsers(server)
    notify("READY=1")
    try:
        kernel.run(until=life)
    except OSError as error:
        complain(f"chatsrv: cannot go on: {why(error)}")
    except BaseException as error:  # of a task without which there is no chat, or that a handler has spawned
        complain(f"chatsrv: cannot go on: a task has ended with {error!r}")
    if life.outcome == "returned":
        return 1 if server.unwritten else 0
    abandon(server)
    return 1


def join_cluster(server: Server, url: str, wait: bool) -> int:
    """Make the server a node; returns the exit status if that is not possible, having said why, or 0."""
    from .cluster.address import Address
    from .cluster.join import join

    status = 2  # a mistake in the URL is one on the command line
    try:
        address = Address(url)
        status = 1
        join(server.kernel, server.hub, address, wait)
    except ValueError as error:
        complain(f"chatsrv: {error}")
        return status
    return 0


def abandon(server: Server) -> None:
    """End at once, but let the journal name every member and what is lost, and finish it if its reader is quick."""
    for member in list(server.connections):
        member.reason = member.reason or "the server is ending"
        server.close(member)
    if server.hub.cluster:
        server.hub.cluster.unwritten()
    server.journal.finish()


def handle_signals(signals: Signals, server: Server, ports: Ports) -> Coroutine[None]:
    """COROUTINE. Obeys signals: the first that ends begins the orderly end; one that comes SAME later ends at once.

    With a certificate, SIGHUP has it read again. SIGUSR1 asks what all tasks wait for. While that is being answered, it
    is not answered again.
    """
    kernel = server.kernel
    begun = kernel.clock()
    telling: Task | None = None
    while True:
        numbers = yield from signals.wait()
        if not set(ending(ports)).isdisjoint(numbers):
            if not server.stopping:
                begun = kernel.clock()
                server.stop()
                notify("STOPPING=1")
                kernel.spawn(tell_what_takes_time(server), "end")
            elif kernel.clock() >= begun + SAME:
                kernel.stop()
        if ports.certificate and signal.SIGHUP in numbers:
            renew(ports.certificate, server.journal)
        if signal.SIGUSR1 in numbers and (telling is None or telling.outcome):
            telling = kernel.spawn(explain(server), "explanation")


def renew(certificate: Certificate, journal: Journal) -> None:
    """Read the certificate again, for the connections to come."""
    try:
        certificate.load()
        journal.say("chatsrv", "has read the certificate again")
    except ValueError as error:
        complain(f"chatsrv: {error}; the certificate stays as it was")


def explain(server: Server) -> Coroutine[None]:
    """COROUTINE. Writes to stderr what all tasks wait for, a few at a time, so that nobody has to wait for that."""
    lines = server.explain()
    try:
        while text := "\n".join(islice(lines, AT_ONCE)):
            yield from write(2, text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass  # stderr is closed, or the disk is full


def tell_what_takes_time(server: Server) -> Coroutine[None]:
    """COROUTINE. Says on stderr what the end waits for, if it takes LONG."""
    yield from sleep(LONG)
    names = [member.name for member in server.connections]
    whom = f" to {', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}" if names else ""
    complain(
        f"chatsrv: still delivering what is due{whom}, for {FAREWELL:g} s at most; another signal ends this at once"
    )


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as it may have; returns how many."""
    import resource

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
