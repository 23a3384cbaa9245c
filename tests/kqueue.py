"""A stand-in for select.kqueue, so that KqueuePoller is tested on systems that have none.

What it keeps to, because a poller built on kqueue has to live with it:

- a filter is one direction of one descriptor; the two are added, reported and deleted each by itself;
- EV_ONESHOT deletes a filter when it is reported;
- a hang-up or an error fires both filters, with EV_EOF;
- deleting what is not there is ENOENT, and any change on a closed descriptor EBADF;
- a filter goes when its descriptor is closed, even if a duplicate stays open;
- a regular file is readable only before its end, and a device like /dev/null is refused (ENODEV on FreeBSD, EINVAL on
  macOS).

Where it isn't like the real one: it learns of a close only by finding another file behind the number at its next call,
so a number that is closed and then given to the very same file keeps its filters. It occupies no descriptor, errors are
always raised (the real one hands them out as reports when there is room for some), and of the flags it knows the four
below.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterable

KQ_FILTER_READ = -1
KQ_FILTER_WRITE = -2
KQ_EV_ADD = 0x1
KQ_EV_DELETE = 0x2
KQ_EV_ONESHOT = 0x10
KQ_EV_EOF = 0x8000

NAMES = ["kqueue", "kevent", *(name for name in dir() if name.startswith("KQ_"))]
BITS = {KQ_FILTER_READ: select.POLLIN, KQ_FILTER_WRITE: select.POLLOUT}
ENDED = select.POLLHUP | select.POLLERR


class kevent:
    """A change that is wanted, or a report."""

    def __init__(self, ident: int, filter: int = KQ_FILTER_READ, flags: int = KQ_EV_ADD) -> None:
        self.ident = ident
        self.filter = filter
        self.flags = flags


class kqueue:
    """The filters, each with its flags and the file it was added for."""

    def __init__(self) -> None:
        self.filters: dict[tuple[int, int], tuple[int, object]] = {}
        self.closed = False

    def close(self) -> None:
        self.closed = True
        self.filters.clear()

    def control(self, changes: Iterable[kevent] | None, max_events: int, timeout: float | None = None) -> list[kevent]:
        if self.closed:
            raise ValueError("I/O operation on closed kqueue object")
        if timeout is not None and timeout < 0:
            raise ValueError("timeout must be positive or None")
        for key in [key for key, (_, file) in self.filters.items() if identity(key[0]) != file]:
            del self.filters[key]
        for change in changes or ():
            self.change(change)
        found = self.collect(timeout)[:max_events] if max_events else []
        for report in found:
            if report.flags & KQ_EV_ONESHOT:
                del self.filters[report.ident, report.filter]
        return found

    def change(self, change: kevent) -> None:
        key = change.ident, change.filter
        file = identity(change.ident)
        if file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if change.flags & KQ_EV_DELETE:
            if key not in self.filters:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            del self.filters[key]
        elif stat.S_ISCHR(os.fstat(change.ident).st_mode) and not os.isatty(change.ident):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        else:
            self.filters[key] = change.flags, file

    def collect(self, timeout: float | None) -> list[kevent]:
        wanted: dict[int, int] = {}
        for fd, filter in self.filters:
            if filter == KQ_FILTER_WRITE or not at_end_of_file(fd):
                wanted[fd] = wanted.get(fd, 0) | BITS[filter]
        poll = select.poll()
        for fd, bits in wanted.items():
            poll.register(fd, bits)
        found = []
        for fd, bits in poll.poll(None if timeout is None else min(timeout * 1000, 2**31 - 1)):
            for filter, bit in BITS.items():
                if wanted[fd] & bit and bits & (bit | ENDED):
                    flags = self.filters[fd, filter][0] | (KQ_EV_EOF if bits & ENDED else 0)
                    found.append(kevent(fd, filter, flags))
        return found


def identity(fd: int) -> object:
    """Which file is behind the number; None if none is."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def at_end_of_file(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == status.st_size
