"""Ways to break the server, to see whether the simulation would notice.

Each is a piece of production source and what stands there instead. `broken` imports everything anew with the change in
it, beside the modules that are loaded already, and puts those back afterwards.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    FailureOf = Callable[[int], tuple[str, Any]]

ROOT = Path(__file__).parents[2]


class Mutation(NamedTuple):
    name: str
    module: str
    changes: list[tuple[str, str]]


def change(name: str, module: str, *texts: str) -> Mutation:
    """`texts`: what is there, what is put there instead, and so on in turn. " / " stands for the end of a line."""
    pieces = [text.replace(" / ", "\n") for text in texts]
    return Mutation(name, module, list(zip(pieces[::2], pieces[1::2])))


MUTATIONS = [
    change("the rest of a partial send is dropped", "loop.stream",
           "if sent == len(rest):", "if sent:"),
    change("a send that would block is tried again at once", "loop.stream",
           "[sent:] /         yield WriteWait(sock, timeout)", "[sent:] /         if False: /             yield"),
    change("a recv that would block is the end of the stream", "loop.stream",
           "return sock.recv(most) /         except BlockingIOError: /             pass",
           "return sock.recv(most) /         except BlockingIOError: /             return b''"),
    change("accepted sockets stay blocking", "loop.stream",
           "sock.setblocking(False)", "pass"),
    change("a failing accept loses those accepted before it", "loop.stream",
           "if not accepted and not isinstance", "if not isinstance"),
    change("a closed descriptor is not forgotten", "loop.kernel",
           "            self.poller.forget(fd) / ", ""),
    change("the other direction is not armed again", "loop.kernel",
           "                self.rearm(fd) / ", "                pass / "),
    change("who is cancelled while waiting leaves the descriptor armed", "loop.kernel",
           "        del waiting[task.trap.fd] /         self.rearm(task.trap.fd)",
           "        del waiting[task.trap.fd]"),
    change("a task cancelled before its first step never takes it", "loop.kernel",
           " or task.trap is NOTHING_YET:", ":"),
    change("a woken task keeps its timer", "loop.task",
           "        self.undo = self.timer = None", "        self.undo = None"),
    change("a timer counts though its task has another one", "loop.kernel",
           "            if task.timer is timer:", "            if task.timer is not None:",
           "timer is not self.timers[0]:", "timer is None:"),
    change("who waits for a task's end is not woken", "loop.kernel",
           "            joiner.wake()", "            pass"),
    change("cancelling a ready task makes it ready twice", "loop.task",
           "            self.error = Cancelled()",
           "            self.error = Cancelled() /             self.ready_queue.append(self)"),
    change("waking does not undo the wait", "loop.task",
           "        self.undo(self) / ", ""),
    change("a hang-up without IN wakes nobody", "loop.poller",
           "(READ if mask & ~select.EPOLLOUT else 0)", "(READ if mask & select.EPOLLIN else 0)"),
    change("1023 instead of 1024", "chat.framing",
           "LIMIT = 1024", "LIMIT = 1023"),
    change("the return before a separator stays", "chat.framing",
           'if b"\\r" in data:', "if False:"),
    change("a full part is followed by an empty message", "chat.framing",
           'self.filled = bool(full) and self.rest in (b"", b"\\r")', "pass"),
    change("characters are cut in two", "chat.framing",
           "return start if start + length > end else end", "return end"),
    change("--max-rate is not kept", "chat.server.member",
           "        if early > 0:", "        if False:"),
    change("--max-clients lets one more in", "chat.server.server",
           ">= self.options.max_clients", "> self.options.max_clients"),
    change("--max-per-ip lets one more in", "chat.server.server",
           ">= self.options.max_per_ip", "> self.options.max_per_ip"),
    change("who goes still counts for --max-per-ip", "chat.server.server",
           "            self.per_host[member.host] -= 1 / ", ""),
    change("no greeting", "chat.handlers.chat",
           "    member.tell(GREETING) / ", ""),
    change("nobody spreads what is fresh", "chat.server.room",
           "        self.news.wake() / ", ""),
    change("an accept that fails ends the accepting", "chat.server.server",
           "PASSING: /                     continue", "PASSING: /                     return"),
    change("accept is tried again at once when descriptors are short", "chat.server.server",
           "                yield from sleep(0.1)  #", "                pass  #"),
    change("closed before the peer's end", "chat.server.server",
           "            while (left :=", "            while False and (left :="),
    change("the socket is not closed", "chat.server.server",
           "        self.kernel.close(member.socket) / ", ""),
    change("mapped addresses are printed as they are", "chat.server.server",
           "            host = host[7:] / ", "            pass / "),
    change("a short write to the journal loses the rest", "chat.server.journal",
           "                rest = rest[taken:] /                 self.size -= taken",
           "                self.size -= len(rest) /                 rest = rest[len(rest):]"),
    change("the journal's writer is not woken", "chat.server.journal",
           "        self.news.wake() / ", ""),
    change("the journal says nothing of lines left out", "chat.server.journal",
           "        if self.lost: / ", "        if False: / "),
    change("a closed stdout ends the journal's writer with an error", "chat.server.journal",
           "                    self.fail(error) / ", "                    raise / "),
]  # fmt: skip


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from changed source."""

    def __init__(self, mutation: Mutation, path: str) -> None:
        super().__init__(mutation.module, path)
        self.mutation = mutation

    def get_code(self, fullname: str) -> Any:
        source = Path(self.path).read_text()
        for old, new in self.mutation.changes:
            if source.count(old) != 1:
                raise LookupError(f"{self.mutation.name!r}: {old!r} is {source.count(old)} times in {self.path}")
            source = source.replace(old, new)
        return compile(source, self.path, "exec")


class Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutation: Mutation) -> None:
        self.mutation = mutation

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self.mutation.module:
            return None
        source = str(ROOT.joinpath(*name.split(".")).with_suffix(".py"))
        return importlib.util.spec_from_file_location(name, source, loader=Loader(self.mutation, source))


@contextmanager
def broken(mutation: Mutation) -> Iterator[FailureOf]:
    """The simulation of a server with this mutation in it: its failure_of."""
    ours = [name for name in sys.modules if name.partition(".")[0] in ("loop", "chat", "simulation")]
    whole = {name: sys.modules.pop(name) for name in ours}
    finder = Finder(mutation)
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module("simulation.run").failure_of
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("loop", "chat", "simulation")]:
            del sys.modules[name]
        sys.modules.update(whole)


def caught(mutation: Mutation, seeds: int) -> tuple[int, str]:
    """The first seed that notices the mutation, and what the oracle says; -1 if none does."""
    with broken(mutation) as failure_of:
        for seed in range(seeds):
            failure, _ = failure_of(seed)
            if failure:
                return seed, failure
    return -1, "was not noticed"
