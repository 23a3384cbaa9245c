"""What is answered over HTTP: the page, the WebSocket, and refusals. Plain objects, no I/O.

Each connection has one request. There is no login, no cookie, no state and no form.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import pkgutil
import re
from email.utils import formatdate
from http import HTTPStatus

from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from .frames import MESSAGE, goodbye

HEAD = 16 << 10  # the most bytes of a request's line and headers
LINE = 8 << 10  # the most bytes that websockets takes as one header
LINES = 128  # the most headers that websockets takes
REQUEST = re.compile(rb"([A-Z]{1,20}) ([!-~]+) HTTP/1\.([01])")
BEGINNING = re.compile(rb"[A-Z]{1,20}( |$)")
ABSOLUTE = re.compile(r"https?://([^/?#]+)(.*)", re.IGNORECASE)  # a target with a host, as proxies are sent
DOOR = "/chat"
LOCAL = ".localhost", ".local", ".internal", ".home.arpa", ".lan"  # endings of names that exist only in a local network
USUAL_PORTS = {"http": ":80", "https": ":443"}
SILENT = logging.getLogger("chatsrv.web")  # websockets would report what a browser does wrong, with a traceback
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False
HARMLESS = {  # headers of all answers
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Connection": "close",
}


class Answer:
    """`data` is to be sent; the journal says `what` it was. With `protocol`, a WebSocket is open now."""

    __slots__ = ("data", "what", "protocol")

    def __init__(self, data: bytes, what: str, protocol: ServerProtocol | None = None) -> None:
        self.data = data
        self.what = what
        self.protocol = protocol


class Site:
    """Answers requests. Pages from these `origins` may open the WebSocket. If there are none, only our own page may.

    A page is our own if it comes from the host and port that it connects to; but see is_local().
    """

    def __init__(self, origins: list[str]) -> None:
        self.origins = origins
        page = pkgutil.get_data(__package__, "page.html")
        assert page
        self.page = page
        self.policy = (
            f"default-src 'none'; script-src {hashes('script', page)}; style-src {hashes('style', page)}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        )

    def answer(self, head: bytes) -> Answer | None:
        """The answer to a request; None if its headers have not all come. What follows the headers does not matter."""
        line = head.partition(b"\r\n")[0]
        found = REQUEST.fullmatch(line)
        if found is None and (b"\n" in head or not BEGINNING.match(head)) and head:
            return self.refuse(
                "something that is not HTTP", HTTPStatus.BAD_REQUEST, "This is a web server: it speaks HTTP/1.1."
            )
        end = head.find(b"\r\n\r\n") + 4
        if end == 3 or end > HEAD:
            if len(head) <= HEAD:
                return None
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if found else HTTPStatus.REQUEST_URI_TOO_LONG
            return self.refuse("a request without an end", status)
        assert found
        method, target, minor = (part.decode("ascii") for part in found.groups())
        answer = self.look(method, target, minor == "1", head[len(line) : end])
        if method == "HEAD":
            answer.data = answer.data[: answer.data.index(b"\r\n\r\n") + 4]
        return answer

    def look(self, method: str, target: str, new: bool, headers: bytes) -> Answer:
        """The answer to a request whose headers have come. `new`: it is HTTP/1.1, not 1.0."""
        what = f"{method} {target[:100]}"
        if method not in ("GET", "HEAD"):
            return self.refuse(what, HTTPStatus.METHOD_NOT_ALLOWED, more={"Allow": "GET, HEAD"})
        if not headers.isascii():
            return self.refuse(what, HTTPStatus.BAD_REQUEST, "A header is ASCII.")
        protocol = ServerProtocol(max_size=MESSAGE, logger=SILENT)
        protocol.receive_data(b"GET %s HTTP/1.1" % target.encode() + headers)
        events = protocol.events_received()
        protocol.data_to_send()
        if not events:
            large = len(headers) > LINE or headers.count(b"\n") > LINES
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if large else HTTPStatus.BAD_REQUEST
            return self.refuse(what, status)
        request = events[0]
        assert isinstance(request, Request)
        hosts = request.headers.get_all("Host")
        if len(hosts) > 1 or (new and not hosts):
            return self.refuse(what, HTTPStatus.BAD_REQUEST, "A request has one Host.")
        host = hosts[0] if hosts else ""
        if found := ABSOLUTE.fullmatch(target):
            host, target = found.groups()  # this host counts, not the header
        path = target.partition("?")[0] or "/"
        if path == DOOR:
            if not new:
                return self.refuse(what, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
            if method == "HEAD":
                return self.refuse(what, HTTPStatus.UPGRADE_REQUIRED, more={"Upgrade": "websocket"})
            return self.open(protocol, request, host, what)
        if path == "/":
            kind = "text/html; charset=utf-8"
            return self.reply(what, HTTPStatus.OK, self.page, {"Content-Security-Policy": self.policy}, kind)
        if path == "/healthz":
            return self.reply(what, HTTPStatus.OK, b"ok\n")
        return self.refuse(what, HTTPStatus.NOT_FOUND)

    def open(self, protocol: ServerProtocol, request: Request, host: str, what: str) -> Answer:
        """Open a WebSocket, or say why not. Browsers always send an Origin, and no page can prevent that."""
        origins = self.origins or [f"{scheme}://{host.lower()}" for scheme in USUAL_PORTS]
        allowed = [None, *origins, *map(without_usual_port, origins)]
        protocol.origins = None if "*" in origins else allowed  # type: ignore[assignment]
        response = protocol.accept(request)
        status = HTTPStatus(response.status_code)
        if status is HTTPStatus.SWITCHING_PROTOCOLS:
            protocol.send_response(response)
            opening = b"".join(protocol.data_to_send())
            origin = request.headers.get("Origin", "")
            if self.origins or not origin.startswith("http:") or is_local(host):
                return Answer(opening, what, protocol)
            why = f"is this chat at {host[:100]}? If so, start it with --web-origin {origin[:100]}"
            return Answer(opening + goodbye(CloseCode.POLICY_VIOLATION, why), f"refused a page: {why}")
        if status is HTTPStatus.FORBIDDEN:
            return self.refuse(what, status, f"A page of {request.headers.get('Origin')} may not connect here.")
        if status is HTTPStatus.UPGRADE_REQUIRED:
            return self.refuse(what, status, "A WebSocket is spoken here.", {"Upgrade": "websocket"})
        return self.refuse(what, status, str(protocol.handshake_exc or ""), {"Sec-WebSocket-Version": "13"})

    def late(self) -> Answer:
        """The answer if no request comes in time."""
        return self.refuse("a request without an end", HTTPStatus.REQUEST_TIMEOUT)

    def plain(self) -> Answer:
        """The answer to a request without TLS at a port that needs TLS."""
        why = "This port speaks https: write https:// before the address."
        return self.refuse("something that is not TLS", HTTPStatus.BAD_REQUEST, why)

    def refuse(self, what: str, status: HTTPStatus, why: str = "", more: dict[str, str] | None = None) -> Answer:
        """An answer that says in words why not."""
        text = f"{status.value} {status.phrase}\n{why}\n" if why else f"{status.value} {status.phrase}\n"
        return self.reply(what, status, text.encode("utf-8", "replace"), more)

    def reply(
        self,
        what: str,
        status: HTTPStatus,
        body: bytes,
        more: dict[str, str] | None = None,
        kind: str = "text/plain; charset=utf-8",
    ) -> Answer:
        headers = {
            "Date": formatdate(usegmt=True),
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": "default-src 'none'",
            **HARMLESS,
            **(more or {}),
        }
        if "Upgrade" in headers:
            headers["Connection"] = "upgrade, close"
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join(lines) + "\r\n\r\n"
        return Answer(head.encode("ascii") + body, f"answered {what} with {status.value}")


def without_usual_port(origin: str) -> str:
    """The origin as browsers send it: https://chat.example.org, not https://chat.example.org:443."""
    return origin.removesuffix(USUAL_PORTS.get(origin.partition(":")[0], ""))


def is_local(host: str) -> bool:
    """Whether this is an address, localhost, or a name of the local network: no stranger can have given us such a name.

    The owner of any other name can let it lead to this machine, so that a page under that name looks like ours. With
    https that is not possible, because it takes a certificate for this name.
    """
    name = re.sub(r":\d*$", "", host.lower()).rstrip(".")
    return "." not in name or name.endswith(LOCAL) or name.rpartition(".")[2].isdigit()


def hashes(tag: str, page: bytes) -> str:
    """The hashes of the scripts or styles in our page: the browser may run nothing else."""
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part).digest()).decode()}'" for part in parts)
