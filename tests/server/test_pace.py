"""pace.py: who is too far behind."""

from __future__ import annotations

from types import SimpleNamespace

from chat.server.flags import Options
from chat.server.pace import GRACE, Pace


class LateReader:
    """A member that is more than --max-lag behind."""

    def __init__(self, max_lag: int) -> None:
        self.outbox = SimpleNamespace(lag=lambda: max_lag + 1)
        self.taken = 0
        self.kicked = ""

    def acknowledged(self) -> int:
        return self.taken

    def kick(self, reason: str) -> None:
        self.kicked = reason


def test_while_the_process_stood_still_nobody_could_take_anything() -> None:
    now = 1000.0
    options = Options()
    pace = Pace(options, lambda: now)
    reader = LateReader(options.max_lag)
    pace.behind[reader] = now, reader.taken  # type: ignore[index] # all that a pace needs of a member
    pace.look()
    assert pace.held
    now += 60  # the process was suspended; then it sends what the system's buffers take, which is not much
    reader.taken += 4 << 20
    pace.look()
    assert pace.held and not reader.kicked
    for _ in range(8):
        now += GRACE / 5  # as keep_looking() does
        pace.look()
    assert reader.kicked == f"more than {options.max_lag} bytes behind"
