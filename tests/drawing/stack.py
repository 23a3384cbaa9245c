"""The `yield from` stack of a member's task: a trap goes out, the task goes on, an error comes in."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from .inside import Inside
from .svg import Picture

LEFT, TOP, WIDTH, HEIGHT, GAP = 24, 92, 316, 46.0, 14


def run() -> tuple[list[tuple[str, str]], str, list[str], list[str]]:
    """The frames of a waiting member's task (function and file, outermost first) and its trap; the functions that run
    when something has arrived, as they are called; those that an error then passes, as it passes them."""
    with Inside() as inside:
        (member,) = inside.members("ann")
        task = member.task
        frames = []
        coroutine: Any = task.coroutine
        while coroutine is not None and hasattr(coroutine, "gi_code"):
            code = coroutine.gi_code
            frames.append((code.co_name, "/".join(code.co_filename.rsplit("/", 2)[1:])))
            coroutine = coroutine.gi_yieldfrom
        trap = f"{type(task.trap).__name__}(fd)"
        names = [name for name, _ in frames]
        entered: list[str] = []
        passed: list[str] = []

        def watch(frame: FrameType, event: str, argument: Any) -> Any:
            name = frame.f_code.co_name
            if event == "call" and name in ("step", *names):
                entered.append(name)
            if event == "exception" and name in names:
                passed.append(name)
            return watch

        def traced(action: Any) -> None:
            before = sys.gettrace()
            sys.settrace(watch)
            try:
                action()
            finally:
                sys.settrace(before)

        inside.people["ann"].send(b"hi\n")
        traced(inside.kernel.turn)
        resumed = entered[: len(frames) + 1]
        inside.settle()
        passed.clear()
        inside.kernel.close(member.socket)
        traced(inside.kernel.turn)
        return frames, trap, resumed, list(dict.fromkeys(passed))


def draw() -> str:
    frames, trap, resumed, passed = run()
    names = ["step", *(name for name, _ in frames)]
    assert resumed == names, f"Python went down the stack: {resumed}"
    description = (
        f"The stack of a waiting member, outermost first: {', '.join(names)}. The trap {trap} goes from the yield in "
        f"{names[-1]} to the kernel past all others. Going on leads from the kernel to that yield again. An error is "
        f"raised there, and passes {', '.join(passed)}."
    )
    height = TOP + len(names) * (HEIGHT + GAP) + 40
    picture = Picture(860, height, "One task, many functions: who sees what passes", description)

    def middle(number: int) -> float:
        return TOP + number * (HEIGHT + GAP) + HEIGHT / 2

    for number, name in enumerate(names):
        y: float = TOP + number * (HEIGHT + GAP)
        kernel, last = number == 0, number == len(names) - 1
        picture.box(LEFT, y, WIDTH, HEIGHT, "violet frame" if kernel else "blue frame" if last else "place")
        picture.text(LEFT + 14, y + 20, f"{name}()", "code bold")
        picture.text(LEFT + 14, y + 37, "loop/kernel.py" if kernel else frames[number - 1][1], "small soft")
        how = "next() or throw()" if kernel else "yield" if last else "yield from"
        picture.text(LEFT + WIDTH - 14, y + 28, how, "code" + " blue bold" * last, "end")
        if not last:
            picture.path(f"M{LEFT + 40} {y + HEIGHT}V{y + HEIGHT + GAP}")
    top, bottom = middle(0), middle(len(names) - 1)
    columns = {"blue": 410, "green": 560, "red": 710}
    heads = {
        "blue": ("the trap goes out", trap),
        "green": ("the task goes on", "next(generator)"),
        "red": ("an error comes in", "generator.throw(…)"),
    }
    for colour, x in columns.items():
        picture.text(x, TOP - 26, heads[colour][0], f"bold {colour}", "middle")
        picture.text(x, TOP - 9, heads[colour][1], "code soft", "middle")
    edge = LEFT + WIDTH + 8
    for y in map(middle, range(len(names))):
        picture.path(f"M{edge} {y}H738", "line dash faint")
    for x, colour, begin, end in ((410, "blue", bottom, top), (560, "green", top, bottom), (690, "red", top, bottom)):
        picture.path(f"M{x} {begin}V{end + (8 if end < begin else -8)}", f"{colour} thick", colour)
        picture.parts.append(f'<circle cx="{x}" cy="{begin}" r="5" class="{colour}"/>')
    for number in range(len(passed)):
        y = middle(len(names) - 1 - number)
        caught = number == len(passed) - 1
        picture.parts.append(f'<circle cx="738" cy="{y}" r="5" class="red"/>')
        picture.text(752, y + 5, "caught" if caught else "raised" if number == 0 else "passes", "small red")
        if not caught:
            picture.path(f"M738 {y - 5}V{y - HEIGHT - GAP + 9}", "red thick", "red")
    words = "The functions in between see neither the trap nor the resumption. Each of them may catch the error."
    picture.text(LEFT, height - 22, words, "soft")
    return str(picture)
