"""What tests need to come with a browser: a server with a page, a real Chromium, and what is on its page."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest
from chatting import HERE, PATIENCE, Chatsrv, Start

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--renderer-process-limit=1",  # the tabs of a context share a process, if one stays: each takes a second to start
    f"--host-resolver-rules=MAP *.example {HERE}",  # it finds each of these names here
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. Skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def web_port(server: Chatsrv) -> int:
    """Where a server with --web serves browsers."""
    assert server.journal
    return int(server.journal.expect("serves browsers on port")[0].split()[-1])


def with_web(chatsrv: Start, *flags: str, **more: Any) -> tuple[Chatsrv, int]:
    """A server with --web, and the port for browsers."""
    server = chatsrv("--web", f"{HERE}:0", *flags, **more)
    return server, web_port(server)


def visit(
    browser: Browser,
    port: int,
    width: int = 900,
    height: int = 700,
    scheme: str = "http",
    color_scheme: Literal["dark", "light"] = "light",
    **more: Any,
) -> Page:
    """A page of the chat, connected. It has a list of its `troubles`.

    With `more`, it is in a browser of its own, which costs a second; else a tab beside others.
    """
    if more or not browser.contexts:
        browser.new_context(**more)
    page = browser.contexts[-1 if more else 0].new_page()
    page.emulate_media(color_scheme=color_scheme)
    page.set_viewport_size({"width": width, "height": height})
    page.set_default_timeout(60_000)  # milliseconds; the first page of a browser takes long on a busy machine
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.troubles = troubles  # type: ignore[attr-defined]
    page.goto(f"{scheme}://{HERE}:{port}/")
    page.wait_for_function("() => document.getElementById('state').textContent === 'connected'")
    return page


def say(page: Page, *lines: str) -> None:
    for line in lines:
        page.fill("#draft", line)
        page.press("#draft", "Enter")


def wait_for(page: Page, text: str) -> None:
    """Wait until a line of the conversation has this in it."""
    page.wait_for_function("text => document.getElementById('log').textContent.includes(text)", arg=text)


def lines(page: Page) -> list[str]:
    """The lines on the page, without their times."""
    shown: list[str] = page.evaluate(
        """Array.from(document.querySelectorAll('#log p'), line => line.textContent.slice(5))"""  # HH:MM
    )
    return shown


class Guest:
    """A browser without a page: websockets' own client protocol over a blocking socket. It sees every frame."""

    def __init__(
        self,
        port: int,
        *,
        buffer: int = 0,
        origin: str | None = None,
        path: str = "/chat",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        from websockets.client import ClientProtocol
        from websockets.uri import parse_uri

        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE)
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.connect((HERE, port))
        self.name = "{}:{}".format(*self.sock.getsockname())
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=HERE, suppress_ragged_eofs=False)
        self.protocol = ClientProtocol(parse_uri(f"ws://{HERE}:{port}{path}"), max_size=None, origin=origin)  # type: ignore[arg-type]
        self.frames: list[Any] = []  # that were received and not looked at
        self.text = ""
        self.reset = False
        self.protocol.send_request(self.protocol.connect())
        self.flush()
        while not self.frames:
            assert self.receive(), "no answer"
        self.response = self.frames.pop(0)

    def flush(self) -> None:
        self.sock.sendall(b"".join(self.protocol.data_to_send()))

    def receive(self) -> bool:
        """Take what has come, and answer it as the protocol wants; whether there was anything."""
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError:
            self.reset = True
            data = b""
        if not data:
            self.protocol.receive_eof()
            return False
        self.protocol.receive_data(data)
        self.frames += self.protocol.events_received()
        if not self.reset:
            try:
                self.flush()
            except OSError:
                self.reset = True
        return True

    def say(self, *messages: str) -> None:
        for message in messages:
            self.protocol.send_text(message.encode())
        self.flush()

    def line(self) -> str:
        """The next line. EOFError at the end of the stream."""
        while "\n" not in self.text:
            while not self.frames:
                if not self.receive():
                    raise EOFError(f"the stream has ended after {self.text!r}")
            frame = self.frames.pop(0)
            if frame.opcode.name in ("TEXT", "CONT"):
                self.text += bytes(frame.data).decode()
        line, _, self.text = self.text.partition("\n")
        return line

    def enter(self) -> Guest:
        """Be greeted."""
        assert self.line().startswith("Welcome")
        return self

    def end(self) -> tuple[int, str]:
        """Read to the end of the stream; returns the code and the reason of the server's close frame."""
        while self.receive():
            pass
        self.sock.close()
        close = self.protocol.close_rcvd
        return (int(close.code), close.reason) if close else (1006, "")
