"""The page, in a real browser: what people see, and what they can do."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import pytest
from browsers import chromium, lines, say, visit, wait_for, with_web
from chatting import HERE, Start, free_port
from more import every

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("websockets", reason="websockets is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        # For most pages: as each server has a port of its own, no page finds anything of another. An empty one stays.
        browser.new_context().new_page()
        yield browser


@pytest.fixture(autouse=True)
def leave_no_page(browser: Browser) -> Iterator[None]:
    yield
    first, *others = browser.contexts
    for context in others:
        context.close()
    for page in first.pages[1:]:
        page.close()


def troubles(page: Page) -> list[str]:
    found: list[str] = page.troubles  # type: ignore[attr-defined]
    return found


def state(page: Page, text: str) -> None:
    """Wait until the page says so of its connection."""
    page.wait_for_function("text => document.getElementById('state').textContent.includes(text)", arg=text)


def test_two_browsers_and_a_terminal(chatsrv: Start, browser: Browser) -> None:
    server, port = with_web(chatsrv, "--handler", "chat.handlers.nick:nick")
    ann, bob = visit(browser, port), visit(browser, port, color_scheme="dark")
    carol = server.client()
    say(ann, "/nick ann")
    wait_for(bob, "is now ann")
    say(bob, "/nick bob")
    carol.say("/nick carol")
    for page in ann, bob:
        wait_for(page, "is now carol")
        wait_for(page, "is now bob")
    say(ann, "Hello, everybody!")
    assert carol.wait_for(b"Hello") == b"ann: Hello, everybody!"
    carol.say("Annette, ANN?", "grüß dich")
    wait_for(ann, "grüß dich")
    wait_for(bob, "grüß dich")
    assert lines(ann)[-3:] == lines(bob)[-3:] == ["ann: Hello, everybody!", "carol: Annette, ANN?", "carol: grüß dich"]
    assert ann.locator(".own bdi").all_inner_texts() == ["ann"]
    assert bob.locator(".own").count() == 0
    assert ann.locator("mark").all_inner_texts() == ["ANN"] and bob.locator("mark").count() == 0
    for name in "ann", "carol":  # the terminal client's colours, or rather its number of one
        assert bob.locator("bdi", has_text=name).first.get_attribute("class") == f"c{crc32(name.encode()) % 12}"
    assert re.fullmatch(r"\d\d:\d\d", ann.locator("#log p time").last.inner_text())
    assert not troubles(ann) and not troubles(bob)


def test_a_command_that_is_too_long_is_not_sent(chatsrv: Start, browser: Browser) -> None:
    """In parts, its rest would be said to everybody."""
    server, port = with_web(chatsrv, "--handler", "chat.handlers.nick:nick")
    ann, carol = visit(browser, port), server.client()
    say(ann, "/msg guest2 " + "x" * 1100 + "the secret")
    state(ann, "a command has at most 1024 bytes")
    assert ann.locator("#draft").input_value().endswith("the secret")
    say(ann, "y" * 1024 + "/quit")
    assert carol.wait_for(b"yyy") == b"guest1: " + b"y" * 1023
    assert carol.line() == b"guest1: y/quit"


def test_what_somebody_else_says_at_the_same_time_is_not_ones_own(chatsrv: Start, browser: Browser) -> None:
    server, port = with_web(chatsrv, "--handler", "chat.handlers.nick:nick")
    ann, carol = visit(browser, port), server.client()
    say(ann, "first")
    carol.wait_for(b"first")
    carol.say("hello")
    wait_for(ann, "guest2: hello")
    server.process.send_signal(signal.SIGSTOP)
    carol.say("same", "/nick carol")
    say(ann, "same", "/nick ann", "mine")
    server.process.send_signal(signal.SIGCONT)
    wait_for(ann, "ann: mine")
    own = ann.locator(".own").all_inner_texts()
    assert [text.split()[-2:] for text in own] == [["guest1:", "first"], ["guest1:", "same"], ["ann:", "mine"]]
    assert ann.evaluate("sent.length") == 0 and not troubles(ann)


def test_ones_name_may_change_without_a_word(chatsrv: Start, browser: Browser, tmp_path: Path) -> None:
    handler = tmp_path / "shy.py"
    handler.write_text(SHY)
    server, port = with_web(chatsrv, "--handler", f"{handler}:shy")
    page, other = visit(browser, port), server.client()
    other.say("one")
    wait_for(page, "2-a: one")
    say(page, "one", "two", "three", "four")
    wait_for(page, "1-b: four")
    own = [text.split()[-2:] for text in page.locator(".own").all_inner_texts()]
    assert own == [["1-a:", "one"], ["1-a:", "two"], ["1-b:", "four"]]
    assert page.evaluate("sent.length") == 0


SHY = """
def shy(member, room):
    room.count = getattr(room, "count", 0) + 1
    number, said = room.count, 0
    member.tell("Welcome, stranger!")
    while messages := (yield from member.receive()):
        for message in messages:
            member.prefix = b"%d-%c: " % (number, b"ab"[said // 2])
            said += 1
            room.publish(member, message)
"""


HOSTILE: list[bytes | str] = [
    b"<script>hacked = 1</script><img src=x onerror='hacked = 1'>",
    b"&lt;b&gt; &amp; \x1b]0;title\x07 \x00 \x7f \xff \xc3",
    "left \u202eright\u202c \u2066x \u200b\u00ad \ufeff".encode(),
    "z" + "\u0301" * 500,
    "w" * 1000,
    b"javascript:hacked=1 data:text/html,x http:// https://[ http:/x file:///etc/passwd",
    "https://example.org/\u202egpj.exe",
    b"http://127.0.0.1:1/?a=1&b=<i>, https://example.org/a_(b), (see http://example.org).",
]


def test_hostile_text_is_text(chatsrv: Start, browser: Browser) -> None:
    server, port = with_web(chatsrv)
    page = visit(browser, port, width=360)
    server.client().say(*HOSTILE, "done")
    wait_for(page, "done")
    shown = "\n".join(lines(page))
    assert "<script>hacked = 1</script><img src=x onerror='hacked = 1'>" in shown
    assert "&lt;b&gt; &amp; \\x1b]0;title\\x07 \\x00 \\x7f \ufffd \ufffd" in shown
    assert "left \\u202eright\\u202c \\u2066x \\u200b\\xad \\ufeff" in shown
    tags = page.evaluate("Array.from(new Set(Array.from(document.querySelectorAll('#log *'), e => e.tagName))).sort()")
    assert tags == ["A", "BDI", "P", "SPAN", "TIME"] and page.evaluate("typeof hacked") == "undefined"
    links = page.locator("#log a")
    assert links.all_inner_texts() == ["http://127.0.0.1:1/?a=1&b=", "https://example.org/a_(b)", "http://example.org"]
    for attribute, value in ("rel", "noopener noreferrer nofollow"), ("target", "_blank"):
        assert {link.get_attribute(attribute) for link in links.all()} == {value}
    assert page.evaluate("document.documentElement.scrollWidth <= 360 && log.scrollWidth <= log.clientWidth")
    tall = page.locator("#log p", has_text="z\u0301")
    assert tall.evaluate("line => getComputedStyle(line).overflow") == "hidden"
    assert not troubles(page)


def test_the_policy_keeps_whatever_else_from_running(chatsrv: Start, browser: Browser) -> None:
    page = visit(browser, with_web(chatsrv)[1])
    inject = "document.body.append(Object.assign(document.createElement('script'), {%s}))"
    for how in "textContent: 'hacked = 1'", "src: 'data:text/javascript,hacked = 1'":
        with pytest.raises(Exception, match="TrustedScript"):
            page.evaluate(inject % how)
    refused = """attempt => new Promise(resolve => {
        document.addEventListener('securitypolicyviolation', event => resolve(event.violatedDirective), {once: true});
        attempt === 'fetch' ? fetch('http://127.0.0.1:1/').catch(() => {}) : new Image().src = 'http://127.0.0.1:1/';
    })"""
    assert page.evaluate(refused, "fetch") == "connect-src" and page.evaluate(refused, "image") == "img-src"
    assert page.evaluate("typeof hacked") == "undefined" and page.evaluate("document.cookie") == ""


def test_after_a_restart_nothing_is_lost(chatsrv: Start, browser: Browser) -> None:
    port = free_port()
    before, _ = with_web(chatsrv, "--web", f"{HERE}:{port}")
    page = visit(browser, port)
    say(page, "first")
    wait_for(page, "first")
    page.fill("#draft", "a draft")
    assert before.end() == 0
    state(page, "no connection")
    assert page.input_value("#draft") == "a draft"
    say(page, "said meanwhile", "and this")
    page.fill("#draft", "another draft")
    assert page.evaluate("JSON.parse(sessionStorage.waiting)") == ["said meanwhile", "and this"]
    with_web(chatsrv, "--web", f"{HERE}:{port}")
    page.dispatch_event("#again", "click")  # unless it has connected by itself, and shows no button
    wait_for(page, "and this")
    assert lines(page)[-2:] == ["127.0.0.1: said meanwhile", "127.0.0.1: and this"]
    page.reload()
    state(page, "connected")
    assert page.input_value("#draft") == "another draft"
    assert page.evaluate("sessionStorage.waiting") == "[]"


def test_it_connects_again_by_itself_and_tells_what_may_be_lost(chatsrv: Start, browser: Browser) -> None:
    port = free_port()
    before, _ = with_web(chatsrv, "--web", f"{HERE}:{port}")
    page = visit(browser, port)
    say(page, "first")
    wait_for(page, "first")
    before.process.send_signal(signal.SIGSTOP)
    say(page, "perhaps")
    before.process.send_signal(signal.SIGKILL)
    before.process.wait()
    before.finished = True
    wait_for(page, "This may not have arrived: perhaps")
    with_web(chatsrv, "--web", f"{HERE}:{port}")
    wait_for(page, "Connected again")
    page.get_by_role("button", name="Say it again").click()
    wait_for(page, "127.0.0.1: perhaps")
    assert page.get_by_role("button", name="Say it again").count() == 0


def test_a_browser_that_is_sent_away_is_told_why_and_stays_away(chatsrv: Start, browser: Browser) -> None:
    server, port = with_web(chatsrv, "--idle-timeout", "0.5")
    page = browser.contexts[0].new_page()
    page.goto(f"http://{HERE}:{port}/")
    state(page, "ended: silent for 0.5 s")
    assert lines(page)[-1] == "* You are disconnected: silent for 0.5 s."
    assert page.evaluate("timer") == 0 and len(server.terminated("silent for 0.5 s")) == 1
    page.get_by_role("button", name="Connect now").click()
    server.terminated("silent for 0.5 s", 2)


def test_a_full_server_still_shows_the_page_that_says_so(chatsrv: Start, browser: Browser) -> None:
    server, port = with_web(chatsrv, "--max-clients", "1")
    server.client()
    page = browser.contexts[0].new_page()
    page.goto(f"http://{HERE}:{port}/")
    state(page, "ended: the server is full")


@pytest.mark.parametrize("limit", every(2, ["--max-per-ip", "--max-clients"]))
def test_what_a_browser_asks_for_beside_its_conversation_is_no_member(
    chatsrv: Start, browser: Browser, limit: str
) -> None:
    _, port = with_web(chatsrv, limit, "2")
    pages = [visit(browser, port) for _ in range(2)]
    for page in pages:
        say(page, "both are in")
    wait_for(pages[0], "both are in")
    third = browser.contexts[0].new_page()
    third.goto(f"http://{HERE}:{port}/")
    state(third, "ended: ")
    for page in (pages[1], third):
        page.close()
    visit(browser, port)


def test_a_page_whose_name_a_stranger_may_have_chosen_says_what_to_do(chatsrv: Start, browser: Browser) -> None:
    _, port = with_web(chatsrv)
    page = browser.contexts[0].new_page()
    page.goto(f"http://chat.example:{port}/")
    state(page, f"is this chat at chat.example:{port}? If so, start it with --web-origin http://chat.example:{port}")
    _, port = with_web(chatsrv, "--web-origin", "http://chat.example")
    page.goto(f"http://chat.example:{port}/")
    state(page, "no connection")  # the port is part of an origin


def test_it_scrolls_with_the_conversation_unless_one_reads(chatsrv: Start, browser: Browser) -> None:
    server, port = with_web(chatsrv)
    page, other = visit(browser, port, height=400), server.client()
    at_the_end = "() => log.scrollHeight - log.scrollTop - log.clientHeight < 5"
    other.say(*(f"line {number}" for number in range(100)))
    wait_for(page, "line 99")
    page.wait_for_function(at_the_end)
    page.press("#draft", "PageUp")
    page.wait_for_function("() => !following")
    other.say("news")
    page.get_by_role("button", name="1 new line").wait_for()
    other.say("more", "and more")
    page.get_by_role("button", name="3 new lines").click()
    page.wait_for_function(at_the_end)
    assert page.locator("#newer").is_hidden()
    other.say(*(f"flood {number}" for number in range(3000)))
    wait_for(page, "flood 2999")
    assert page.locator("#log p").count() == 2000
    page.wait_for_function(at_the_end)
    page.set_viewport_size({"width": 500, "height": 250})
    page.wait_for_function(at_the_end)


def test_the_title_counts_what_was_not_read(chatsrv: Start, browser: Browser) -> None:
    server, port = with_web(chatsrv)
    page, other = visit(browser, port), server.client()
    page.evaluate("document.hasFocus = () => false")
    other.say("one", "two")
    page.wait_for_function("() => document.title === '(2) chat'")
    page.evaluate("document.hasFocus = () => true, dispatchEvent(new Event('focus'))")
    assert page.title() == "chat"


def test_by_keyboard_and_screen_reader(chatsrv: Start, browser: Browser) -> None:
    page = visit(browser, with_web(chatsrv)[1])
    log = page.get_by_role("log", name="Conversation")
    assert log.get_attribute("aria-live") == "polite" and page.get_by_role("status").inner_text() == "connected"
    message = page.get_by_role("textbox", name="Message. Enter sends it")
    assert message.evaluate("element => element === document.activeElement")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    wait_for(page, "two")
    assert lines(page)[-2:] == ["127.0.0.1: one", "127.0.0.1: two"] and message.input_value() == ""
    page.keyboard.press("ArrowUp")
    assert message.input_value() == "one\ntwo"
    message.fill("three")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the button
    wait_for(page, "three")
    log.focus()
    page.keyboard.type("x")
    assert message.input_value() == "x"
    message.fill("ä" * 600)
    page.keyboard.press("Enter")
    wait_for(page, "ä" * 88)
    assert lines(page)[-2:] == ["127.0.0.1: " + "ä" * 512, "127.0.0.1: " + "ä" * 88]
    assert page.locator(".own").count() == 5


@pytest.mark.more  # it has a browser of its own, which takes seconds
def test_on_a_telephone(chatsrv: Start, browser: Browser) -> None:
    _, port = with_web(chatsrv)
    page = visit(browser, port, 360, 640, is_mobile=True, has_touch=True, device_scale_factor=2)
    message, button = page.locator("#draft"), page.get_by_role("button", name="Send")
    message.tap()
    page.keyboard.type("from the train")
    button.tap()
    wait_for(page, "from the train")
    box = button.bounding_box()
    assert box and box["height"] >= 44 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 640
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert float(message.evaluate("element => parseFloat(getComputedStyle(element).fontSize)")) >= 16
    page.context.set_offline(True)
    state(page, "no connection")
    page.context.set_offline(False)
    state(page, "connected")


@pytest.mark.more  # what can change that is one table of colours
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_everything_can_be_read(chatsrv: Start, browser: Browser, scheme: Literal["dark", "light"]) -> None:
    """Contrast of at least 4.5 to 1, as the WCAG want it."""
    page = visit(browser, with_web(chatsrv)[1], color_scheme=scheme)
    page.evaluate(
        """() => { for (let n = 0; n < 12; n++) log.append(element('p', 'c' + n, 'x'));
                   log.append(element('p', 'aside', 'x'), element('p', 'escape', 'x'), element('p', '', 'x')); }"""
    )
    paper, *inks = page.evaluate(
        """[getComputedStyle(document.body).backgroundColor,
            ...Array.from(document.querySelectorAll('#log p'), line => getComputedStyle(line).color)]"""
    )
    assert len(set(inks)) >= 14
    for ink in inks:
        lighter, darker = sorted(map(luminance, (paper, ink)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (paper, ink)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
