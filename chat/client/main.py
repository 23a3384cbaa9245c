"""The program: its flags, and the server's addresses."""

from __future__ import annotations

import argparse
import re
import socket
import sys

from ..escape import harmless
from ..options import VERSION, occupy_standard_descriptors, seconds, whole
from ..usage import Parser
from .client import Client
from .display import why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .conversation import Address

HOST = re.compile(r"\[(?P<bracketed>[^\]]*)\](:(?P<port>.*))?|(?P<name>[^:]*):(?P<its_port>[^:]*)")
HERE, PORT = "127.0.0.1", 3100


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host. Raises OSError.

    This is the one call in the client that blocks, for as long as the resolver takes. So it is made once, before there
    is a screen to keep alive, and --reconnect does not learn of an address that has changed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("this is no host name") from None
    except LookupError:
        raise OSError("too few descriptors to load Python's module for host names") from None
    return [(family, address) for family, _, _, _, address in found]


def find(host: str, port: int) -> list[Address]:
    """All addresses of a host. If there are none, the program ends: status 1 and one line."""
    try:
        return resolve(host, port)
    except OSError as error:
        sys.exit(f"chatclient: cannot find {harmless(host) or repr('')}: {why(error)}")


def host_and_port(text: str) -> tuple[str, int | None]:
    """Parse a host that may have a port: localhost:3100, 127.0.0.1:3100, [::1]:3100. An address like ::1 has none."""
    found = HOST.fullmatch(text)
    if not found:
        return text, None
    if found["name"] is None:
        host, port = found["bracketed"], found["port"]
    else:
        host, port = found["name"] or HERE, found["its_port"]
    if port is None:
        return host, None
    return host, whole(1, 65535)(port)


def make_parser() -> Parser:
    parser = Parser(
        prog="chatclient",
        description="A chat in the terminal. Enter sends the line; Ctrl-D or Ctrl-C quits.",
        epilog="Exit status: 0 after Ctrl-D or the end of stdin, 1 without a server, 2 after a mistake on the command "
        "line, 130 after Ctrl-C.",
    )
    flag = parser.add_argument
    flag("host", metavar="HOST", nargs="?", default=(HERE, None), type=host_and_port,
         help=f"the server's name or address, perhaps with its port, HOST:PORT (default: {HERE})")  # fmt: skip
    flag("port", metavar="PORT", nargs="?", type=whole(1, 65535), help=f"the server's port (default: {PORT})")
    flag("--reconnect", action="store_true", help="if the server goes away, try again after 1 to 30 s")
    flag("--timestamps", action="store_true", help="put the time, HH:MM, before each message")
    flag("--bell", action="store_true", help="ring the terminal's bell when somebody names you")
    flag("--connect-timeout", metavar="SECONDS", default=10.0, type=seconds,
         help="try each address of the host for this long (default: 10; off: no limit)")  # fmt: skip
    flag("--tls", action="store_true", help="speak TLS, and only with a server whose certificate proves it is HOST")
    flag("--ca", metavar="FILE", help="trust the authorities in this PEM file, instead of the system's")
    flag("--insecure", action="store_true", help="do not check the certificate of the server")
    flag("--version", action="version", version=f"chatclient {VERSION}")
    return parser


def parse() -> argparse.Namespace:
    """The command line's options. A mistake ends the program: status 2 and one line."""
    parser = make_parser()
    options = parser.parse_args()
    options.host, port = options.host
    if port and options.port:
        parser.error(f"there are two ports: {port} and {options.port}")
    options.port = port or options.port or PORT
    options.trust = None
    if options.tls:
        from ..trust import Trust  # only now: to import ssl takes long

        try:
            options.trust = Trust(options.ca, options.insecure)
        except ValueError as error:
            parser.error(f"--ca: {error}")
    elif options.ca or options.insecure:
        parser.error("--ca and --insecure need --tls")
    return options


def main() -> None:
    """Run the client. It ends by SystemExit, with the status or with a line for stderr and status 1."""
    try:
        occupy_standard_descriptors()
        options = parse()
        client = Client(options, find(options.host, options.port))
    except (OSError, ImportError) as error:
        sys.exit(f"chatclient: cannot start: {why(error) if isinstance(error, OSError) else error}")
    try:
        client.run()
    except OSError as error:
        sys.exit(f"chatclient: cannot go on: {why(error)}")
