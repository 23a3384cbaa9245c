"""The client in a real terminal: others talk while one types, the window changes, the server goes and comes back."""

from __future__ import annotations

import re

from chatting import HERE, Chatsrv, Client, eventually
from forked import CLIENT
from terminals import Tmux

from . import film
from .film import Frame

COLUMNS, ROWS, NARROW = 76, 15, 50
TALK = "Others talk while you type. Your line stays below, in one piece."
RESIZE = "The window becomes narrower, and wide again."
LONG = "Even if the window is half as wide, or somebody talks meanwhile."
RETURN = "The server ends. The client keeps your line, and connects again."


class Recording:
    """Carla's client in tmux, and a camera."""

    def __init__(self, tmux: Tmux) -> None:
        self.tmux = tmux
        self.columns = COLUMNS
        self.caption = TALK
        self.frames: list[Frame] = []

    def shows(self, *texts: str) -> None:
        """Wait until all of this is on the screen, rows joined."""
        eventually(lambda: all(text in " ".join(" ".join(self.tmux.screen()).split()) for text in texts), texts[-1])

    def shoot(self, seconds: float) -> None:
        """Take what is on the screen, once it has not changed for several looks."""
        looks: list[str] = []
        while len(looks) < 4 or any(look != looks[-1] for look in looks[-4:]):
            look = self.tmux.call(*"capture-pane -p -e ; display-message -p".split(), "#{cursor_x} #{cursor_y}")
            looks.append(re.sub(r"again in \d s", "again in 1 s", look))
        *rows, cursor = looks[-1].rstrip("\n").split("\n")
        while not rows[-1]:
            rows.pop()
        column, row = cursor.split()
        self.frames.append(Frame(seconds, self.caption, rows, (int(column), int(row)), self.columns))

    def write(self, text: str) -> None:
        """Type it, some letters at a time, of which the last one can be seen."""
        typed = ""
        for part in re.findall(r" *[^ ]{1,4}", text):
            self.tmux.write(part)
            typed += part
            self.shows(typed.strip())
            self.shoot(0.28)

    def enter(self, shown: str) -> None:
        self.tmux.press("Enter")
        self.shows(shown)
        self.shoot(1.2)

    def hear(self, person: Client, text: str, shown: str) -> None:
        person.say(text)
        self.shows(shown)
        self.shoot(1.5)

    def resize(self, columns: int, row: str) -> None:
        self.tmux.resize(columns, ROWS)
        self.columns = columns
        eventually(lambda: row in self.tmux.screen(), row)  # as only the client wraps it, not the terminal
        self.shoot(2.5)


def run() -> list[Frame]:
    servers = [Chatsrv("--handler", "chat.handlers.nick:nick")]
    try:
        with Tmux(f"{' '.join(CLIENT)} {HERE} {servers[0].port} --reconnect", COLUMNS, ROWS) as tmux:
            session = Recording(tmux)
            session.shows("guest1 is here")
            tmux.write("/nick carla")
            tmux.press("Enter")
            session.shows("guest1 is now carla")
            others = {}
            for name in "anna", "ben":
                others[name] = servers[0].client()
                others[name].say(f"/nick {name}")
                session.shows(f"is now {name}")
            session.shoot(1)
            session.hear(others["anna"], "The build is green again.", "green again.")
            session.hear(others["ben"], "Good. Was it the port that was still in use?", "still in use?")
            session.write("It was. Now every")
            session.hear(others["anna"], "你好, Carla! 🎉 What happens if somebody sends \x1b[2J?", "somebody sends")
            session.write(" test asks for port 0.")
            session.enter("carla: It was. Now every test asks for port 0.")
            session.write("And whatever I type stays where it is, on as many")
            session.caption = RESIZE
            session.resize(NARROW, "  sends \\x1b[2J?")
            session.hear(others["ben"], LONG, "meanwhile.")
            session.resize(COLUMNS, f"ben: {LONG}")
            session.caption = RETURN
            servers[0].end()
            session.shows("trying again", "again in")
            session.shoot(2.5)
            servers.append(Chatsrv("--handler", "chat.handlers.nick:nick", port=servers[0].port))
            session.shows("connected again", "guest1 is here", "on as many")
            session.shoot(2)
            session.write(" rows as it needs.")
            session.enter("guest1: And whatever I type")
            session.shoot(3)
            return session.frames
    finally:
        for server in servers:
            server.destroy()


def draw() -> str:
    frames = run()
    texts = " ".join(dict.fromkeys(frame.caption for frame in frames))
    still = max(number for number, frame in enumerate(frames) if frame.caption == RESIZE)
    return film.draw(frames, still, "The client, in a terminal", f"A conversation of three people. {texts}")
