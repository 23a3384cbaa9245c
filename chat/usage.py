"""argparse, as both programs use it: to explain flags and mistakes. Its import takes a fifth of the server's start."""

from __future__ import annotations

import argparse
import os
import sys

from .escape import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Formatter(argparse.HelpFormatter):
    """argparse's formatter, but it cuts no word in two, and does not import shutil (a seventh of the start)."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (OSError, ValueError):
            columns = 0
        if columns <= 0:
            columns = 80
        super().__init__(prog, width=columns - 2)

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap  # only now, as argparse does

        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Complains in one line. Takes no abbreviations: a new flag could make an old one ambiguous."""

    def __init__(self, prog: str, description: str, **more: Any) -> None:
        super().__init__(prog, description=description, **{"allow_abbrev": False, "formatter_class": Formatter, **more})

    def error(self, message: str) -> NoReturn:
        """End with one line, and without the usage."""
        self.exit(2, f"{self.prog}: {harmless(message)} (see --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write the help, the version or a complaint. If help cannot be written, say so in one line, and fail."""
        file = file or sys.stderr
        try:
            if file:
                file.write(message)
                file.flush()
        except OSError as error:
            if file is sys.stdout:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try again when it ends
                self.exit(1, f"{self.prog}: cannot write to stdout: {(error.strerror or '').lower()}\n")
