"""How flags are parsed, for the server and the client."""

from __future__ import annotations

import argparse
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn

VERSION = "1.0"


def occupy_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: a socket would get that number, and what is meant for stdout."""
    for fd in 0, 1, 2:
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


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
