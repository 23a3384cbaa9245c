"""Files that a flag names."""

from __future__ import annotations

import errno
import os
import stat


def must_be_file(path: str, once: bool = False) -> None:
    """Raise OSError if this is no file: to read a FIFO or a device may wait for ever, or never come to an end.

    What is read only `once` may be a pipe from a shell's `<(command)`: it ends when the command ends.
    """
    kind = os.stat(path).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    from_shell = stat.S_ISFIFO(kind) and os.path.dirname(path) in ("/dev/fd", "/proc/self/fd")
    if not (stat.S_ISREG(kind) or (once and from_shell)):
        raise OSError(errno.EINVAL, "Not a regular file", path)


def must_not_wait(path: str) -> None:
    """Raise OSError if to open this file for writing, or to write to it, may wait for a reader."""
    if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "It is a FIFO", path)
