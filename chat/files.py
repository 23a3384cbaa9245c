"""Files that a flag names."""

from __future__ import annotations

import errno
import os
import stat


def must_be_file(path: str, once: bool = False) -> None:
    """Raise OSError if this is no file: reading a FIFO or a device can take for ever.

    With `once`, a pipe from a shell's `<(command)` is allowed: it ends when the command ends.
    """
    kind = os.stat(path).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    from_shell = stat.S_ISFIFO(kind) and os.path.dirname(path) in ("/dev/fd", "/proc/self/fd")
    if not (stat.S_ISREG(kind) or (once and from_shell)):
        raise OSError(errno.EINVAL, "Not a regular file", path)


def must_not_wait(path: str) -> None:
    """Raise OSError if opening this file for writing, or a write to it, could wait for a reader."""
    if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "It is a FIFO", path)
