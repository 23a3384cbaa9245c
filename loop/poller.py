"""Which descriptors are ready: three systems, one face.

    arm(fd, want)    report `fd` once, as soon as one of `want` (READ | WRITE) is ready; 0 takes that back.
                     OSError: there is no such descriptor, or no memory
    forget(fd)       drop all that is known of `fd`, which is about to be closed
    poll(timeout)    [(fd, what is ready)], after at most `timeout` seconds (None: however long it takes)
    close()          free the system's own descriptor

Arming is one-shot. Readiness that nobody has asked for is then reported at most once, where a lasting registration
reports it again at every poll: a peer that resets while nobody reads from it (an error cannot be masked), or a
registration that outlives its descriptor because a duplicate of it is still open, would keep the processor busy for
good. The price is one system call a wait.

Ready means "do not expect to wait", which an error or a hang-up fulfils for both directions: the next recv or send
tells what it is. Files and devices like /dev/null are always ready: select says so, the other two pollers keep apart,
in `always`, what their system refuses or gets wrong.
"""

from __future__ import annotations

import os
import select
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Poller(Protocol):
        def arm(self, fd: int, want: int) -> None: ...
        def forget(self, fd: int) -> None: ...
        def poll(self, timeout: float | None) -> list[tuple[int, int]]: ...
        def close(self) -> None: ...


READ = 1  # EPOLLIN
WRITE = 4  # EPOLLOUT: what is wanted goes to epoll as it is


class EpollPoller:
    """Linux. A registration stays until it is forgotten; a report only disarms it."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.always: dict[int, int] = {}

    def arm(self, fd: int, want: int) -> None:
        mask = want | select.EPOLLONESHOT
        try:
            self.epoll.modify(fd, mask)
        except FileNotFoundError:
            if want:
                self.epoll.register(fd, mask)
        except PermissionError:
            self.always[fd] = want

    def forget(self, fd: int) -> None:
        self.always.pop(fd, None)
        try:
            self.epoll.unregister(fd)
        except OSError:
            pass  # it was never armed

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        found = [(fd, want) for fd, want in self.always.items() if want]
        self.always.clear()
        for fd, mask in self.epoll.poll(0 if found else timeout):
            # EPOLLHUP and EPOLLERR come without IN or OUT: the end of a pipe is HUP alone
            ready = (READ if mask & ~select.EPOLLOUT else 0) | (WRITE if mask & ~select.EPOLLIN else 0)
            found.append((fd, ready))
        return found

    def close(self) -> None:
        self.epoll.close()


class KqueuePoller:
    """macOS and BSD. A filter a direction, gone once it was reported; `armed` knows which are there."""

    def __init__(self) -> None:
        self.kqueue = select.kqueue()
        self.armed: dict[int, int] = {}
        self.always: dict[int, int] = {}

    def arm(self, fd: int, want: int) -> None:
        kind = os.fstat(fd).st_mode
        if stat.S_ISREG(kind) or (stat.S_ISCHR(kind) and not os.isatty(fd)):
            self.always[fd] = want  # a file's end would never be reported, and devices are refused
            return
        had, self.armed[fd] = self.armed.get(fd, 0), want
        filters = ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE))
        add, delete = select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_EV_DELETE
        changes = [select.kevent(fd, filter, add) for bit, filter in filters if want & bit]
        changes += [select.kevent(fd, filter, delete) for bit, filter in filters if had & ~want & bit]
        try:
            self.kqueue.control(changes, 0)
        except FileNotFoundError:
            pass  # what was to be deleted went with a descriptor that was closed without a word

    def forget(self, fd: int) -> None:
        self.arm(fd, 0)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        found = [(fd, want) for fd, want in self.always.items() if want]
        self.always.clear()
        for kevent in self.kqueue.control(None, 1024, 0 if found else timeout):
            ready = READ if kevent.filter == select.KQ_FILTER_READ else WRITE
            self.armed[kevent.ident] &= ~ready
            found.append((kevent.ident, ready))
        return found

    def close(self) -> None:
        self.kqueue.close()


class SelectPoller:
    """Everywhere, also for a terminal that kqueue refuses. For few descriptors: those below FD_SETSIZE, mostly 1024.

    A descriptor that is closed while it is armed makes poll() fail for all.
    """

    def __init__(self) -> None:
        self.armed: dict[int, int] = {}

    def arm(self, fd: int, want: int) -> None:
        self.armed[fd] = want

    def forget(self, fd: int) -> None:
        self.armed.pop(fd, None)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        readers = [fd for fd, want in self.armed.items() if want & READ]
        writers = [fd for fd, want in self.armed.items() if want & WRITE]
        readable, writable, _ = select.select(readers, writers, [], timeout)
        found = [(fd, READ) for fd in readable] + [(fd, WRITE) for fd in writable]
        for fd, _ in found:
            self.armed[fd] = 0
        return found

    def close(self) -> None:
        self.armed.clear()


def default_poller() -> Poller:
    """The best this system has."""
    if hasattr(select, "epoll"):
        return EpollPoller()
    if hasattr(select, "kqueue"):
        return KqueuePoller()
    return SelectPoller()
