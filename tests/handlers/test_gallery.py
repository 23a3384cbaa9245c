"""The handlers that come with the server, each with real clients; IRC also with irssi and weechat."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chatting import HERE, PATIENCE, PREFIX, ROOT, Chatsrv, Client, Start, eventually
from terminals import Tmux

if TYPE_CHECKING:
    from conftest import Build
    from wires import Peer

    from chat.server.member import Member
    from chat.server.room import Room
    from loop.traps import Coroutine


def gallery(chatsrv: Start, name: str, **environment: str) -> Chatsrv:
    return chatsrv("--handler", f"chat.handlers.{name}:{name}", env={**os.environ, **environment})


def stranger(server: Chatsrv, source: str = "") -> Client:
    """A client that may not be greeted."""
    server.clients.append(Client(server.port, source=source))
    return server.clients[-1]


def test_rooms(chatsrv: Start) -> None:
    server = gallery(chatsrv, "rooms")
    ann, ben = server.client(), server.client()
    ann.say("/nick ann", "/join blue", "only for the blue room")
    ann.wait_for(b"ann: only for the blue room")
    ben.say("/nick ben", "who hears this?")
    ben.wait_for(b"* ann has left lobby")
    ben.wait_for(b"ben: who hears this?")
    ben.say("/rooms", "/join blue", "here I am")
    ben.wait_for(b"* Rooms: lobby (1), blue (1)")
    ben.wait_for(b"* ben is here, in blue")
    ann.expect(b"* ben is here, in blue", b"ben: here I am")
    ann.say("/who")
    ann.wait_for(b"* Here: ann, ben")
    ben.say("/leave")
    ann.wait_for(b"* ben has left blue")


def test_without_the_password_nobody_hears_anything(chatsrv: Start, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("sesame\n")
    server = gallery(chatsrv, "login", CHATSRV_PASSWORD_FILE=str(tmp_path / "password"))
    inside, outside = server.client(), server.client()
    inside.say("sesame", "first words")
    inside.wait_for(PREFIX + b"first words")
    for _ in range(3):
        outside.say("open")
    assert outside.everything().endswith(b"* You are disconnected: that was wrong 3 times.\n")
    outside = server.client()
    outside.say("wrong")
    outside.wait_for(b"That was wrong")
    inside.say("a secret")
    outside.say("sesame", "hello")
    assert outside.line().startswith(b"You are in"), "it has heard nothing before"
    outside.expect(PREFIX + b"hello")


def test_a_password_in_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", "0", "--handler", "chat.handlers.login:login"]
    environment = {**os.environ, "CHATSRV_PASSWORD_FILE": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 2
    assert done.stderr.endswith(f"ValueError: CHATSRV_PASSWORD_FILE is '{path}': Not a regular file\n")


def test_a_password_may_come_from_a_command(chatsrv: Start) -> None:
    shell = ["bash", "-c", 'CHATSRV_PASSWORD_FILE=<(echo sesame) exec "$@"', "bash"]
    server = chatsrv("--handler", "chat.handlers.login:login", through=shell)
    client = server.client()
    client.say("sesame")
    client.wait_for(b"You are in")


def test_login_without_a_password_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Chatsrv("--handler", "chat.handlers.login:login", env={"PATH": os.environ["PATH"]})


def test_quiz(chatsrv: Start, tmp_path: Path) -> None:
    """The same game with a question of our own, and no pause."""
    game = tmp_path / "fast.py"
    game.write_text(
        "import chat.handlers.quiz as module\nmodule.PAUSE, module.SECONDS = 0.01, 0.3\n"
        "module.QUESTIONS = {'What is 1 + 1?': '2'}\nfrom chat.handlers.quiz import quiz\n"
    )
    server = chatsrv("--handler", f"{game}:quiz")
    ann, ben = server.client(), server.client()
    ann.wait_for(b"* Nobody knew: 2")
    ann.wait_for(b"* What is 1 + 1?")
    ann.say("3", "2")
    assert ben.wait_for(b"* Right") == b"* Right, guest1! guest1 1, guest2 0"
    ben.wait_for(b"* What is 1 + 1?")
    ben.say("2")
    ann.wait_for(b"* Right, guest2!")


def test_login_gives_fifteen_seconds_for_all_tries_together(chatsrv: Start, tmp_path: Path) -> None:
    hurry = tmp_path / "hurry.py"
    hurry.write_text("import chat.handlers.login as module\nmodule.PATIENCE = 0.2\nlogin = module.login\n")
    server = chatsrv("--handler", f"{hurry}:login", env={**os.environ, "CHATSRV_PASSWORD": "sesame"})
    assert server.client().everything().endswith(b"* You are disconnected: no password in 0.2 s.\n")
    gone = server.client()
    gone.finish()
    assert gone.everything() == b"", "nothing but the question"


def test_moderate(chatsrv: Start) -> None:
    server = gallery(chatsrv, "moderate", CHATSRV_MODERATOR="hush")
    keeper, rowdy = server.client(), server.client(source="127.0.0.2")
    rowdy.say("/kick guest1")
    rowdy.wait_for(b"* Commands: ")
    keeper.say("/moderate hush", "/kick nobody", "/mute guest2", "/ban guest1")
    keeper.wait_for(b"* Nobody here has that name")
    keeper.wait_for(b"* guest1 mutes guest2")
    keeper.wait_for(b"* guest1 has the same address as you")
    rowdy.say("hear me", "/me shouts", "/msg guest1 psst")
    for _ in range(3):
        rowdy.wait_for(b"* You are muted")
    keeper.say("/unmute guest2", "go on")
    rowdy.wait_for(b"guest1: go on")
    rowdy.say("hear me now", "/quit")
    keeper.wait_for(b"guest1: go on")
    keeper.expect(b"guest2: hear me now", b"* guest2 is gone")


def test_a_kicked_member_may_come_back_and_a_banned_one_may_not(chatsrv: Start) -> None:
    server = gallery(chatsrv, "moderate", CHATSRV_MODERATOR="hush")
    keeper = server.client()
    keeper.say("/moderate hush")
    rowdy = server.client(source="127.0.0.2")
    keeper.wait_for(b"* guest2 is here")
    keeper.say("/kick guest2 enough")
    assert rowdy.everything().endswith(b"* You are disconnected: kicked by guest1: enough.\n")
    keeper.wait_for(b"* guest2 is gone")
    both = [server.client(source="127.0.0.2") for _ in range(2)]
    keeper.wait_for(b"* guest4 is here")
    keeper.say("/ban guest3 for good", "/unban nobody")
    keeper.wait_for(b"* /unban 127.0.0.2 takes that back")
    for one in [*both, stranger(server, "127.0.0.2")]:
        assert b"* You are disconnected: " in one.everything()
    assert keeper.wait_for(b"* Banned: ") == b"* Banned: 127.0.0.2"
    keeper.say("/unban 127.0.0.2")
    assert keeper.wait_for(b"* Banned: ") == b"* Banned: nobody"
    server.client(source="127.0.0.2")


def test_with_another_address_of_the_same_network_a_banned_one_stays_banned(
    house: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With IPv6, everybody has many."""
    monkeypatch.setenv("CHATSRV_MODERATOR", "hush")
    module = importlib.import_module("chat.handlers.moderate")
    monkeypatch.setattr(module, "PASSWORD", b"hush")  # another test may have imported it with another one
    moderate = module.moderate
    hosts = iter(["192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::3"])

    def from_afar(member: Member, room: Room) -> Coroutine[None]:
        member.host = next(hosts)
        yield from moderate(member, room)

    here = house(from_afar)

    def comes() -> Peer:
        peer = here.peer(boxed=False)
        peer.until(lambda: peer.heard)
        return peer

    keeper, rowdy, neighbour = comes(), comes(), comes()
    keeper.say(b"/moderate hush\n/ban guest2\n")
    for one in rowdy, neighbour, comes():
        one.until(lambda: one.fin)  # noqa: B023
        assert b"banned" in one.heard
    keeper.until(lambda: b"* /unban 2001:db8::/64 takes that back\n" in keeper.heard)
    assert b"Welcome" in comes().heard
    keeper.say(b"/unban 2001:db8::/64\n")
    keeper.until(lambda: b"* Banned: nobody\n" in keeper.heard)


