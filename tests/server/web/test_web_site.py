"""What is answered over HTTP, without I/O."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("websockets", reason="websockets is not installed")

from chat.server.web.site import HEAD, Answer, Site

OPENING = (
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
)


def ask(request: str, *headers: str, origins: tuple[str, ...] = (), more: str = "Host: here:8080\r\n") -> Answer:
    head = f"{request}\r\n{more}{''.join(f'{header}' + chr(13) + chr(10) for header in headers)}\r\n"
    site = Site(list(origins))
    for size in range(1, len(head)):
        assert site.answer(head[:size].encode("latin-1")) is None, head[:size]
    answer = site.answer(head.encode("latin-1"))
    assert answer
    return answer


def status(answer: Answer | None) -> int:
    assert answer
    head, _, body = answer.data.partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    found = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Z][A-Za-z -]+", lines[0])
    assert found and "date" in headers and "set-cookie" not in headers
    if found[1] != "101":
        assert headers["x-content-type-options"] == "nosniff" and "close" in headers["connection"]
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert int(headers["content-length"]) == len(body) or not body
        assert answer.what.endswith(f"with {found[1]}") and answer.protocol is None
    return int(found[1])


def test_the_page() -> None:
    answer = ask("GET /?room=1 HTTP/1.1")
    assert (
        status(answer) == 200
        and answer.data.endswith(b"</script>\n")
        and answer.what == "answered GET /?room=1 with 200"
    )
    assert status(ask("GET / HTTP/1.0", more="")) == 200


def test_the_page_is_small_and_needs_nothing_else() -> None:
    page = Site([]).page.decode()
    assert len(page.encode()) < 40_000
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|cookie)\b", page)
    assert all(address.startswith("data:") for address in re.findall(r"""(?:src|href)=["']([^"']*)""", page))
    assert not re.search(r"@import|url\(|\bon[a-z]+=| style=", page), "the policy forbids these"


def test_the_policy_lets_only_this_page_run() -> None:
    site = Site([])
    assert len(re.findall(r"'sha256-[\w+/]{43}='", site.policy)) == 2 and "unsafe" not in site.policy
    assert site.policy.encode() in ask("GET / HTTP/1.1").data


@pytest.mark.parametrize(
    "request_line, expected",
    {
        "GET /healthz HTTP/1.1": 200,
        "GET /favicon.ico HTTP/1.1": 404,
        "GET /../etc/passwd HTTP/1.1": 404,
        "GET //chat HTTP/1.1": 404,
        "GET http://here:8080/nothing HTTP/1.1": 404,
        "GET ftp://here:8080/ HTTP/1.1": 404,
        "GET /chat HTTP/1.1": 426,
        "GET /chat HTTP/1.0": 505,
        "HEAD /chat HTTP/1.1": 426,
        "POST / HTTP/1.1": 405,
        "POST /chat HTTP/1.1": 405,
        "OPTIONS * HTTP/1.1": 405,
        "CONNECT here:80 HTTP/1.1": 405,
    }.items(),
)
def test_everything_else_is_refused(request_line: str, expected: int) -> None:
    answer = ask(request_line)
    assert status(answer) == expected
    assert (b"\r\nAllow: GET, HEAD\r\n" in answer.data) is (expected == 405)
    assert (b"\r\nUpgrade: websocket\r\n" in answer.data) is (expected == 426)


@pytest.mark.parametrize("target", ["http://here", "HTTP://here:8080/", "https://here/?a=b", "http://here/healthz"])
def test_a_target_may_have_a_host(target: str) -> None:
    assert status(ask(f"GET {target} HTTP/1.1")) == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/nothing", "/chat"])
def test_head_is_get_without_the_body(path: str) -> None:
    get, head = ask(f"GET {path} HTTP/1.1").data, ask(f"HEAD {path} HTTP/1.1").data
    assert head.endswith(b"\r\n\r\n") and re.sub(rb"Date: .*", b"", head).split(b"\r\n")[:1] == get.split(b"\r\n")[:1]
    assert get.partition(b"\r\n\r\n")[0].count(b"\r\n") == head.count(b"\r\n") - 2


@pytest.mark.parametrize(
    "head, expected",
    {
        b"hello\n": 400,
        "GET /ä HTTP/1.1\r\n".encode(): 400,
        b"GET /\x1b HTTP/1.1\r\n": 400,
        b"/nick ann\r\n": 400,
        b"\x16\x03\x01\x02\x00\x01": 400,
        b"GET /\r\n": 400,
        b"GET / HTTP/2.0\r\n": 400,
        b"get / HTTP/1.1\r\n": 400,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n": 431,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 1000 + b"\r\n": 431,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (HEAD // 6): 431,
        b"GET /" + b"x" * HEAD: 414,
    }.items(),
)
def test_what_makes_no_sense_is_refused_at_once(head: bytes, expected: int) -> None:
    assert status(Site([]).answer(head)) == expected


# The door.


@pytest.mark.parametrize("header", ["Sec-WebSocket-Key: \xff", "Origin: \xff", "X-Anything: \xe9"])
def test_a_header_that_is_not_ascii_is_refused_without_a_traceback(
    header: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(ask("GET /chat HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", header)) == 400
    assert capsys.readouterr().err == ""


def test_a_websocket_is_opened_without_compression() -> None:
    answer = ask("GET /chat HTTP/1.1", OPENING[:-2])
    assert status(answer) == 101 and answer.protocol
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer.data
    assert b"xtensions" not in answer.data


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("Version: 13", "Version: 8", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "***", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("Upgrade: websocket", "Upgrade: h2c", 426),
        ("keep-alive, Upgrade", "keep-alive", 426),
    ],
)
def test_what_is_wrong_with_an_opening_is_told(old: str, new: str, expected: int) -> None:
    assert old in OPENING
    answer = ask("GET /chat HTTP/1.1", OPENING.replace(old, new)[:-2])
    assert status(answer) == expected
    assert (b"\r\nSec-WebSocket-Version: 13\r\n" in answer.data) is (expected == 400)


def test_the_host_of_the_target_is_the_one_whose_page_may_connect() -> None:
    for origin, expected in (("http://here:8080", 403), ("http://there", 101)):
        assert status(ask("GET http://there/chat HTTP/1.1", OPENING[:-2], f"Origin: {origin}")) == expected


@pytest.mark.parametrize(
    "host, origin, origins, expected",
    [
        ("here:8080", "http://here:8080", (), 101),
        ("here:8080", "https://here:8080", (), 101),
        ("HERE:8080", "http://here:8080", (), 101),
        ("here:8080", "http://here:9090", (), 403),
        ("here:80", "http://here", (), 101),
        ("[::1]:443", "https://[::1]", (), 101),
        ("here:80", "https://here", (), 403),
        ("here:8080", "https://here", ("https://here:443",), 101),
        ("here:8080", "http://here", (), 403),
        ("here:8080", "http://evil.example", (), 403),
        ("here:8080", "http://here:8080.evil.example", (), 403),
        ("here:8080", "null", (), 403),
        ("here:8080", "", (), 101),
        ("here:8080", "http://here:8080", ("https://chat.example.org",), 403),
        ("here:8080", "https://chat.example.org", ("https://a.example", "https://chat.example.org"), 101),
        ("here:8080", "https://anywhere.example", ("*",), 101),
    ],
)
def test_only_ones_own_page_may_connect(host: str, origin: str, origins: tuple[str, ...], expected: int) -> None:
    headers = [OPENING[:-2], *([f"Origin: {origin}"] if origin else [])]
    assert status(ask("GET /chat HTTP/1.1", *headers, origins=origins, more=f"Host: {host}\r\n")) == expected


@pytest.mark.parametrize(
    "host, known",
    {
        "localhost:8080": True,
        "127.0.0.1:8080": True,
        "[::1]:8080": True,
        "[2001:db8::7]": True,
        "desk": True,
        "desk.local": True,
        "DESK.LAN.:80": True,
        "chat.example.org": False,
        "chat.example.org:8080": False,
        "127.0.0.1.evil.example": False,
        "localhost.evil.example:8080": False,
        "evil.example.": False,
    }.items(),
)
def test_a_page_of_a_name_that_anybody_may_have_given_us_is_told_what_to_do(host: str, known: bool) -> None:
    """It may be a stranger's, whose name leads to this machine for a moment. With a certificate, it cannot."""
    answers = [
        ask(
            "GET /chat HTTP/1.1",
            OPENING[:-2],
            f"Origin: {scheme}://{host.lower()}",
            more=f"Host: {host}\r\n",
            origins=origins,
        )
        for scheme, origins in (("http", ()), ("https", ()), ("http", (f"http://{host.lower()}",)))
    ]
    for answer in answers:
        assert answer.data.startswith(b"HTTP/1.1 101 ")
    assert [answer.protocol is not None for answer in answers] == [known, True, True]
    if not known:
        _, _, frame = answers[0].data.partition(b"\r\n\r\n")
        text = f"is this chat at {host}? If so, start it with --web-origin http://{host.lower()}"
        assert frame[:1] == b"\x88" and frame[2:4] == b"\x03\xf0" and frame[4:].decode() == text
        assert text in answers[0].what


def test_two_origins_are_none() -> None:
    headers = OPENING[:-2], "Origin: http://here:8080", "Origin: http://evil.example"
    assert status(ask("GET /chat HTTP/1.1", *headers)) == 400
