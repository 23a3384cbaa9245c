"""Strangers: peers of the ports for browsers and TLS that come for something else, by mistake or not.

Each says one thing, and gets the answer that is written down here. Then the server ends the connection.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from chat.server.certificate import TOLD
from chat.server.connection import HANDSHAKE

from .ends import End
from .network import show
from .world import Failure

if TYPE_CHECKING:
    from .clients import SimulatedClient
    from .model import Ear

PAGE = b"<p>A short page: a long one would take long through small buffers, and find nothing new.</p>\n"
NO_HANDSHAKE = f"no handshake within {HANDSHAKE:g} s"
WEBSOCKET = "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)  # the first part of 512 bytes
OLD, NEW = "Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: 13"
ELSEWHERE = "Origin: http://evil.example"


class Visit(NamedTuple):
    """What a stranger says, and what comes of that."""

    what: str
    says: bytes
    answer: bytes  # the beginning of it
    reason: str  # the beginning of the journal's
    body: bytes = b""  # the beginning of that


def request(line: str, *headers: str, end: str = "\r\n") -> bytes:
    return ("\r\n".join((line, *headers)) + "\r\n" + end).encode()


def get(what: str, says: bytes, status: int, about: str = "", body: bytes = b"") -> Visit:
    """A request, and the status of its answer. `about`: how the journal calls it."""
    about = about or " ".join(says.decode().split()[:2])
    start = b"%d " % status
    return Visit(what, says, b"HTTP/1.1 " + start, f"answered {about} with {status}", body or start)


HOST = "Host: localhost"
NO_HTTP, NO_END = "something that is not HTTP", "a request without an end"
TO_BROWSERS = [
    get("the page", request("GET / HTTP/1.1", HOST), 200, body=PAGE),
    get("the page with a query", request("GET /?a=b HTTP/1.0"), 200, body=PAGE),
    get("the page's head", request("HEAD / HTTP/1.1", HOST), 200),
    get("whether all is well", request("GET /healthz HTTP/1.1", HOST), 200, body=b"ok\n"),
    get("a path that there is not", request("GET /secret HTTP/1.1", HOST), 404),
    get("another method", request("POST / HTTP/1.1", HOST, "Content-Length: 5") + b"hello", 405),
    get("no host", request("GET / HTTP/1.1"), 400),
    get("two hosts", request("GET / HTTP/1.1", HOST, HOST), 400),
    get("a header without a colon", request("GET / HTTP/1.1", HOST, "what is that"), 400),
    get("no WebSocket", request("GET /chat HTTP/1.1", HOST), 426),
    get("a WebSocket of an old HTTP", request("GET /chat HTTP/1.0", HOST, *WEBSOCKET), 505),
    get("a WebSocket of an old version", request("GET /chat HTTP/1.1", HOST, *WEBSOCKET, OLD), 400),
    get("a WebSocket for another page", request("GET /chat HTTP/1.1", HOST, *WEBSOCKET, NEW, ELSEWHERE), 403),
    get("no HTTP", b"hello\r\n", 400, NO_HTTP),
    get("TLS", b"\x16\x03\x01\x02\x00", 400, NO_HTTP),
    get("an HTTP of the eighties", b"GET /\r\n", 400, NO_HTTP),
    get("nothing", b"", 408, NO_END),
    get("a request that stops", request("GET / HTTP/1.1", HOST, end=""), 408, NO_END),
    get("headers without an end", request("GET / HTTP/1.1", *["X: " + 97 * "x"] * 170, end=""), 431, NO_END),
    get("a header that is too long", request("GET / HTTP/1.1", HOST, "X: " + 9000 * "x"), 431),
    get("a path without an end", b"GET /" + 17000 * b"x", 414, NO_END),
]  # fmt: skip


def to_tls(told: bytes) -> list[Visit]:
    """Strangers at a port for TLS, where somebody that does not speak it is told so."""
    return [
        Visit("plain text", b"hello\r\n", told, "it does not speak TLS"),
        Visit("plain HTTP", request("GET / HTTP/1.1", HOST), told, "it does not speak TLS"),
        Visit("junk", bytes(range(128, 256)), told, "it does not speak TLS"),
        Visit("nothing", b"", told, NO_HANDSHAKE),
        Visit("half a handshake", HELLO, b"", NO_HANDSHAKE),
        Visit("junk in a handshake", b"\x16\x03\x01\x00\x05hello", b"\x15\x03", "no TLS: "),
        Visit("junk without a version", 30 * b"\x16", b"", "no TLS: "),
        Visit("junk in an alert", b"\x15\x03\x01\xff\xffhello", b"\x15\x03", "no TLS: "),
    ]  # fmt: skip


@cache
def visits(kind: str) -> list[Visit]:
    """Those at a port of this kind that do not come through its own TLS."""
    if kind == "a browser":
        return TO_BROWSERS
    return to_tls(TOLD if kind == "TLS" else b"HTTP/1.1 400 ")


class Stranger(End):
    """`below` is the end that its bytes go through."""

    kind = "stranger"

    def __init__(self, client: SimulatedClient, below: End, visit: Visit) -> None:
        super().__init__(client)
        self.world.count("a stranger")
        self.below = below
        self.queue = below.queue
        self.ready = False
        self.visit = visit
        self.answer = bytearray()

    @property
    def late(self) -> bool:
        """Whether the time for a handshake may have run out before all that it says had come."""
        link = self.client.link
        slow = self.waiting or link.incoming or link.read_at > link.accepted_at + HANDSHAKE / 2
        return bool(slow or self.world.leaps or self.world.stops)

    def begin(self) -> None:
        self.client.link.widen(len(self.visit.says) // 20 if self.visit.body else 500)  # a last word is sent but once
        self.below.begin()
        self.below.put(self.visit.says, b"")

    def say(self, text: bytes) -> None:
        """Nothing: it has said what it has to say."""

    def hear(self, data: bytes) -> bytes:
        self.answer += self.below.hear(data)
        return b""

    def show(self, data: bytes | memoryview) -> str:
        return self.below.show(data)

    def unlike(self, reason: str) -> bool:
        """Whether something has come between, so that it gets another answer or none."""
        return bool(
            self.late or self.below.fault or self.client.link.refused or not reason.startswith(self.visit.reason)
        )

    def excused(self, reason: str) -> bool:
        return self.unlike(reason) or not (self.visit.body or self.world.at_once)  # else it is not sent to its end

    def check(self, ear: Ear, reason: str) -> None:
        if self.unlike(reason):
            return
        self.below.check(ear, reason)
        visit, answer = self.visit, bytes(self.answer)
        if visit.body:
            whole = answer.startswith(visit.answer) and self.has_body(answer)
        elif not answer:
            whole = not visit.answer or bool(self.world.balk)
        else:
            size = min(len(answer), len(visit.answer))
            whole = size > 0 and answer[:size] == visit.answer[:size]
        if not whole:
            raise Failure(f"for {visit.what} it gets {show(answer)} ({reason})")

    def has_body(self, answer: bytes) -> bool:
        """Whether an answer of HTTP is as long as it says, and what it should be."""
        head, _, body = answer.partition(b"\r\n\r\n")
        size = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        if self.visit.says.startswith(b"HEAD"):
            return not body
        return size is not None and int(size[1]) == len(body) and body.startswith(self.visit.body)

    def explains(self, reason: str) -> bool:
        late = self.late and reason in (NO_HANDSHAKE, f"answered {NO_END} with 408")
        gone = self.client.fin and reason == "no TLS: end of stream"
        return reason.startswith(self.visit.reason) or gone or late or self.below.explains(reason)