def test_no_password_counts_after_three_wrong_ones(chatsrv: Start) -> None:
    """Even if it comes in the same piece."""
    server = gallery(chatsrv, "moderate", CHATSRV_MODERATOR="hush")
    other, guesser = server.client(), server.client()
    other.expect(b"* guest1 is here", b"* guest2 is here")
    guesser.send(b"/moderate a\n/moderate b\n/moderate c\n/moderate hush\n/kick guest1 gotcha\n")
    other.expect(b"* guest2 is gone")
    other.say("still here")
    other.expect(b"guest1: still here")


def test_three_wrong_passwords_of_a_moderator_are_enough(chatsrv: Start) -> None:
    server = gallery(chatsrv, "moderate", CHATSRV_MODERATOR="hush")
    guesser = server.client()
    guesser.say("/moderate a", "/moderate b", "/moderate c")
    heard = guesser.everything()
    assert heard.count(b"* That is not the password\n") <= 3
    assert heard.endswith(b"* You are disconnected: 3 wrong passwords.\n")


def test_bridge_passes_on_both_ways_and_comes_back(chatsrv: Start) -> None:
    there = chatsrv()
    here = gallery(chatsrv, "bridge", CHATSRV_BRIDGE=f"{HERE}:{there.port}")
    ann, ben = here.client(), there.client()
    eventually(lambda: there.journal and there.journal.lines("accepted connection")[1:], "the bridge")
    ben.say("from there")
    ann.wait_for(b"from there")
    ann.say("from here")
    assert b"from here" in ben.wait_for(b"from here")
    ann.expect(PREFIX + b"from here")
    ann.say("once more")
    ann.expect(PREFIX + b"once more")  # and nothing has come back
    ann.send(b"a return at the end\r\r\n" + b"x" * 1012 + b"\r...\r\r\n")
    ann.expect(PREFIX + b"a return at the end\r", PREFIX + b"x" * 1012 + b"\r...\r")
    ben.wait_for(b"...")
    for last in b"not that either", b"nor that":
        ann.say(last.decode())
        ann.expect(PREFIX + last)
        ben.wait_for(last)


