"""The systems under the pollers: just enough of the `select` module, and of `os`, for each of them."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .world import ERR, HUP, IN, ONESHOT, OUT, Failure, error

if TYPE_CHECKING:
    from .world import World


class Files:
    """What kind of file a descriptor is."""

    def __init__(self, world: World) -> None:
        self.world = world

    def fstat(self, fd: int) -> Files:
        if fd not in self.world.files:
            raise error(errno.EBADF)
        self.st_mode = stat.S_IFREG if self.world.files[fd].always else stat.S_IFSOCK
        return self


class System(Protocol):
    def closed(self, fd: int) -> bool:
        """A descriptor was closed; whether it was still armed."""


class Epoll:
    """Known descriptors stay known until they are unregistered or closed; one-shot, so most are not armed. ERR and HUP
    cannot be masked: they are also told to those that want nothing, but once.
    """

    EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLONESHOT = IN, OUT, ERR, HUP, ONESHOT

    def __init__(self, world: World) -> None:
        self.world = world
        self.known: dict[int, None] = {}
        self.armed: dict[int, int] = {}

    def epoll(self) -> Epoll:
        return self

    def register(self, fd: int, wanted: int) -> None:
        if self.world.files[fd].always:
            raise PermissionError(1, "Operation not permitted")
        if fd in self.known:
            raise FileExistsError(17, "File exists")
        self.world.refuse("arming", errno.ENOMEM, errno.ENOSPC)
        self.known[fd] = None
        self.set(fd, wanted)

    def modify(self, fd: int, wanted: int) -> None:
        if self.world.files[fd].always:
            raise PermissionError(1, "Operation not permitted")
        if fd not in self.known:
            raise FileNotFoundError(2, "No such file or directory")
        self.world.refuse("arming", errno.ENOMEM)
        self.set(fd, wanted)

    def set(self, fd: int, wanted: int) -> None:
        if not wanted & ONESHOT:
            raise Failure(f"descriptor {fd} is armed for more than once")
        self.armed[fd] = wanted & (IN | OUT)

    def unregister(self, fd: int) -> None:
        if fd not in self.known:
            raise FileNotFoundError(2, "No such file or directory")
        del self.known[fd]
        self.armed.pop(fd, None)

    def poll(self, timeout: float | None = None, most: int = -1) -> list[tuple[int, int]]:
        found = self.world.few(self.world.wait(self.armed, None if timeout is None or timeout < 0 else timeout))
        for fd, _ in found:
            del self.armed[fd]
        return found

    def closed(self, fd: int) -> bool:
        self.known.pop(fd, None)
        return self.armed.pop(fd, None) is not None

    def close(self) -> None:
        self.known.clear()
        self.armed.clear()


class Event(NamedTuple):
    ident: int
    filter: int
    flags: int


class Kqueue:
    """Two filters a descriptor, each armed and told by itself, and gone once it was told."""

    KQ_FILTER_READ, KQ_FILTER_WRITE = -1, -2
    KQ_EV_ADD, KQ_EV_DELETE, KQ_EV_ONESHOT = 1, 2, 16
    kevent = Event

    def __init__(self, world: World) -> None:
        self.world = world
        self.armed: dict[int, int] = {}

    def kqueue(self) -> Kqueue:
        return self

    def control(self, changes: list[Event] | None, most: int, timeout: float | None = 0) -> list[Event]:
        if any(change.flags & self.KQ_EV_ADD for change in changes or []):
            self.world.refuse("arming", errno.ENOMEM)
        for fd, filter, flags in changes or []:
            bit = IN if filter == -1 else OUT
            if flags & self.KQ_EV_ADD:
                if not flags & self.KQ_EV_ONESHOT:
                    raise Failure(f"descriptor {fd} is armed for more than once")
                self.armed[fd] = self.armed.get(fd, 0) | bit
            elif self.armed.get(fd, 0) & bit:
                self.fire(fd, bit)
            else:
                raise FileNotFoundError(2, "No such file or directory")
        told = []
        for fd, mask in self.world.few(self.world.wait(self.armed, timeout)) if most else []:
            for filter, bit in ((-1, IN), (-2, OUT)):
                if self.armed.get(fd, 0) & bit and mask & (bit | ERR | HUP):
                    self.fire(fd, bit)
                    told.append(Event(fd, filter, 0))
        return told

    def fire(self, fd: int, bit: int) -> None:
        self.armed[fd] &= ~bit
        if not self.armed[fd]:
            del self.armed[fd]

    def closed(self, fd: int) -> bool:
        return fd in self.armed

    def close(self) -> None:
        self.armed.clear()


class Select:
    """Knows nothing between two calls; what is armed is the poller's own book."""

    def __init__(self, world: World) -> None:
        self.world = world

    def select(
        self, readers: list[int], writers: list[int], failing: list[int], timeout: float | None
    ) -> tuple[list[int], list[int], list[int]]:
        wanted = dict.fromkeys(readers, IN)
        for fd in writers:
            wanted[fd] = wanted.get(fd, 0) | OUT
        readable, writable = [], []
        for fd, mask in self.world.wait(wanted, timeout):
            if wanted[fd] & IN and mask & (IN | ERR | HUP):
                readable.append(fd)
            if wanted[fd] & OUT and mask & (OUT | ERR | HUP):
                writable.append(fd)
        return readable, writable, []

    def closed(self, fd: int) -> bool:
        armed: dict[int, int] = self.world.poller.armed  # type: ignore[attr-defined]
        return fd in armed


class Direct:
    """A poller with no system under it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.armed: dict[int, int] = {}

    def arm(self, fd: int, want: int) -> None:
        self.armed[fd] = want

    def forget(self, fd: int) -> None:
        self.armed.pop(fd, None)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        found = self.world.wait(self.armed, timeout)
        told = []
        for fd, mask in found:
            want = self.armed.pop(fd)
            told.append((fd, want if mask & (ERR | HUP) else mask & want))
        return told

    def closed(self, fd: int) -> bool:
        return fd in self.armed

    def close(self) -> None:
        pass
