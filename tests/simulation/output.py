"""What the server writes to, stdout and stderr, and a bell: a descriptor that tasks of the world read."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from .world import ERR, IN, OUT, error

if TYPE_CHECKING:
    from .world import World


class Output:
    """stdout: a pipe that somebody reads, or not; a terminal; a file on a disk that may be full."""

    def __init__(self, world: World, always: bool) -> None:
        self.world = world
        self.always = always
        self.fd = world.open(self, 1)
        self.text = bytearray()
        self.stalled = False
        self.gone = False  # nobody will ever read it again
        self.full = 0  # how many writes fail yet
        self.ever = {"stalled": False, "gone": False, "full": False}

    def mask(self) -> int:
        if self.gone:
            return ERR
        return 0 if self.stalled else OUT

    def fileno(self) -> int:
        return self.fd

    def write(self, data: memoryview) -> int | None:
        world = self.world
        world.enter()
        world.work += 1
        if self.gone:
            world.hit("stdout closed")
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        if self.full:
            self.full -= 1
            world.hit("stdout full")
            raise error(errno.ENOSPC)
        if self.stalled:
            return None
        if world.chance() < world.balk and not self.always:
            world.hit("stdout would block after all")
            return None
        size = world.part(len(data))
        if size < len(data):
            world.count("short write on stdout")
        self.text += data[:size]
        return size


class Stderr:
    """Where complaints are collected."""

    def __init__(self) -> None:
        self.text = b""

    def write(self, fd: int, data: bytes) -> int:
        self.text += data
        return len(data)


class Bell:
    """A descriptor that a task of the world reads, to act where tasks act: as signals are read in production."""

    always = False

    def __init__(self, world: World) -> None:
        self.fd = world.open(self)
        self.rings = 0

    def mask(self) -> int:
        return IN if self.rings else 0

    def fileno(self) -> int:
        return self.fd

    def recv(self, most: int) -> bytes:
        if not self.rings:
            raise BlockingIOError(errno.EAGAIN, "again")
        self.rings -= 1
        return b"!"
