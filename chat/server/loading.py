"""Finding the handler that --handler names, and looking for mistakes in it before a client meets them."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import traceback
import weakref  # noqa: F401 # Hub.room() needs it, perhaps when no descriptor is free to import it

from loop import complain

from ..files import must_be_file
from . import lint
from .listen import why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable

    from loop.traps import Coroutine

    from .member import Member
    from .room import Room

    Handler = Callable[[Member, Room], Coroutine[None]]
    Start = Callable[[Room], Coroutine[None]]


def load_handler(where: str) -> tuple[Handler, Start | None]:
    """Load the handler that `FILE_OR_MODULE:FUNCTION` names; returns it and the `start` of its module, or None.

    Reports mistakes in the module that Python would silently ignore. Raises ValueError, with a line for the
    user, if what is named cannot be a handler, or must not be one.
    """
    place, _, name = where.rpartition(":")
    if not place or not name or set(place) == {"."}:
        raise ValueError(f"takes FILE_OR_MODULE:FUNCTION, not {where!r}")
    module = load_module(place)
    handler = getattr(module, name, None)
    if handler is None:
        raise ValueError(f"{place} has no {name}; {generators_of(module)}")
    check(handler, name, "a handler", "member", "room")
    start = getattr(module, "start", None)
    if start is handler or not (hasattr(start, "__code__") or hasattr(start, "func")):
        start = None
    else:
        check(start, "start", "`start`", "room")
    refused, reported = lint.mistakes(module, name)
    for mistake in (*reported, *refused[1:]):
        complain(f"chatsrv: {relative(mistake)}")
    if refused:
        raise ValueError(relative(refused[0]))
    return handler, start


def load_module(place: str) -> ModuleType:
    """Import a module, by its name or the path of its file. It can import other modules in its folder."""
    if place.endswith(".py"):
        try:
            must_be_file(place)
        except OSError as error:
            raise ValueError(f"{place}: {why(error)}") from None
    try:
        if not place.endswith(".py"):
            sys.path.append("")  # modules in the current directory, as with `python -m`
            return importlib.import_module(place)
        path = os.path.abspath(place)
        folder, name = os.path.split(path[:-3])
        sys.path.append(folder)  # the last place to look in, so that http.py does not hide what others mean by http
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        if spec and spec.origin == path:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location("chatsrv_handler", path)
        assert spec and spec.loader
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except BaseException as error:
        raise ValueError(describe_failure(error, place)) from None


def describe_failure(error: BaseException, place: str) -> str:
    """What went wrong when the handler was imported, and where: the innermost place that is not Python's own."""
    if isinstance(error, SyntaxError):
        what, file, line = f"{type(error).__name__}: {error.msg}", error.filename, error.lineno
        if "async" in error.msg:
            what += " (a coroutine is a plain `def` here, and waits with `yield from`)"
    else:
        what, file, line = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": "), None, None
        installed = os.path.dirname(os.__file__), os.path.dirname(__file__)
        for frame, number in traceback.walk_tb(error.__traceback__):
            path = frame.f_code.co_filename
            if not path.startswith((*installed, "<frozen")) and "site-packages" not in path:
                file, line = path, number
    if file:
        return f"{relative(file)}:{line}: {what}"
    if isinstance(error, ModuleNotFoundError):
        return f"there is no module {place} (the name of a file ends in .py)"
    return f"{place}: {error.strerror if isinstance(error, OSError) else what}"


def check(function: Any, name: str, what: str, *parameters: str) -> None:
    """Raise ValueError, with a line for the user, unless this is a generator function with these parameters."""
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None)
    if code is None and not hasattr(inner, "func"):  # a functools.partial has `func` instead of `__code__`
        raise ValueError(f"{name} is not a function")
    place = f"{relative(code.co_filename)}:{code.co_firstlineno}: " if code else ""
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise ValueError(f"{place}{name} is an `async def`; {what} is a plain `def`, and waits with `yield from`")
    if not inspect.isgeneratorfunction(inner):
        raise ValueError(f"{place}{name} has no `yield from`; {what} is a generator function, which waits with it")
    signature = inspect.signature(function)
    try:
        signature.bind(*parameters)
    except TypeError:
        how_many = "one parameter" if len(parameters) == 1 else "two parameters"
        rule = f"{what} takes {how_many}: {' and '.join(parameters)}"
        raise ValueError(f"{place}{name}({', '.join(signature.parameters)}) does not fit; {rule}") from None


def generators_of(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if inspect.isgeneratorfunction(value)]
    names = [name for name in names if getattr(vars(module)[name], "__module__", "") == module.__name__]
    return f"its generator functions: {', '.join(names)}" if names else "nor any generator function"


def relative(text: str) -> str:
    """A path, or a text that begins with one: relative to the current directory, if the file is in it."""
    try:
        here = os.path.join(os.getcwd(), "")
    except OSError:  # the current directory is gone
        return text
    return text[len(here) :] if text.startswith(here) else text
