"""Finding the handler that --handler names."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from loop.traps import Coroutine

    from .member import Member
    from .room import Room

    Handler = Callable[[Member, Room], Coroutine[None]]
    Start = Callable[[Room], Coroutine[None]]


def load_handler(where: str) -> Handler:
    """The function that `FILE_OR_MODULE:FUNCTION` names. Raises ValueError with a line for the user."""
    import importlib.util
    import inspect
    import sys

    place, colon, name = where.rpartition(":")
    if not colon or not place or not name:
        raise ValueError(f"--handler takes FILE_OR_MODULE:FUNCTION, not {where!r}")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location("chatsrv_handler", place)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            sys.path.append("")  # modules beside the user, as with `python -m`
            module = importlib.import_module(place)
    except Exception as error:
        raise ValueError(f"--handler {place}: {type(error).__name__}: {error}") from None
    function = getattr(module, name, None)
    if not inspect.isgeneratorfunction(function):
        raise ValueError(f"--handler {where}: {name} is not a generator function of that module")
    return function