# IRC.


class User(Client):
    """Somebody with an IRC client that shows all it gets."""

    def __init__(self, server: Chatsrv, nick: str) -> None:
        super().__init__(server.port)
        server.clients.append(self)
        self.command(f"NICK {nick}", f"USER {nick} 0 * :{nick}")
        self.wait_for(b" 001 ")
        self.wait_for(b" 422 ")

    def command(self, *lines: str) -> None:
        self.send("".join(f"{line}\r\n" for line in lines).encode())

    def line(self) -> bytes:
        line = super().line()
        assert line.endswith(b"\r") and len(line) < 512
        return line[:-1]


def test_irc_as_clients_speak_it(chatsrv: Start) -> None:
    server = gallery(chatsrv, "irc")
    ann, ben = User(server, "ann"), User(server, "ben")
    ann.command("JOIN #tea,#cakes")
    ann.wait_for(b" 366 ann #cakes ")
    ben.command("JOIN #tea")
    assert sorted(ben.wait_for(b" 353 ").rpartition(b":")[2].split()) == [b"ann", b"ben"]
    ann.wait_for(b":ben!ben@127.0.0.1 JOIN #tea")
    ben.command("PRIVMSG #tea :hello, all", "PRIVMSG ann :psst", "NOTICE #tea :noted")
    ann.wait_for(b":ben!ben@127.0.0.1 PRIVMSG #tea :hello, all")
    ann.wait_for(b":ben!ben@127.0.0.1 PRIVMSG ann :psst")
    ann.wait_for(b":ben!ben@127.0.0.1 NOTICE #tea :noted")
    ann.command("PRIVMSG #cakes :is anybody here?", "TOPIC #tea :Earl Grey", "PING :now")
    assert b"TOPIC #tea :Earl Grey" in ben.wait_for(b"TOPIC")
    assert b"PONG" in ann.wait_for(b"PONG")
    ben.command("WHO #tea", "WHOIS ann", "NAMES #tea", "LIST", "MODE #tea", "NONSENSE", "NICK ann")
    for number in b"352", b"315", b"318", b"366", b"323", b"324", b"421", b"433":
        ben.wait_for(b" " + number + b" ")
    ben.command("NICK bert", "PART #tea :bye", "PRIVMSG #tea :still there?")
    ann.wait_for(b":ben!ben@127.0.0.1 NICK ")
    ann.wait_for(b":bert!ben@127.0.0.1 PART #tea")
    ben.wait_for(b" 404 ")
    ben.command("JOIN #tea", "QUIT :gone")
    assert b"QUIT" in ann.wait_for(b"QUIT")


