"""Errors for handlers that call a member or a room with wrong arguments, raised before anything has changed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

GENERATOR = 0x20  # in a function's flags: a call of it makes a generator
ASYNC = 0x80  # in a function's flags: a call of it makes what `await` takes


def wrong(takes: str, got: object, hint: str = "") -> TypeError:
    """The error for an argument that is not what the call takes, with a question that may help."""
    if not hint and hasattr(got, "gi_frame"):
        hint = "did you forget `yield from`?"
    text = f"{takes}, not {got!r}"
    return TypeError(f"{text}: {hint}" if hint else text)


def check_but(but: Any) -> tuple[Any, ...]:
    """Return the members that publish() is to leave out. Raise TypeError if `but` is anything else."""
    try:
        members = tuple(but)
    except TypeError:
        raise wrong("publish() takes a list of members as `but`", but, "did you mean but=[...]?") from None
    for member in members:
        if not hasattr(member, "kicked"):
            raise wrong("publish() takes members as `but`", member)
    return members


def check_messages(messages: Any) -> list[Any]:
    """Return a list of the messages that publish() was given. Raise TypeError if they are anything else.

    A coroutine is refused, too: it yields traps, perhaps without end.
    """
    try:
        iterator = iter(messages)
    except TypeError:
        raise wrong("publish() takes a message or a list of them", messages) from None
    found = []
    for message in iterator:
        if not isinstance(message, (bytes, str, bytearray)):
            raise wrong("a message is str or bytes", messages if hasattr(messages, "gi_frame") else message)
        found.append(message)
    return found


def check_timeout(timeout: Any) -> float:
    """Return the timeout that receive() was given. Raise TypeError or ValueError if it is no number."""
    if not isinstance(timeout, (int, float)):
        raise wrong("receive() takes a number of seconds or None", timeout)
    if timeout != timeout:
        raise ValueError("receive() takes a number of seconds or None, not nan")
    return timeout


def check_spawn(coroutine: Any, name: Any, tasks: Collection[Any]) -> None:
    """Raise TypeError unless `coroutine` is one that has not begun and is not one of `tasks`."""
    takes = "spawn() takes a generator"
    if not hasattr(coroutine, "gi_frame"):
        flags = getattr(getattr(coroutine, "__code__", None), "co_flags", 0)
        if flags & GENERATOR:
            raise wrong(takes, coroutine, f"did you forget the () after {coroutine.__name__}?")
        if flags & ASYNC or hasattr(coroutine, "cr_frame"):
            raise TypeError(f"{takes}, not {coroutine!r}: a coroutine is a plain `def` here, with `yield from` in it")
        raise TypeError(f"{takes}, not {coroutine!r}; is there no `yield` in it?")
    if coroutine in tasks:
        raise TypeError(f"{coroutine!r} is a task already: call its function again for another one")
    from inspect import GEN_CREATED, getgeneratorstate  # only now: most handlers spawn nothing

    if getgeneratorstate(coroutine) != GEN_CREATED:
        raise TypeError(f"{coroutine!r} has already begun, or ended: spawn() takes a new one")
    if not isinstance(name, str):
        raise wrong("spawn() takes a name, a str, for the task", name)
