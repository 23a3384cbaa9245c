"""Which Redis, and which stream in it: what the URL of --cluster says."""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, unquote, unquote_to_bytes, urlsplit

from ...files import must_be_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...trust import Trust

USAGE = (
    "--cluster takes redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS, "
    "redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,...]/MASTER[/DB] or unix://[[USER]:PASSWORD@]/PATH[?db=DB], "
    "and options like ?stream=NAME&maxlen=ENTRIES&password_file=FILE&ca=FILE"
)


class Address:
    """A URL's parts. `hosts` is where Redis is or, if `master` is set, where the Sentinels are that name the Redis."""

    def __init__(self, url: str) -> None:
        """Raises ValueError with a line for the user, which does not contain the password."""
        try:
            self.read(url)
        except ValueError:
            raise ValueError(USAGE) from None

    def read(self, url: str) -> None:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
        account, _, hosts = parts.netloc.rpartition("@")
        user, _, password = account.partition(":")
        self.user, self.password = (os.fsdecode(unquote_to_bytes(os.fsencode(part))) for part in (user, password))
        self.hosts: list[tuple[str, int]] = []
        self.master = self.path = ""
        if parts.scheme in ("unix", "redis+unix"):
            self.path, db = unquote(parts.path), options.pop("db", "")
            if hosts or self.path in ("", "/"):
                raise ValueError
        elif parts.scheme in ("redis+sentinel", "rediss+sentinel"):
            self.hosts = [host_and_port(host, 26379) for host in hosts.split(",")]
            _, self.master, *rest = unquote(parts.path).split("/")
            db = "".join(rest)
            if not self.master or len(rest) > 1:
                raise ValueError
        elif parts.scheme in ("redis", "rediss"):
            self.hosts = [host_and_port(hosts, 6379)]
            db = parts.path[1:]
        else:
            raise ValueError
        self.db = int(db or 0)
        self.stream, self.maxlen = options.pop("stream", "chat"), int(options.pop("maxlen", 10_000))
        self.password_file = options.pop("password_file", "")
        (self.stream + self.master).encode()  # raises UnicodeEncodeError, a ValueError, if it is not valid text
        self.secure, self.ca = parts.scheme.startswith("rediss"), options.pop("ca", "")
        if self.ca and not self.secure:
            raise ValueError
        if options or parts.fragment or not self.stream or self.db < 0 or not 0 < self.maxlen <= 1 << 40:
            raise ValueError

    def credentials(self) -> tuple[bytes, ...]:
        """What AUTH takes; nothing if there is no password. Raises OSError if the password file cannot be read.

        The file is read each time, so the password in it can be changed.
        """
        password: str | bytes = self.password or os.environ.get("REDISCLI_AUTH", "")
        if self.password_file:
            try:
                must_be_file(self.password_file)
                with open(self.password_file, "rb") as file:
                    password = file.readline().rstrip(b"\r\n")
            except OSError as error:
                raise OSError(error.errno, f"{self.password_file}: {error.strerror}") from None
        return tuple(os.fsencode(part) for part in (self.user, password) if part) if password else ()

    def trust(self) -> Trust | None:
        """Which servers to trust; None without TLS. Raises OSError if the `ca` file cannot be used."""
        if not self.secure:
            return None
        from ...trust import Trust  # only now: it needs ssl

        try:
            return Trust(self.ca or None)
        except ValueError as error:
            raise OSError(str(error)) from None

    def __str__(self) -> str:
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        where = f"unix://{self.path}?db={self.db}"
        if hosts:
            scheme = "rediss" if self.secure else "redis"
            where = f"{scheme}+sentinel://{hosts}/{self.master}" if self.master else f"{scheme}://{hosts}"
            where += f"/{self.db}"
        return f"{where} (stream {self.stream})"


def host_and_port(text: str, usual: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    host = parts.hostname or ""
    host.encode("idna")  # raises UnicodeError here, not only when the name is looked up
    if not host or "," in host or parts.username is not None or parts.port == 0:
        raise ValueError
    return host, parts.port or usual
