"""Which of many examples `make test` tries; `make check`, with --more, tries all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def every(step: int, values: Iterable[Any]) -> list[Any]:
    """Values for parametrize: the first of each `step` of them always, the others with --more only."""
    return [value if number % step == 0 else only_with_more(value) for number, value in enumerate(values)]


def only_with_more(value: Any) -> Any:
    """One for parametrize; a plain tuple has a value for each argument."""
    return pytest.param(*(value if type(value) is tuple else [value]), marks=pytest.mark.more)