def test_irc_from_the_first_line_to_the_welcome(chatsrv: Start) -> None:
    server = gallery(chatsrv, "irc")
    new, ann = stranger(server), User(server, "ann")
    new.send(b"JOIN #tea\r\nUSER\r\nCAP LS 302\r\nNICK 9\r\nNICK ANN\r\nNICK new\r\nUSER n 0 * :N\r\n\r\nPING :x\r\n")
    for answer in b" 451 ", b" 461 ", b" CAP * LS :", b" 432 ", b" 433 ", b" PONG ":
        new.wait_for(answer)
    new.send(b"CAP REQ :sasl\r\nCAP END\r\nUSER n 0 * :N\r\n")
    for answer in b" CAP new NAK :sasl", b" 001 new ", b" 422 new ", b" 462 new ":
        new.wait_for(answer)
    new.send(b":new LUSERS\nISON ann nobody\nUSERHOST ann\nMODE new\nMODE nobody\nWHOIS nobody\nWHO ann\n")
    for answer in b" 251 new :There are 2 ", b" 303 new :ann\r", b" 302 new :ann=+ann@127.0.0.1\r", b" 221 new :+\r":
        new.wait_for(answer)
    for answer in b" 401 new nobody ", b" 401 new nobody ", b" 352 new * ann 127.0.0.1 ":
        new.wait_for(answer)
    ann.command("QUIT")
    assert ann.everything().endswith(b"ERROR :Closing link (Quit: )\r\n")


def test_irc_says_what_cannot_be_done(chatsrv: Start) -> None:
    ann = User(gallery(chatsrv, "irc"), "ann")
    lines = {
        "JOIN tea": b" 403 ann tea ",
        "PART #tea": b" 403 ann #tea ",
        "TOPIC #tea": b" 403 ann #tea ",
        "PRIVMSG": b" 411 ann ",
        "PRIVMSG ann": b" 412 ann ",
        "PRIVMSG nobody :hello": b" 401 ann nobody ",
        "PRIVMSG #tea :hello": b" 404 ann #tea ",
        "JOIN #mine\r\nTOPIC #mine": b" 331 ann #mine ",
        "MODE #mine +b": b" 368 ann #mine ",
        "MODE #mine +o ann": b" 482 ann #mine ",
        "JOIN " + ",".join(f"#{number}" for number in range(20)): b" 405 ann #19 ",
        "JOIN 0": b" PART #18 ",
        "NICK": b" 461 ann NICK ",
    }
    for line, answer in lines.items():
        ann.command(line)
        ann.wait_for(answer)


