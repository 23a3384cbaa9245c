"""Certificates for tests, and clients that speak TLS."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import trustme
from chatting import Client


class Authority:
    """Who signs them. `file` is its own certificate."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.file = str(directory / "authority.pem")
        self.ca.cert_pem.write_to_path(self.file)
        self.count = 0

    def issue(self, *names: str, days: float = 10, into: str = "") -> str:
        """A certificate for these names and its key, in one file, whose name is returned."""
        self.count += 1
        path = into or str(self.directory / f"{self.count}.pem")
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        issued = self.ca.issue_cert(*(names or ("localhost", "127.0.0.1")), not_after=end)
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def client(self, **more: Any) -> ssl.SSLContext:
        """What a client that trusts this authority needs."""
        context = ssl.create_default_context(cafile=self.file)
        for name, value in more.items():
            setattr(context, name, value)
        return context


class SecureClient(Client):
    """A client that speaks TLS."""

    def __init__(self, port: int, context: ssl.SSLContext, name: str = "localhost", **more: Any) -> None:
        super().__init__(port, **more)
        self.sock = self.secure = context.wrap_socket(self.sock, server_hostname=name, suppress_ragged_eofs=False)
