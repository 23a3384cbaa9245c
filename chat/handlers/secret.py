"""Passwords for handlers, from outside the program."""

from __future__ import annotations

import os

from ..files import must_be_file


def secret(name: str) -> bytes:
    """The value of the environment variable `name`, or the first line of the file whose path is in `name`_FILE.

    Raises ValueError, with a line for the user, if there is none.
    """
    value = os.environ.get(name, "").encode("utf-8", "surrogateescape")
    if path := os.environ.get(f"{name}_FILE"):
        try:
            must_be_file(path, once=True)
            with open(path, "rb") as file:
                value = file.readline().rstrip(b"\r\n")
        except OSError as error:
            raise ValueError(f"{name}_FILE is {path!r}: {error.strerror}") from None
    if not value:
        raise ValueError(f"the environment has to say the password, {name}=PASSWORD, or its file, {name}_FILE=FILE")
    return value
