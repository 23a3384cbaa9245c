"""Draws the pictures, or those that are named: `python -m drawing [NAME ...]`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "pictures"
NAMES = ["turn", "registration", "stack", "states", "cluster", "message", "seed", "client", "floors"]


def drawn(name: str) -> str:
    text: str = importlib.import_module(f"drawing.{name}").draw()
    return text


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        (FOLDER / f"{name}.svg").write_text(drawn(name), encoding="utf-8")
