"""Handlers on several real nodes: what they publish and what they tell keep their order, and rooms are shared."""

from __future__ import annotations

from pathlib import Path

from cluster.real import Stage, Talker

from loop import sleep

ANSWER = """
def answer(member, room):
    member.tell("Welcome")
    while messages := (yield from member.receive()):
        for message in messages:
            room.publish(member, message)
            member.tell(b"done " + message)
            if message == b"rest":
                room.announce("* rest")
                member.tell("done announcing")
                room.publish(member, ["not for you", "nor this"], but=(member,))
                member.tell("done")
"""


def test_publish_then_tell(stage: Stage, tmp_path: Path) -> None:
    """As without a cluster: the private line waits for what was published before it, however far away Redis is."""
    handler = tmp_path / "answer.py"
    handler.write_text(ANSWER)
    for delay in 0.0, 0.03:
        proxy = stage.proxy()
        proxy.delay = delay
        stage.client(stage.node(proxy.url(), "--handler", f"{handler}:answer"))
    one, other = stage.clients
    for number in range(10):
        stage.run(*(client.type(f"{client.name} {number}") for client in stage.clients), sleep(0.01))
    stage.run(other.type("rest"))
    stage.until(lambda: other.lines()[-1] == "done" and one.lines()[-1] == "nor this")
    rest = ["rest", "done rest", "* rest", "done announcing", "done"]
    assert own(one) == said_and_done(one)
    assert own(other, "rest", "* rest") == said_and_done(other) + rest
    assert one.lines()[-4:] == ["rest", "* rest", "not for you", "nor this"]
    assert not {"not for you", "nor this"} & set(other.lines())


def own(client: Talker, *beginnings: str) -> list[str]:
    return [line for line in client.lines() if line.startswith((client.name, "done", *beginnings))]


def said_and_done(client: Talker) -> list[str]:
    return [line for number in range(10) for line in (f"{client.name} {number}", f"done {client.name} {number}")]


def test_rooms_on_two_nodes(stage: Stage) -> None:
    """Each room is one on both nodes, and a cut loses nothing in any of them."""
    rooms = "--handler", "chat.handlers.rooms:rooms"
    proxy = stage.proxy()
    stage.run(stage.soon(proxy.url(), *rooms))
    stage.run(stage.soon(stage.redis.url(), *rooms))
    ann, carl = stage.client(stage.nodes[0]), stage.client(stage.nodes[0])
    bob = stage.client(stage.nodes[1])
    for client, name in (ann, "ann"), (bob, "bob"), (carl, "carl"):
        stage.run(client.type(f"/nick {name}"))
    stage.run(ann.type("/join inn"), bob.type("/join inn"))
    stage.until(lambda: b"bob is here, in inn" in ann.heard)
    stage.run(ann.type("one"), carl.type("in the lobby"))
    stage.until(lambda: "ann: one" in bob.lines() and "carl: in the lobby" in carl.lines())
    proxy.close_door()
    stage.run(*(client.type(f"{number}") for number in range(3) for client in (ann, bob)))
    stage.until(lambda: "bob: 2" in bob.lines())
    proxy.open = True
    stage.until(lambda: all("ann: 2" in client.lines() and "bob: 2" in client.lines() for client in (ann, bob)))
    words = [[line for line in client.lines() if line[:5] in ("ann: ", "bob: ")] for client in (ann, bob)]
    assert words[0] == words[1] and len(words[0]) == 7
    assert not any(b"lost" in client.heard for client in stage.clients)
    assert not any(line.startswith(("ann: ", "bob: ")) for line in carl.lines())
    stage.run(bob.type("/leave"))
    stage.until(lambda: "* bob has left inn" in ann.lines())
    stage.until(lambda: "* bob is here, in lobby" in carl.lines())
    stage.run(bob.type("hi"))
    stage.until(lambda: "bob: hi" in carl.lines())
    assert "bob: hi" not in ann.lines()
