"""The page and the WebSocket behind the web servers that README names, with the lines that stand there."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsers import Guest, with_web
from chatting import HERE, ROOT, Start, eventually, free_port

pytest.importorskip("websockets", reason="websockets is not installed")

README = (ROOT / "README.md").read_text()
NGINX = """
worker_processes 1; daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{ listen 127.0.0.1:{port}; {block} }}
}}
"""
CADDY = """{{
    admin off
    auto_https off
}}
{block}
"""

Proxy = Callable[[str, Path, int], list[str]]


def block(title: str) -> str:
    """What README says, from this line to the brace that ends it."""
    found = re.search(rf"^{re.escape(title)} {{\n.*?^}}$", README, re.MULTILINE | re.DOTALL)
    assert found and "127.0.0.1:8080" in found[0] and found[0].count("\n") <= 6
    return found[0]


def nginx(lines: str, folder: Path, port: int) -> list[str]:
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, block=lines))
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def caddy(lines: str, folder: Path, port: int) -> list[str]:
    site = lines.replace("chat.example.org", f"http://{HERE}:{port}")
    (folder / "Caddyfile").write_text(CADDY.format(block=site))
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str], int], None]]:
    """Runs a web server until the end of the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(command: list[str], port: int) -> None:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        environment = {**os.environ, "HOME": str(tmp_path)}
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )

        def answers() -> bool:
            assert processes[-1].poll() is None, f"{command[0]} has ended"
            try:
                return fetch(port, "/healthz")[0] > 0
            except OSError:
                return False

        eventually(answers, "an answer")

    yield begin
    for process in processes:
        process.terminate()
        process.wait(20)


def fetch(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HERE, port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("proxy", "title", "path"),
    [(nginx, "location /", "/"), (nginx, "location /", "/talk/"), (caddy, "chat.example.org", "/")],
    ids=["nginx", "nginx with a folder", "Caddy"],
)
def test_a_conversation_through_a_web_server(
    chatsrv: Start, start: Callable[[list[str], int], None], tmp_path: Path, proxy: Proxy, title: str, path: str
) -> None:
    server, port = with_web(chatsrv)
    front = free_port()
    lines = block(title).replace("127.0.0.1:8080", f"{HERE}:{port}")
    if path != "/":
        lines = lines.replace("location /", f"location {path}").replace(f":{port};", f":{port}/;")
    start(proxy(lines, tmp_path, front), front)
    status, page = fetch(front, path)
    assert status == 200 and page.endswith(b"</script>\n")
    assert fetch(front, f"{path}healthz") == (200, b"ok\n")
    assert Guest(front, origin="http://evil.example", path=f"{path}chat").response.status_code == 403
    terminal, guest = server.client(), Guest(front, origin=f"http://{HERE}:{front}", path=f"{path}chat").enter()
    guest.say("through the middle", "x" * 3000)
    terminal.expect(b"127.0.0.1: through the middle")
    assert guest.line() == "127.0.0.1: through the middle"
    assert "".join(guest.line().partition(": ")[2] for _ in range(3)) == "x" * 3000
    assert server.end() == 0
    assert guest.line() == "* You are disconnected: the server is ending."
    assert guest.end() == (1001, "the server is ending")
