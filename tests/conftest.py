"""What all tests may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from chatting import Chatsrv, Crowd


@pytest.fixture
def chatsrv() -> Iterator[Callable[..., Chatsrv]]:
    """Starts servers: `chatsrv("--quiet", ...)`. Each is ended and checked after the test; see Chatsrv.finish."""
    before = set(os.listdir("/dev/fd"))
    servers: list[Chatsrv] = []

    def start(*flags: str, **more: object) -> Chatsrv:
        servers.append(Chatsrv(*flags, **more))  # type: ignore[arg-type]
        return servers[-1]

    try:
        yield start
        for server in servers:
            server.finish()
    finally:
        for server in servers:
            server.destroy()
            for client in server.clients:
                client.close()
    assert set(os.listdir("/dev/fd")) <= before, "the test has left descriptors open"


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """Clients by the hundred; whatever is left of them is closed after the test."""
    crowd = Crowd()
    yield crowd
    crowd.close()
