"""Signals, sockets and deques, without the modules of the standard library that are built around them.

`signal`, `socket` and `collections` are written in Python, around modules in C. Here, only those in C are imported. To
import the ones in Python takes three quarters of the time in which a server starts. Most of what they add is enums,
which print the name of a number. Code that needs these additions imports the full modules; the constants are the
same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signal
    import socket as socket
    from collections import OrderedDict as OrderedDict
    from collections import deque as deque
    from collections.abc import Generator as Generator
    from typing import Any
else:
    import _signal as signal  # noqa: F401
    import _socket as socket
    from _collections import OrderedDict, deque  # noqa: F401
    from _collections_abc import Generator  # noqa: F401


class Socket(socket.socket):
    """A socket with the methods that Python's socket module adds and that are used here: accept() and those for `with`.

    Python's accept() takes 1.5 times as long, because it makes enums of the listener's family and type. The sockets
    that accept() returns have none of these methods.
    """

    __slots__ = ()

    def accept(self) -> tuple[socket.socket, Any]:
        fd, address = self._accept()  # type: ignore[attr-defined]
        return socket.socket(self.family, self.type, self.proto, fd), address

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
