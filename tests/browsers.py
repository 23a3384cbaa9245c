"""What tests need to come with a browser: a server with a page, a real Chromium, and what is on its page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from chatting import HERE, Chatsrv, Start

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. Skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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


def visit(browser: Browser, port: int, width: int = 900, height: int = 700, **more: Any) -> Page:
    """A page of the chat in a browser that knows nothing from before, connected. It has a list of its `troubles`."""
    page = browser.new_context(viewport={"width": width, "height": height}, **more).new_page()
    page.set_default_timeout(15_000)  # milliseconds
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.troubles = troubles  # type: ignore[attr-defined]
    page.goto(f"http://{HERE}:{port}/")
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
