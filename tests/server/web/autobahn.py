#!/usr/bin/env python3
"""What Autobahn's fuzzing client talks to: `PYTHONPATH=. python tests/server/web/autobahn.py`, then its `wstest`.

    wstest -m fuzzingclient -s spec.json
    {"servers": [{"agent": "chatsrv", "url": "ws://127.0.0.1:9001/chat"}], "outdir": "reports",
     "cases": ["1.1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*"], "exclude-cases": [], "exclude-agent-cases": {}}

The testsuite wants its messages back as they were, which a chat does not do, so here each line is sent back as one
frame. It needs Python 2.7. Of these 238 cases two fail: 2.10 wants an answer to each of ten pings, where the standard
asks for the latest alone; 7.1.5 closes within a message, for which websockets complains. Binary messages (1.2) are
refused here; there is no compression (12, 13).
"""

from __future__ import annotations

import socket

from chat.server.web.frames import Incoming, framed
from chat.server.web.site import HEAD, Site

TEXT = 1
SITE = Site(["*"])


def serve(sock: socket.socket) -> None:
    """One case: shake hands, send back what comes, say goodbye."""
    data = b""
    while (answer := SITE.answer(data)) is None:
        data += sock.recv(HEAD)
    sock.sendall(answer.data)
    if answer.protocol is None:
        return
    incoming = Incoming(answer.protocol)
    data = data[data.index(b"\r\n\r\n") + 4 :] or sock.recv(1 << 16)
    rest = b""
    while data and not incoming.ended:
        *lines, rest = (rest + incoming.receive_data(data)).split(b"\n")
        sock.sendall(incoming.pong + b"".join(framed(TEXT, line) for line in lines) + incoming.farewell)
        incoming.pong = b""
        data = b"" if incoming.ended else sock.recv(1 << 16)
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(1 << 16):
        pass


def main() -> None:
    with socket.create_server(("127.0.0.1", 9001)) as listener:
        listener.settimeout(60)  # seconds without a case, then it is over
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(10)
                try:
                    serve(sock)
                except OSError:
                    pass


if __name__ == "__main__":
    main()