def test_the_rest_of_a_line_that_is_too_long_is_no_irc_command(chatsrv: Start) -> None:
    server = gallery(chatsrv, "irc")
    ann, ben = User(server, "ann"), User(server, "ben")
    ann.command(("PRIVMSG ben :" + "x" * 1024)[:1024] + "QUIT" + "x" * 3000)
    ann.wait_for(b" 417 ann ")
    ann.command("PRIVMSG ben :still here", "PING here")
    assert b" PONG " in ann.line(), "that a line is too long is said once"
    assert ben.wait_for(b"PRIVMSG").count(b"x") > 400
    assert ben.line().endswith(b":still here")


def test_a_topic_is_shown_to_those_who_come(chatsrv: Start) -> None:
    server = gallery(chatsrv, "irc")
    ann, ben = User(server, "ann"), User(server, "ben")
    ann.command("JOIN #tea", "TOPIC #tea :Earl Grey", "TOPIC #tea")
    ann.wait_for(b" 332 ann #tea :Earl Grey")
    ben.command("TOPIC #tea", "JOIN #tea")
    ben.wait_for(b" 442 ben #tea ")
    ben.wait_for(b" 332 ben #tea :Earl Grey")
    assert b" 333 ben #tea ann " in ben.wait_for(b" 333 ")
    ann.command("WHOIS ben")
    ann.wait_for(b" 319 ann ben :#tea")


def test_a_connection_that_does_not_say_who_it_is_does_not_stay(chatsrv: Start, tmp_path: Path) -> None:
    hurry = tmp_path / "hurry.py"
    hurry.write_text("import chat.handlers.irc as module\nmodule.PATIENCE = 0.2\nirc = module.irc\n")
    server = chatsrv("--handler", f"{hurry}:irc")
    assert stranger(server).everything() == b"ERROR :No NICK and USER in 0.2 seconds\r\n"


def test_irc_with_irssi(chatsrv: Start, tmp_path: Path) -> None:
    if shutil.which("irssi") is None:
        pytest.skip("irssi is not installed")
    server = gallery(chatsrv, "irc")
    ben = User(server, "ben")
    ben.command("JOIN #tea")
    home = f"irssi --home={tmp_path}/irssi -c {HERE} -p {server.port} -n ann"
    tmux = Tmux(home, columns=100, rows=24)
    try:
        eventually(lambda: any("Welcome to the chat" in row for row in tmux.screen()), "irssi's welcome")
        tmux.write("/join #tea")
        tmux.press("Enter")
        ben.wait_for(b":ann!")
        tmux.write("hello from irssi")
        tmux.press("Enter")
        assert ben.wait_for(b"PRIVMSG #tea").endswith(b":hello from irssi")
        ben.command("PRIVMSG #tea :hello to irssi")
        eventually(lambda: any("hello to irssi" in row for row in tmux.screen()), "ben's line")
    finally:
        tmux.call("kill-server")
    server.finish()


def test_irc_with_weechat(chatsrv: Start, tmp_path: Path) -> None:
    if shutil.which("weechat-headless") is None:
        pytest.skip("weechat-headless is not installed")
    server = gallery(chatsrv, "irc")
    ben = User(server, "ben")
    ben.command("JOIN #tea")
    commands = (
        f"/server add t {HERE}/{server.port} -notls -nicks=wee; /set irc.server.t.tls off; "
        "/set irc.server.t.autojoin #tea; /set logger.file.flush_delay 0; /connect t"
    )
    weechat = subprocess.Popen(["weechat-headless", "--stdout", "-d", tmp_path / "weechat", "-r", commands])
    try:
        ben.wait_for(b":wee!")
        ben.command("PRIVMSG #tea :hello to weechat")
        log = tmp_path / "weechat" / "logs"
        eventually(
            lambda: any("hello to weechat" in path.read_text() for path in log.glob("*tea*")), "weechat's log", 15
        )
    finally:
        weechat.terminate()
        weechat.wait(PATIENCE)
    server.finish()
