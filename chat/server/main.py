"""The program: flags, the handler, listening sockets, signals, and the end of the process."""

from __future__ import annotations

import os

from loop import Kernel, Signals, Watchdog, complain, vital
from loop.bare import signal
from loop.poller import default_poller

from ..escape import harmless
from ..handlers.chat import chat
from ..options import occupy_standard_descriptors
from ..stdout import standard_output
from .connection import reset_unless_complete
from .flags import Options, parse
from .journal import Journal
from .listen import CannotListen, prepare, why
from .ports import Ports
from .server import Server
from .signals import ASKING, ENDING, ending, handle_signals, notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Callable

    from loop import Coroutine
    from loop.poller import Poller

    from ..stdout import Output
    from .loading import Handler, Start

PLENTY = 1 << 16  # descriptors that we take where there is no limit
RESERVE = 32  # descriptors that are not for members: ours, and those of clients being refused


def main(arguments: list[str] | None = None) -> int:
    """Run the server until a signal ends it; returns the exit status."""
    try:
        occupy_standard_descriptors()
        options = parse(arguments)
        limit = raise_descriptor_limit()
    except (OSError, ImportError) as error:
        return cannot_start(error)
    if options.max_clients is None:
        options.max_clients = max(1, limit - RESERVE)
    try:
        handler, start = find_handler(options.handler)
    except ValueError as error:
        return refuse(2, f"--handler: {error}")
    if options.trace:
        try:
            from ..files import must_not_wait  # only now: it is rarely needed

            must_not_wait(options.trace[0])
            open(options.trace[0], "a").close()
        except OSError as error:
            return refuse(2, f"--trace: cannot write {options.trace[0] or repr('')}: {why(error)}")
    ports = Ports()
    try:
        ports.open(options)
        return serve(options, ports, handler, start)
    except ValueError as error:
        return refuse(2, error)
    except CannotListen as error:
        return refuse(1, error)
    except (OSError, ImportError) as error:
        return cannot_start(error)
    finally:
        close(*ports.listeners)


def cannot_start(error: OSError | ImportError) -> int:
    """Say why the server cannot start; returns the exit status. (Imports fail when there is no free descriptor.)"""
    return refuse(1, f"cannot start: {why(error) if isinstance(error, OSError) else error}")


def refuse(status: int, why_not: object) -> int:
    """Say in one line why the server does not start; returns the exit status."""
    complain(f"chatsrv: {harmless(str(why_not))}")
    return status


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
    from .loading import load_handler  # its import takes long, and most servers do not need it

    return load_handler(where)


def serve(options: Options, ports: Ports, handler: Handler, start: Start | None) -> int:
    """Run the server on these ports; returns the exit status. Raises OSError if it cannot have what it needs."""
    for listener in ports.listeners:
        prepare(listener, options.stall_timeout)
    poller = default_poller()
    output = standard_output()
    try:
        journal = Journal(output, quiet=options.quiet, timestamps=options.timestamps)
        signals = Signals(*ENDING, *ASKING)
        try:
            watchdog = Watchdog(poller, signals, *ending(ports))
            kernel = traced(watchdog, lambda: server, *options.trace) if options.trace else Kernel(watchdog)
            server = Server(kernel, ports.listeners, journal, options, handler, start, ports.wires)
            watchdog.before_exit = lambda: cut_off(server)
            return run(server, signals, ports)
        finally:
            ignore_from_now_on(signals)
    finally:
        close(output, poller)


def ignore_from_now_on(signals: Signals) -> None:
    """For the end: a late signal must not change the exit status."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {*ENDING, *ASKING, signal.SIGALRM})
    except OSError:
        pass
    close(signals)


def traced(poller: Poller, server: Callable[[], Server], path: str, seconds: float) -> Kernel:
    """A kernel that writes down what it does. `server` is a function, because the server is made after its kernel."""
    from loop.trace import TracedKernel

    kernel = TracedKernel(poller)
    kernel.counters["members"] = lambda: server().admission.members.all
    kernel.write_to(path, seconds)
    return kernel


def run(server: Server, signals: Signals, ports: Ports) -> int:
    """Run the server until a signal ends it; returns the exit status."""
    kernel, journal, options = server.kernel, server.journal, server.options
    if options.cluster is not None:
        waiting = kernel.spawn(wait_for_end(kernel, signals, ports), "signals")
        status = join_cluster(server, options.cluster, options.cluster_wait)
        if status is not None:
            return status
        waiting.cancel()
        if waiting.outcome:  # the signal came just after the node had joined
            server.stop()
    life = kernel.spawn(server.run(), "server")
    kernel.spawn(vital(lambda: handle_signals(signals, server, ports), "signals"), "signals")
    for line in ports.describe():
        journal.say("chatsrv", harmless(line))
    if options.web:
        from .web.start import look_after_browsers

        look_after_browsers(server)
    notify("READY=1")
    try:
        kernel.run(until=life)
    except OSError as error:
        complain(f"chatsrv: cannot go on: {why(error)}")
    except BaseException as error:  # SystemExit from vital()
        complain(f"chatsrv: cannot go on: a task has ended with {error!r}")
    if life.outcome == "returned":
        return 1 if server.unsettled else 0
    try:
        abandon(server)
    except MemoryError:
        cut_off(server)
        os._exit(1)  # otherwise Python would end thousands of tasks, and complain for each that it has no memory
    return 1


def wait_for_end(kernel: Kernel, signals: Signals, ports: Ports) -> Coroutine[None]:
    """COROUTINE. Stops the kernel as soon as a signal asks for the end."""
    while set(ending(ports)).isdisjoint((yield from signals.wait())):
        pass
    kernel.stop()


def join_cluster(server: Server, url: str, wait: bool) -> int | None:
    """Join the cluster. If that is not possible, say why, and return the exit status."""
    from .cluster.address import Address
    from .cluster.join import Ended, join

    status = 2  # a mistake in the URL is a mistake on the command line
    try:
        address = Address(url)
        status = 1
        join(server.kernel, server.hub, address, wait)
    except ValueError as error:
        return refuse(status, error)
    except Ended as error:
        return refuse(0, error)
    return None


def abandon(server: Server) -> None:
    """End at once, but let the journal name every member and what is lost, if its reader is quick enough."""
    for member in list(server.connections):
        member.reason = member.reason or "the server is ending"
        server.close(member)
    server.kernel.close_collected()
    if server.hub.cluster:
        server.hub.cluster.count_unsettled()
    server.journal.finish()


def cut_off(server: Server) -> None:
    """Let the system end connections by a reset, when it closes them, where something was not delivered.

    This is for the end in the middle of a step, so it comes between any two instructions.
    """
    for member in list(server.connections):
        try:
            reset_unless_complete(member)
        except Exception:
            pass  # such as MemoryError: the others are to be cut off, too


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as it may have; returns how many."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return PLENTY
    most = hard if hard != resource.RLIM_INFINITY else max(soft, PLENTY)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft  # macOS allows less than it says
    return most
