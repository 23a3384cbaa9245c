"""How flags are parsed, for the server and the client."""

from __future__ import annotations

import argparse
import os
import sys

from .escape import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

VERSION = "1.0"


def occupy_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: a socket would get that number, and what is meant for stdout."""
    for fd in 0, 1, 2:
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class Formatter(argparse.HelpFormatter):
    """argparse's own, without shutil, whose import takes a seventh of the time to start; and no word is cut in two."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (OSError, ValueError):
            columns = 0
        super().__init__(prog, width=(columns if columns > 0 else 80) - 2)

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap  # only now, as argparse does

        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Complains in one line. No flag can be abbreviated: a new one might make another's abbreviation mean two."""

    def __init__(self, prog: str, description: str, **more: Any) -> None:
        super().__init__(prog, description=description, **{"allow_abbrev": False, "formatter_class": Formatter, **more})

    def error(self, message: str) -> NoReturn:
        """One line instead of the usage and a line."""
        self.exit(2, f"{self.prog}: {harmless(message)} (see --help)\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the program. What cannot be written, as to a full disk, is no reason for a traceback."""
        try:
            if sys.stdout:
                sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python tries again at its end
            status, message = 1, f"{self.prog}: cannot write to stdout: {(error.strerror or '').lower()}\n"
        super().exit(status, message)


UNITS = {"k": 10, "m": 20, "g": 30}  # powers of two


def whole(least: int, most: int, unit: str = "") -> Callable[[str], int]:
    """Parse an integer between `least` and `most`; with a unit, k, M or G (powers of 1024) may stand behind it."""

    def parse(text: str) -> int:
        scale = UNITS.get(text[-1:].lower(), 0) if unit else 0
        digits = text[:-1] if scale else text
        if digits.isascii() and digits.isdigit() and len(digits) < 20 and least <= int(digits) << scale <= most:
            return int(digits) << scale
        if unit:
            hint = f"a whole number of {unit} from {least} to {most >> 30}G; k, M or G may follow it, as in 64k or 16M"
        else:
            hint = f"a whole number from {least} to {most}"
        raise argparse.ArgumentTypeError(f"{text!r} is not {hint}")

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
