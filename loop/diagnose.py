"""What a program in trouble says about itself, on stderr."""

from __future__ import annotations

import os
import sys

from .stream import sleep, write_some
from .task import Task
from .traps import Coroutine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Callable

ROOT = os.path.dirname(os.path.dirname(__file__)) + os.sep


def complain(text: str) -> None:
    """Write lines to stderr, or as much of them as fits. Never waits and never raises.

    Where stderr and stdout share a pipe whose reader has paused, a blocking write here would stop everything.
    """
    data = printable(text).encode() + b"\n"
    try:
        while data and (taken := write_some(2, data)):
            data = data[taken:]
    except OSError:
        pass  # stderr is closed, or the disk is full


def report(what: str) -> None:
    """Print the exception that is being handled to stderr, with its traceback."""
    error = sys.exc_info()[1]
    try:
        import traceback  # only now: it takes longer to import than the whole loop

        text = traceback.format_exc().rstrip()
    except Exception:
        text = repr(error)  # without a descriptor left, nothing can be imported
    complain(f"{what}\n{text}")


def printable(text: str) -> str:
    """The text, with escapes for what could change a terminal: a peer may have written some of it."""
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def explain(task: Task) -> str:
    """What a task waits for, and where each coroutine of its `yield from` chain has stopped, outermost first."""
    trap = task.waits_for
    details = [f"{name} {getattr(trap, name)}" for name in ("fd", "timeout") if getattr(trap, name, None) is not None]
    lines = [f"{task.name}: {type(trap).__name__ if trap else 'ready'} {', '.join(details)}".rstrip()]
    coroutine: object = getattr(task, "coroutine", None)  # a task that was dropped has none
    while frame := getattr(coroutine, "gi_frame", None):
        lines.append(line_of(frame))
        coroutine = getattr(coroutine, "gi_yieldfrom", None)
    return printable("\n".join(lines))


def line_of(frame: FrameType) -> str:
    """The function in which a coroutine has stopped, and the file and the line."""
    code = frame.f_code
    return f"    {code.co_name} at {code.co_filename.removeprefix(ROOT)}:{frame.f_lineno}"


def vital(begin: Callable[[], Coroutine[None]], name: str, pause: float = 1.0) -> Coroutine[None]:
    """COROUTINE. Runs `begin()` to its end. The program cannot do without it.

    If it fails with an OSError, for example for want of memory, it is started again after `pause` seconds. Any other
    exception is a mistake in the program, and ends kernel.run() with SystemExit(1).
    """
    while True:
        try:
            return (yield from begin())
        except OSError as error:
            complain(f"{name} failed, and starts again: {error.strerror or error}")
        except Exception:
            report(f"{name} failed")
            raise SystemExit(1) from None
        yield from sleep(pause)
