#!/usr/bin/env python3
"""Makes the README's picture of the page: `PYTHONPATH=. python tests/page_picture.py` writes tests/pictures/page.png.

Two people talk in browsers, one on a desktop and one on a telephone that prefers dark pages, and a third in a terminal.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from browsers import chromium, say, visit, wait_for, web_port  # noqa: E402
from chatting import HERE, Chatsrv, Client  # noqa: E402

TARGET = Path(__file__).resolve().parent / "pictures" / "page.png"
SHEET = """<body style="margin: 0; padding: 16px; display: flex; gap: 16px; align-items: center; background: #c9ced6">
<style>img { border-radius: 10px; box-shadow: 0 2px 12px #0005; height: 560px }</style>"""


def main() -> None:
    server = Chatsrv("--web", f"{HERE}:0", "--handler", "chat.handlers.nick:nick")
    try:
        with chromium() as browser:
            port = web_port(server)
            desktop = visit(browser, port, 620, 560, device_scale_factor=2)
            telephone = visit(browser, port, 315, 560, device_scale_factor=2, color_scheme="dark")
            terminal = Client(server.port)
            say(desktop, "/nick ann")
            wait_for(telephone, "is now ann")
            say(telephone, "/nick bob")
            wait_for(desktop, "is now bob")
            terminal.say("/nick carol")
            wait_for(desktop, "is now carol")
            talk = [
                (desktop, "Good morning! Who is here?"),
                (telephone, "me, ann. On the train, by telephone"),
                (None, "Hello ann, hello bob. I am in a terminal, as always."),
                (desktop, "Fine. The notes are at https://example.org/notes, if anybody has time."),
                (None, "I have read them. \x1b[31mRed\x1b[0m is not shown as red here, is it, ann?"),
                (desktop, "No, and that is as it should be."),
                (telephone, "See you at the station, then"),
            ]
            for speaker, text in talk:
                if speaker:
                    say(speaker, text)
                else:
                    terminal.say(text)
                for page in desktop, telephone:
                    wait_for(page, text[:15])
            desktop.fill("#draft", "See you soon, b")
            sheet = browser.new_context(viewport={"width": 984, "height": 592}).new_page()
            sheet.set_content(SHEET)
            for page in desktop, telephone:
                picture = page.screenshot()
                sheet.evaluate(
                    """async bytes => {
                        const image = document.body.appendChild(new Image());
                        image.src = URL.createObjectURL(new Blob([new Uint8Array(bytes)]));
                        await image.decode();
                    }""",
                    list(picture),
                )
            sheet.screenshot(path=TARGET)
            terminal.sock.close()
    finally:
        server.destroy()
    print(TARGET)


if __name__ == "__main__":
    main()
