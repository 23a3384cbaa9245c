"""Which descriptors are ready: three systems, one face.

    arm(fd, want)    report `fd` once, as soon as one of `want` (READ | WRITE) is ready; 0 takes that back
    forget(fd)       `fd` is about to be closed
    poll(timeout)    [(fd, what is ready)], after at most `timeout` seconds (None: however long it takes)
    close()          free the system's own descriptor

Arming is one-shot. Readiness that nobody has asked for is then reported at most once, where a lasting registration
reports it again at every poll: a peer that resets while nobody reads from it (an error cannot be masked), or a
registration that outlives its descriptor because a duplicate of it is still open, would keep the processor busy for
good. The price is one system call a wait.

Ready means "do not expect to wait", which an error or a hang-up fulfils for both directions: the next recv or send
tells what it is. Files and devices like /dev/null are always ready: select says so, the other two pollers keep apart
what their system refuses or gets wrong.
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
    """Linux. `always` holds what is armed and always ready: epoll refuses to watch it."""

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
            self.always.pop(fd, None)
            if want:
                self.always[fd] = want

    def forget(self, fd: int) -> None:
        self.always.pop(fd, None)
        try:
            self.epoll.unregister(fd)
        except OSError:
            pass  # it was never armed

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        found = list(self.always.items())
        self.always.clear()
        if found:
            timeout = 0
        for fd, mask in self.epoll.poll(timeout):
            # EPOLLHUP and EPOLLERR come without IN or OUT: the end of a pipe is HUP alone
            ready = (READ if mask & ~select.EPOLLOUT else 0) | (WRITE if mask & ~select.EPOLLIN else 0)
            found.append((fd, ready))
        return found

    def close(self) -> None:
        self.epoll.close()


class KqueuePoller:
    """macOS and BSD. A filter a direction, each one-shot by itself: `armed` is kept to take back the other one.

    `always` holds what is armed and always ready: files, whose end kqueue would never report, and devices it refuses.
    """

    def __init__(self) -> None:
        self.kqueue = select.kqueue()
        self.armed: dict[int, int] = {}
        self.always: dict[int, int] = {}

    def arm(self, fd: int, want: int) -> None:
        had = self.armed.pop(fd, 0)
        self.always.pop(fd, None)
        kind = os.fstat(fd).st_mode
        if stat.S_ISREG(kind) or (stat.S_ISCHR(kind) and not os.isatty(fd)):
            if want:
                self.always[fd] = want
            return
        for bit, filter in ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE)):
            if want & bit:
                self.change(fd, filter, select.KQ_EV_ADD | select.KQ_EV_ONESHOT)
            elif had & bit:
                self.change(fd, filter, select.KQ_EV_DELETE)
        if want:
            self.armed[fd] = want

    def change(self, fd: int, filter: int, flags: int) -> None:
        try:
            self.kqueue.control([select.kevent(fd, filter, flags)], 0)
        except FileNotFoundError:
            pass  # deleting a filter that has just fired

    def forget(self, fd: int) -> None:
        self.always.pop(fd, None)
        if fd in self.armed:
            self.arm(fd, 0)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        found = list(self.always.items())
        self.always.clear()
        if found:
            timeout = 0
        for kevent in self.kqueue.control(None, 1024, timeout):
            ready = READ if kevent.filter == select.KQ_FILTER_READ else WRITE
            rest = self.armed.pop(kevent.ident, 0) & ~ready
            if rest:
                self.armed[kevent.ident] = rest
            found.append((kevent.ident, ready))
        return found

    def close(self) -> None:
        self.kqueue.close()


class SelectPoller:
    """Everywhere, also for a terminal that kqueue refuses. For few descriptors: those below FD_SETSIZE, mostly 1024."""

    def __init__(self) -> None:
        self.armed: dict[int, int] = {}

    def arm(self, fd: int, want: int) -> None:
        if want:
            self.armed[fd] = want
        else:
            self.armed.pop(fd, None)

    def forget(self, fd: int) -> None:
        self.armed.pop(fd, None)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        readers = [fd for fd, want in self.armed.items() if want & READ]
        writers = [fd for fd, want in self.armed.items() if want & WRITE]
        readable, writable, _ = select.select(readers, writers, [], timeout)
        found = dict.fromkeys(readable, READ)
        for fd in writable:
            found[fd] = found.get(fd, 0) | WRITE
        for fd in found:
            del self.armed[fd]
        return list(found.items())

    def close(self) -> None:
        self.armed.clear()


def default_poller() -> Poller:
    """The best this system has."""
    if hasattr(select, "epoll"):
        return EpollPoller()
    if hasattr(select, "kqueue"):
        return KqueuePoller()
    return SelectPoller()
