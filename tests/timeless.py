"""A poller and a clock for tests: sockets are real, time is not."""

from __future__ import annotations

from loop.poller import default_poller


class Timeless:
    """A poller whose waiting takes no time: if nothing is ready, the clock jumps to the end of the timeout.

    It counts the calls it gets and the reports it makes. A wait that nothing can end fails instead of hanging.
    """

    def __init__(self) -> None:
        self.poller = default_poller()
        self.now = 1000.0
        self.calls: list[str] = []
        self.reports = 0

    def clock(self) -> float:
        return self.now

    def arm(self, fd: int, want: int) -> None:
        self.calls.append("arm")
        self.poller.arm(fd, want)

    def forget(self, fd: int) -> None:
        self.calls.append("forget")
        self.poller.forget(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        self.calls.append("poll")
        found = self.poller.poll(10 if timeout is None else 0)
        self.reports += len(found)
        if not found:
            assert timeout is not None, "these tasks wait for what never comes"
            self.now += timeout
        return found

    def close(self) -> None:
        self.poller.close()
