"""What the process is told by signals, and what it tells its supervisor."""

from __future__ import annotations

import os
from itertools import chain, islice

from loop import complain, explain, sleep, write
from loop.bare import Socket, signal, socket

from .connection import FAREWELL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from loop import Signals, Task
    from loop.traps import Coroutine

    from .certificate import Certificate
    from .journal import Journal
    from .ports import Ports
    from .server import Server

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ASKING = (signal.SIGUSR1, signal.SIGUSR2)  # with --trace, the kernel catches SIGUSR2 instead
SAME = 1.0  # seconds in which ENDING signals count as one: a terminal, a shell and a supervisor may each send one
AT_ONCE = 100  # lines about tasks or members that are written in one step
SUPERVISOR = 0.1  # seconds to wait for a supervisor that reads nothing; meanwhile, nothing else runs
LONG = 1.5  # seconds after which stderr says what the end waits for (the end takes up to 1 s even if nothing is due)


def ending(ports: Ports) -> list[int]:
    """The signals that end the server. With a certificate, SIGHUP does not: the certificate is read again."""
    return [number for number in ENDING if not (ports.certificate and number == signal.SIGHUP)]


def handle_signals(signals: Signals, server: Server, ports: Ports) -> Coroutine[None]:
    """COROUTINE. Obeys signals. One of ENDING begins the orderly end; another, at least SAME later, ends at once.

    With a certificate, SIGHUP lets the server read that again. SIGUSR1 asks what all tasks wait for; it is ignored
    while an earlier SIGUSR1 is being answered.
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
            telling = kernel.spawn(tell(what_all_wait_for(server)), "explanation")
        if signal.SIGUSR2 in numbers:
            complain("chatsrv: there is no timeline to write: SIGUSR2 needs --trace")


def renew(certificate: Certificate, journal: Journal) -> None:
    """Read the certificate again, for the connections to come."""
    try:
        certificate.load()
        journal.say("chatsrv", "has read the certificate again")
    except ValueError as error:
        complain(f"chatsrv: {error}; the certificate stays as it was")


def tell(lines: Iterator[str]) -> Coroutine[None]:
    """COROUTINE. Writes lines to stderr, a few at a time, so that no task is delayed."""
    try:
        while text := "\n".join(islice(lines, AT_ONCE)):
            yield from write(2, text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass  # stderr is closed, or the disk is full


def what_all_wait_for(server: Server) -> Iterator[str]:
    """What every task waits for, and how far behind each member is, line by line.

    Each line is made when it is asked for, since there may be thousands. What has ended by then is left out.
    """
    tasks, members, cluster = list(server.kernel.tasks), list(server.connections), server.hub.cluster
    return chain(
        [f"chatsrv: {server.admission.members.all} members, {len(tasks)} tasks"],
        (explain(task) for task in tasks if task.outcome is None),
        cluster.explain() if cluster else (),
        (f"{member.name}: {member.lag()} bytes behind" for member in members if member in server.connections),
    )


def tell_what_takes_time(server: Server) -> Coroutine[None]:
    """COROUTINE. Says on stderr what the end waits for, if it takes LONG."""
    yield from sleep(LONG)
    names = [member.name for member in server.connections]
    due = "what is due"
    if names:
        due += f" to {', '.join(names[:3])}"
    if len(names) > 3:
        due += f" and {len(names) - 3} more"
    complain(f"chatsrv: still delivering {due}, for {FAREWELL:g} s at most; another signal ends this at once")


def notify(state: str) -> None:
    """Tell the supervisor: "READY=1", "STOPPING=1"."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(SUPERVISOR)
            sock.connect(address)
            sock.send(state.encode())
    except OSError:
        pass  # the supervisor has ended; the chat does not need it
