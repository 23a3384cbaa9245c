"""How flags are parsed, for the server and the client."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

VERSION = "1.0"


def occupy_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed. Otherwise a socket could get number 1, and what is meant for stdout."""
    for fd in 0, 1, 2:
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


UNDERSTOOD = {"action", "default", "dest", "help", "metavar", "type"}  # keywords of add_argument()


class Flags:
    """Understands nearly all command lines, without argparse: `--switch`, `--flag value` and `--flag=value`."""

    def __init__(self) -> None:
        self.about: dict[str, dict[str, Any]] = {}

    def add_argument(self, flag: str, **about: Any) -> None:
        """Declare a flag, like argparse's method of this name."""
        self.about[flag] = about

    def understand(self, words: list[str], options: object) -> bool:
        """Set the attributes of `options`. Returns False if only argparse can understand or explain the words."""
        rest = iter(words)
        for word in rest:
            flag, equals, text = word.partition("=")
            about = self.about.get(flag)
            if about is None or not about.keys() <= UNDERSTOOD:
                return False
            action = about.get("action", "store")
            if action == "store":
                if not equals:
                    text = next(rest, "-")  # a missing value is refused like a value that begins with "-"
                if text.startswith("-"):
                    return False
                try:
                    value = about.get("type", str)(text)
                except Exception:
                    return False
            elif action in ("store_true", "store_false") and not equals:
                value = action == "store_true"
            else:
                return False
            setattr(options, about.get("dest", flag[2:].replace("-", "_")), value)
        return True


UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def whole(least: int, most: int, unit: str = "") -> Callable[[str], int]:
    """Returns a parser of integers from `least` to `most`. If they have a unit, k, M or G may follow: 2k is 2048."""

    def parse(text: str) -> int:
        scale = UNITS.get(text[-1:].lower(), 1) if unit else 1
        digits = text[:-1] if scale > 1 else text
        if digits.isascii() and digits.isdigit() and len(digits) < 20:
            value = int(digits) * scale
            if least <= value <= most:
                return value
        if unit:
            hint = f"a whole number of {unit} from {least} to {most >> 30}G; k, M or G may follow it, as in 64k or 16M"
        else:
            hint = f"a whole number from {least} to {most}"
        raise mistake(f"{text!r} is not {hint}")

    return parse


def seconds(text: str) -> float | None:
    """Parse a number of seconds; 0 and `off` mean no limit, which is None."""
    try:
        value = 0.0 if text == "off" else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise mistake(f"{text!r} is neither a number of seconds nor off")
    return value or None


def mistake(text: str) -> Exception:
    """An error whose text argparse shows as it is."""
    import argparse

    return argparse.ArgumentTypeError(text)
