"""A server in this process, on real sockets, with a clock that does not run: what it does can be watched."""

from __future__ import annotations

import io
import os
import select
import socket
from contextlib import AbstractContextManager
from typing import Any, Callable

from timeless import Timeless

from chat.server.flags import Options
from chat.server.journal import Journal
from chat.server.member import Member
from chat.server.server import Server
from loop import Kernel


class Inside(AbstractContextManager["Inside"]):
    """`people` are the clients' sockets, by name."""

    def __init__(self, kernel: Callable[[Any, Callable[[], float]], Kernel] = Kernel, **options: Any) -> None:
        self.world = Timeless()
        self.kernel = kernel(self.world, self.world.clock)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.output = io.FileIO(os.devnull, "w")  # for the journal
        self.people: dict[str, socket.socket] = {}
        chosen = Options()
        for name, value in options.items():
            setattr(chosen, name, value)
        self.server = Server(self.kernel, [self.listener], Journal(self.output), chosen)
        self.life = self.kernel.spawn(self.server.run(), "server")
        self.settle()

    def members(self, *names: str) -> list[Member]:
        """Let people come; their members, whose tasks have these names."""
        for name in names:
            self.people[name] = socket.create_connection(self.listener.getsockname())
            self.settle()
            member = list(self.server.connections)[-1]
            member.name = member.task.name = name
        return list(self.server.connections)

    def settle(self) -> None:
        """Turn until no task is ready and no descriptor either."""
        kernel = self.kernel
        while kernel.ready or any(select.select(list(kernel.readers), list(kernel.writers), [], 0)):
            kernel.turn()

    def __exit__(self, *details: object) -> None:
        for person in self.people.values():
            person.close()
        self.settle()
        self.server.stop()
        self.kernel.run()
        self.listener.close()
        self.output.close()
        self.world.close()
