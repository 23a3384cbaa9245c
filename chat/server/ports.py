"""Where the server listens, and which wire members get at each port."""

from __future__ import annotations

from loop import complain

from .listen import CannotListen, describe, inherited, listen, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from .certificate import Certificate
    from .flags import Options
    from .wire import MakeWire


class Ports:
    """All listening sockets: plain ones, those that speak TLS, and those for browsers."""

    def __init__(self) -> None:
        self.plain: list[socket.socket] = []
        self.secured: list[socket.socket] = []
        self.browsers: list[socket.socket] = []
        self.wires: dict[socket.socket, MakeWire] = {}  # for each socket that is not plain
        self.certificate: Certificate | None = None

    @property
    def listeners(self) -> list[socket.socket]:
        return self.plain + self.secured + self.browsers

    def open(self, options: Options) -> None:
        """Listen where the flags say. Raises ValueError or CannotListen, with a line for the user."""
        if options.tls_port is not None and options.tls is None:
            raise ValueError("--tls-port needs --tls")
        if options.web_origin and not options.web:
            raise ValueError("--web-origin needs --web")
        if options.cluster_wait and options.cluster is None:
            raise ValueError("--cluster-wait needs --cluster")
        if options.tls:
            from .certificate import Certificate  # only now: the import of ssl takes long

            self.certificate = Certificate(*options.tls)
        handed_over = inherited()
        self.plain = handed_over or listen_on(options, options.port)
        warn(options, handed_over)
        if self.certificate:
            self.secure(options, bool(handed_over))
            self.wires.update(dict.fromkeys(self.secured, self.certificate.wire))
        if options.web:
            from .web.start import listen_for_browsers

            found = listen_for_browsers(options, options.web, self.certificate)
            self.browsers = list(found)
            self.wires.update(found)
        if options.share_port:  # then the system does not refuse a port that is taken
            kinds = [{one.getsockname()[1] for one in kind} for kind in (self.plain, self.secured, self.browsers)]
            if sum(map(len, kinds)) > len(set().union(*kinds)):
                raise ValueError("--port, --tls-port and --web cannot share a port with each other")

    def secure(self, options: Options, handed_over: bool) -> None:
        """Divide the sockets into those that speak TLS and plain ones. Without --tls-port, all speak TLS."""
        if options.tls_port is None:
            self.plain, self.secured = [], self.plain
        elif not handed_over:
            self.secured = listen_on(options, options.tls_port)
        else:
            ports = {listener: listener.getsockname()[1] for listener in self.plain}
            self.secured = [listener for listener in self.plain if ports[listener] == options.tls_port]
            self.plain = [listener for listener in self.plain if listener not in self.secured]
            if not self.secured:
                raise ValueError(f"--tls-port {options.tls_port}: no socket with this port was handed over")

    def describe(self) -> Iterator[str]:
        """What the journal says of the ports: a line for each kind."""
        if self.plain:
            yield describe(self.plain)
        if self.secured:
            yield describe(self.secured, "with TLS, listens on")
        if self.browsers:
            yield describe(self.browsers, "with TLS, serves browsers on" if self.certificate else "serves browsers on")


def listen_on(options: Options, port: int) -> list[socket.socket]:
    """Listening sockets on a port. Raises CannotListen."""
    try:
        return listen(options.host, port, options.share_port)
    except OSError as error:
        host = "" if options.host is None else f"{options.host or repr('')} "
        raise CannotListen(f"cannot listen on {host}port {port}: {why(error)}") from None


def warn(options: Options, handed_over: list[socket.socket]) -> None:
    """Warn about flags that do not do what they seem to do."""
    if handed_over:
        ports = [listener.getsockname()[1] for listener in handed_over]
        if options.host is not None or ("port" in vars(options) and options.port not in (0, *ports)):
            complain("chatsrv: --host and --port are ignored: the listening sockets were handed over (LISTEN_FDS)")
    elif options.share_port and options.cluster is None:
        complain("chatsrv: --share-port without --cluster: servers that share a port are separate chats")
