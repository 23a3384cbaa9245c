"""The program: its flags, and the server's addresses."""

from __future__ import annotations

import signal
import socket
import sys

from ..options import VERSION, Parser, occupy_standard_descriptors, seconds, whole
from .client import Client, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from .client import Address


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host. Raises OSError.

    This is the one call in the client that blocks, for as long as the resolver takes. So it is made once, before there
    is a screen to keep alive, and --reconnect does not learn of an address that has changed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("this is no host name") from None
    return [(family, address) for family, _, _, _, address in found]


def parse() -> Namespace:
    """The command line's options. A mistake ends the program: status 2 and one line."""
    parser = Parser(
        prog="chatclient",
        description="A chat in the terminal. Enter sends the line; Ctrl-D or Ctrl-C leaves.",
        epilog="Exit status: 0 after Ctrl-D or the end of stdin, 1 without a server, 2 after a mistake on the command "
        "line, 130 after Ctrl-C.",
        allow_abbrev=False,
    )
    flag = parser.add_argument
    flag("host", metavar="HOST", nargs="?", default="127.0.0.1", help="a name or an address (default: 127.0.0.1)")
    flag("port", metavar="PORT", nargs="?", default=3100, type=whole(1, 65535), help="default: 3100")
    flag("--reconnect", action="store_true", help="if the server goes away, try again, every 1 to 30 s")
    flag("--timestamps", action="store_true", help="the time, HH:MM, before each message")
    flag("--connect-timeout", metavar="SECONDS", default=10.0, type=seconds,
         help="for each of the host's addresses (default: 10; off)")  # fmt: skip
    flag("--version", action="version", version=f"chatclient {VERSION}")
    return parser.parse_args()


def main() -> None:
    """Run the client. It ends by SystemExit, with the status or with a line for stderr and status 1."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until run(): Ctrl-C shall not wait for the resolver
    occupy_standard_descriptors()
    options = parse()
    try:
        addresses = resolve(options.host, options.port)
    except OSError as error:
        sys.exit(f"chatclient: cannot find {options.host}: {why(error)}")
    Client(options, addresses).run()
