"""Which descriptors are ready: three systems, one interface.

Arming is one-shot: an event is reported once. A lasting registration would report it at every poll until a task acts on
it. In two cases, no task does. One is a peer that resets while no task reads from it: the system reports errors
unasked. The other is a descriptor that was closed while a duplicate of it is still open: the registration stays. The
price of arming is one system call for each wait.

Ready means that a call will not wait. After an error or a hang-up, that is true of both directions: the next recv or
send tells what has happened. Files and devices like /dev/null are always ready. But epoll refuses them, and kqueue does
not report a file's end. So these two pollers keep such descriptors in `always` while they are armed.
"""

from __future__ import annotations

import errno
import os
import select
import stat

from .traps import Protocol

# The numbers are those of EPOLLIN and EPOLLOUT, so that EpollPoller need not translate them.
READ = 1
WRITE = 4
DIRECTIONS = {READ, WRITE, READ | WRITE}
MOST = 1023  # the most reports that one system call returns


class Poller(Protocol):
    """What the kernel needs of each poller."""

    def arm(self, fd: int, want: int) -> None:
        """Report `fd` once, as soon as one of `want` (READ | WRITE) is ready; with `want` 0, report it no more.

        Raises OSError if there is no such descriptor, or no memory; then nothing has changed.
        """

    def forget(self, fd: int) -> None:
        """Drop all that is known of `fd`, which is about to be closed."""

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Return all that is ready, as [(fd, READ | WRITE)], after at most `timeout` seconds (None: for ever)."""

    def close(self) -> None:
        """Close the poller's own descriptor, which epoll and kqueue have."""


class EpollPoller:
    """Linux. After a report the system keeps the registration, but disarmed.

    `resting` has the descriptors of such registrations. To arm one of them again is to modify it.
    """

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.always: dict[int, int] = {}
        self.resting: set[int] = set()

    def arm(self, fd: int, want: int) -> None:
        mask = want | select.EPOLLONESHOT
        try:
            if fd in self.resting:
                self.resting.remove(fd)
                self.epoll.modify(fd, mask)
            else:
                self.epoll.register(fd, mask)
        except FileExistsError:
            self.epoll.modify(fd, mask)  # `fd` is registered, and what it was armed for was not reported yet
        except FileNotFoundError:
            self.epoll.register(fd, mask)  # `fd` was closed without forget(), and is another file's number now
        except PermissionError:  # a file, or a device, that is always ready
            self.always[fd] = want

    def forget(self, fd: int) -> None:
        if fd in self.resting:
            # The registration ends when `fd` is closed. If a duplicate is open, the registration stays, but disarmed.
            self.resting.remove(fd)
            return
        self.always.pop(fd, None)
        try:
            self.epoll.unregister(fd)
        except (OSError, ValueError):
            pass  # `fd` was never armed, or this poller is closed

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        wait = -1 if timeout is None else timeout
        if self.always:
            found = [(fd, want) for fd, want in self.always.items() if want]
            self.always.clear()
            if found:
                wait = 0
        events = self.epoll.poll(wait, MOST)
        resting = self.resting
        for fd, mask in events:
            # EPOLLHUP and EPOLLERR can come without IN or OUT: the end of a pipe is HUP alone
            found.append((fd, mask if mask in DIRECTIONS else (READ | WRITE)))
            resting.add(fd)
        return found if len(events) < MOST else found + self.poll(0)

    def close(self) -> None:
        self.epoll.close()


class KqueuePoller:
    """macOS and BSD. A descriptor has a filter for each direction, and the system deletes a filter that it reports.

    `armed` has, for each descriptor, the directions that still have their filter.
    """

    def __init__(self) -> None:
        self.kqueue = select.kqueue()
        self.armed: dict[int, int] = {}
        self.always: dict[int, int] = {}

    def arm(self, fd: int, want: int) -> None:
        kind = os.fstat(fd).st_mode
        if stat.S_ISREG(kind) or (stat.S_ISCHR(kind) and not os.isatty(fd)):
            self.always[fd] = want  # a file's end would never be reported, and devices are refused
            return
        had = self.armed.get(fd, 0)
        filters = ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE))
        add, delete = select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_EV_DELETE
        changes = [select.kevent(fd, filter, add) for bit, filter in filters if want & bit]
        changes += [select.kevent(fd, filter, delete) for bit, filter in filters if had & ~want & bit]
        try:
            self.kqueue.control(changes, 0)
        except FileNotFoundError:
            pass  # the filter to be deleted is gone: `fd` was closed without forget()
        self.armed[fd] = want

    def forget(self, fd: int) -> None:
        try:
            self.arm(fd, 0)
        except (OSError, ValueError):
            pass  # `fd` or this poller is closed already

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        found = [(fd, want) for fd, want in self.always.items() if want]
        self.always.clear()
        events = self.kqueue.control(None, MOST, 0 if found else timeout)
        for event in events:
            ready = READ if event.filter == select.KQ_FILTER_READ else WRITE
            self.armed[event.ident] = self.armed.get(event.ident, 0) & ~ready
            found.append((event.ident, ready))
        return found if len(events) < MOST else found + self.poll(0)

    def close(self) -> None:
        self.kqueue.close()


class SelectPoller:
    """Any system, and any terminal (kqueue refuses some). Only for descriptors below FD_SETSIZE, which is 1024."""

    def __init__(self) -> None:
        self.armed: dict[int, int] = {}

    def arm(self, fd: int, want: int) -> None:
        os.fstat(fd)  # raises OSError if `fd` is closed; otherwise select() would fail, for all tasks
        if fd >= 1024:
            raise OSError(errno.EMFILE, f"select can watch descriptors up to 1023, and not {fd}")
        self.armed[fd] = want

    def forget(self, fd: int) -> None:
        self.armed.pop(fd, None)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        readers = [fd for fd, want in self.armed.items() if want & READ]
        writers = [fd for fd, want in self.armed.items() if want & WRITE]
        try:
            readable, writable, _ = select.select(readers, writers, [], timeout)
        except OSError:  # a descriptor was closed without forget(): its task gets the error from its next call
            readable = writable = [fd for fd in self.armed if not is_open(fd)]
        found = [(fd, READ) for fd in readable] + [(fd, WRITE) for fd in writable]
        for fd, _ in found:
            self.armed[fd] = 0
        return found

    def close(self) -> None:
        self.armed.clear()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def default_poller() -> Poller:
    """The best poller of this system. A forked child closes the poller, so as not to share it with its parent."""
    if hasattr(select, "epoll"):
        poller = EpollPoller()
        os.register_at_fork(after_in_child=poller.close)
        return poller
    if hasattr(select, "kqueue"):
        return KqueuePoller()
    return SelectPoller()
