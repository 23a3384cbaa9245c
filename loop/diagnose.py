"""What a program in trouble says about itself, on stderr."""

from __future__ import annotations

import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .task import Task


def complain(text: str) -> None:
    """Write lines to stderr if they can go there at once. Never waits and never raises.

    Where stderr and stdout share a pipe whose reader has paused, a blocking write here would stop everything.
    """
    data = text.encode("utf-8", "backslashreplace") + b"\n"
    try:
        while data and select.select([], [2], [], 0)[1]:
            data = data[os.write(2, data[: select.PIPE_BUF]) :]  # so much surely fits once there is room
    except OSError:
        pass  # stderr is closed, or the disk is full


def report(what: str) -> None:
    """Complain about the exception that is being handled, with its traceback."""
    import traceback  # only now: it takes longer to import than the whole loop

    complain(f"{what}\n{traceback.format_exc().rstrip()}")


def explain(task: Task) -> str:
    """What a task waits for, and where each coroutine of its `yield from` chain stands, outermost first."""
    trap = task.waits_for
    details = [f"{name} {getattr(trap, name)}" for name in ("fd", "timeout") if getattr(trap, name, None) is not None]
    lines = [f"{task.name}: {type(trap).__name__ if trap else 'ready'} {', '.join(details)}".rstrip()]
    coroutine: Any = getattr(task, "coroutine", None)  # a task that was dropped has none
    while getattr(coroutine, "gi_frame", None) is not None:
        place = os.path.relpath(coroutine.gi_code.co_filename, sys.path[0] or None)
        lines.append(f"    {coroutine.__name__} at {place}:{coroutine.gi_frame.f_lineno}")
        coroutine = coroutine.gi_yieldfrom
    return "\n".join(lines)
