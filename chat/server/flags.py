"""The server's flags."""

from __future__ import annotations

import sys

from ..options import VERSION, Flags, mistake, seconds, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..usage import Parser


class Options:
    """What the flags say, and their defaults."""

    host: str | None = None  # None: all interfaces
    port: int = 3100
    prefix: bool = True
    quiet: bool = False
    timestamps: bool = False
    handler: str = "chat.handlers.chat:chat"
    max_lag: int = 16 << 20  # bytes
    max_rate: int = 0  # bytes a second; 0: any
    max_clients: int | None = None  # None: as many as descriptors allow
    max_per_ip: int = 0  # 0: any
    stall_timeout: float | None = 60.0  # seconds; None: never
    idle_timeout: float | None = None
    cluster: str | None = None  # a URL
    cluster_wait: bool = False
    share_port: bool = False
    web: tuple[str | None, int] | None = None  # the address, None for all, and the port
    web_origin: list[str] = []  # noqa: RUF012 # empty: of our own page only
    tls: tuple[str, str] | None = None  # the files of the certificate and of its key ("": the same file)
    tls_port: int | None = None  # None: TLS on `port`, and nothing else
    trace: tuple[str, float] | None = None  # a file, and how many seconds of what has happened are written to it


def declare(flag: Callable[..., Any]) -> None:
    """Call `flag` once for each flag, with arguments as argparse's add_argument() takes them."""
    flag("--host", metavar="ADDRESS", help="listen on this address only (default: all addresses)")
    flag("--port", metavar="N", type=whole(0, 65535), help="port to listen on (default: 3100; 0 picks a free one)")
    flag("--no-prefix", dest="prefix", action="store_false", default=True,
         help="send messages without their sender's address")  # fmt: skip
    flag("--quiet", action="store_true", default=False, help="leave messages out of the journal on stdout")
    flag("--timestamps", action="store_true", default=False, help="put the local time before each line of the journal")
    flag("--handler", metavar="WHERE:FUNCTION",
         help="run this handler for each client: a function in a module or a .py file")  # fmt: skip
    flag("--max-lag", metavar="BYTES", type=whole(1024, 1 << 40, "bytes"),
         help="disconnect a client that is further behind than this and reads too slowly (default: 16M)")  # fmt: skip
    flag("--stall-timeout", metavar="SECONDS", type=seconds,
         help="disconnect a client that accepts no data for this long while output is pending "
         "(default: 60)")  # fmt: skip
    flag("--idle-timeout", metavar="SECONDS", type=seconds,
         help="disconnect a client that says nothing for this long (default: off)")  # fmt: skip
    flag("--max-clients", metavar="N", type=whole(1, 1 << 20),
         help="accept at most N clients (default: as many as descriptors allow)")  # fmt: skip
    flag("--max-per-ip", metavar="N", type=whole(0, 1 << 20),
         help="accept at most N clients from one address, or one /64 of IPv6 (default: any number)")  # fmt: skip
    flag("--max-rate", metavar="BYTES", type=whole(0, 1 << 40, "bytes"),
         help="read at most this much a second from each client, so that a faster client has to wait "
         "(default: any amount)")  # fmt: skip
    flag("--cluster", metavar="URL",
         help="share one chat with other servers through a Redis 6.2 or newer (needs hiredis): "
         "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] with ?stream=NAME&maxlen=ENTRIES after it if you "
         "like")  # fmt: skip
    flag("--cluster-wait", action="store_true", default=False,
         help="start even if Redis cannot be reached yet, and wait for it")  # fmt: skip
    flag("--share-port", action="store_true", default=False,
         help="let other servers on this machine listen on the same port, for a cluster")  # fmt: skip
    flag("--web", metavar="[ADDRESS:]PORT", type=address_and_port,
         help="let people chat with a browser, at a page that is served here (needs websockets)")  # fmt: skip
    flag("--web-origin", metavar="ORIGIN", type=origins,
         help="which pages may connect: http[s]://HOST[:PORT], several with commas between, or * for any; without "
         "this flag, only the page that is served here")  # fmt: skip
    flag("--tls", metavar="CERT[,KEY]", type=one_or_two_files,
         help="speak TLS, and nothing else, with this certificate (PEM files); HUP then reads the files "
         "again instead of ending the server")  # fmt: skip
    flag("--tls-port", metavar="N", type=whole(0, 65535),
         help="speak TLS on this port, and leave --port plain (0 picks a free one)")  # fmt: skip
    flag("--trace", metavar="FILE[,SECONDS]", type=file_and_seconds,
         help="when the server ends and after SIGUSR2, write a timeline of all tasks (of the last SECONDS), "
         "for ui.perfetto.dev")  # fmt: skip
    flag("--version", action="version", version=f"chatsrv {VERSION}")


def make_parser() -> Parser:
    from ..usage import Parser  # only now: it is rarely needed

    parser = Parser(
        "chatsrv",
        "A chat server: each line that one client sends, all clients see.",
        epilog="BYTES may end in k, M or G. For SECONDS, off means no limit.",
    )
    declare(parser.add_argument)
    return parser


def parse(arguments: list[str] | None = None) -> Options:
    """The options in `arguments` (None: the command line's). A mistake ends the program: status 2 and one line."""
    words = sys.argv[1:] if arguments is None else arguments
    flags, options = Flags(), Options()
    declare(flags.add_argument)
    if flags.understand(words, options):
        return options
    return make_parser().parse_args(words, namespace=Options())


def address_and_port(text: str) -> tuple[str | None, int]:
    """Parse a port, perhaps with an address before it: 8080, 127.0.0.1:8080, [::1]:8080."""
    host, _, port = text.rpartition(":")
    return host or None, whole(0, 65535)(port)


def origins(text: str) -> list[str]:
    """Parse what browsers may send as Origin."""
    import re

    for origin in text.split(","):
        if not re.fullmatch(r"\*|https?://[^/\s]+", origin):
            raise mistake(f"{origin!r} is not an origin, as https://chat.example.org or http://localhost:8080")
    return text.lower().split(",")


def one_or_two_files(text: str) -> tuple[str, str]:
    first, _, second = text.partition(",")
    return first, second


def file_and_seconds(text: str) -> tuple[str, float]:
    file, _, number = text.rpartition(",")
    try:
        seconds = float(number)
    except ValueError:
        file = ""  # there is no number: if there is a comma, it is in the file's name
    if not file:
        return text, float("inf")
    if not seconds > 0:
        raise mistake(f"{number!r} is not a number of seconds")
    return file, seconds
