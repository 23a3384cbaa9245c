"""The server's flags."""

from __future__ import annotations

import argparse
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn

    from loop.traps import Coroutine

    from .member import Member
    from .room import Room

    Handler = Callable[[Member, Room], Coroutine[None]]

VERSION = "1.0"


def occupy_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: a socket would get that number, and what is meant for stdout."""
    for fd in 0, 1, 2:
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class Options:
    """What the flags say, and their defaults."""

    host: str | None = None  # None: all interfaces
    port: int = 3100
    prefix: bool = True
    quiet: bool = False
    handler: str = "chat.handlers.chat:chat"
    max_lag: int = 16 << 20  # bytes
    max_rate: int = 0  # bytes a second; 0: any
    max_clients: int | None = None  # None: as many as descriptors allow
    max_per_ip: int = 0  # 0: any
    stall_timeout: float | None = 60.0  # seconds; None: never
    idle_timeout: float | None = None
    cluster: str | None = None  # a URL
    share_port: bool = False


def formatter(prog: str) -> argparse.HelpFormatter:
    """argparse's own, which would import shutil to learn the terminal's width: a seventh of the time to start."""
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
    except (OSError, ValueError):
        columns = 80
    return argparse.HelpFormatter(prog, width=columns - 2)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of the usage and a line."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def whole(least: int, most: int, unit: str = "") -> Callable[[str], int]:
    """Parse an integer between `least` and `most`; with a unit, k, M and G (powers of 1024) may stand behind it."""

    def parse(text: str) -> int:
        scale = {"k": 10, "m": 20, "g": 30}.get(text[-1:].lower() if unit else "", 0)
        digits = text[:-1] if scale else text
        if not (digits.isascii() and digits.isdigit()) or not least <= int(digits) << scale <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(digits) << scale

    return parse


def seconds(text: str) -> float | None:
    """Parse a time; 0 and `off` mean no limit."""
    try:
        value = 0.0 if text == "off" else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, nor off")
    return value or None


def parse(arguments: list[str] | None = None) -> Options:
    """The options in `arguments` (None: the command line's). A mistake ends the program: status 2 and one line."""
    parser = Parser(
        prog="chatsrv",
        description="A chat server: what one client says in a line, all clients hear.",
        allow_abbrev=False,
        formatter_class=formatter,
    )
    flag = parser.add_argument
    flag("--host", metavar="ADDRESS", help="listen on this address only (default: on all)")
    flag("--port", metavar="N", type=whole(0, 65535), help="default: 3100; 0 picks a free one")
    flag("--no-prefix", dest="prefix", action="store_false", default=True, help="no sender's address before messages")
    flag("--quiet", action="store_true", default=False, help="leave the messages' texts out of the journal on stdout")
    flag("--handler", metavar="WHERE:FUNCTION", help="what a conversation is: a function in a module or a .py file")
    flag("--max-lag", metavar="BYTES", type=whole(1024, 1 << 40, "bytes"),
         help="who falls further behind is sent away (default: 16M)")  # fmt: skip
    flag("--stall-timeout", metavar="SECONDS", type=seconds,
         help="who takes nothing for so long, though something is due, is sent away (default: 60; off)")  # fmt: skip
    flag("--idle-timeout", metavar="SECONDS", type=seconds, help="who says nothing for so long is sent away (off)")
    flag("--max-clients", metavar="N", type=whole(1, 1 << 20), help="default: as many as descriptors allow")
    flag("--max-per-ip", metavar="N", type=whole(0, 1 << 20), help="clients from one address (default: any number)")
    flag("--max-rate", metavar="BYTES", type=whole(0, 1 << 40, "bytes"),
         help="read at most so much a second from each client; who sends faster has to wait (off)")  # fmt: skip
    flag("--cluster", metavar="URL", help="share one feed with other servers, through a Redis 6.2 or newer (needs "
         "hiredis): redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?stream=NAME&maxlen=ENTRIES]")  # fmt: skip
    flag("--share-port", action="store_true", default=False, help="let other servers of this machine listen there too")
    flag("--version", action="version", version=f"chatsrv {VERSION}")
    return parser.parse_args(arguments, namespace=Options())


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
