"""The client in a real terminal: tmux shows what one would see, a pseudo-terminal every way out."""

from __future__ import annotations

import os
import re
import resource
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

import picture
import pytest
from chatting import HERE, PATIENCE, ROOT, Chatsrv, Client, eventually, free_port, memory
from terminals import CLIENT, Pty, Tmux

WELCOME = ["Welcome to the chat: each line you send goes to everybody he", "re."]  # 60 columns


@pytest.fixture
def other(server: Chatsrv) -> Iterator[Client]:
    """Somebody else in the chat."""
    client = server.client()
    yield client
    client.close()


def command(*arguments: object) -> str:
    return shlex.join([*CLIENT, HERE, *map(str, arguments)])


@pytest.fixture
def tmux(server: Chatsrv) -> Iterator[Tmux]:
    """The client in a window of 60 columns and 12 rows, greeted."""
    with Tmux(command(server.port)) as tmux:
        tmux.wait_for(*WELCOME, ">")
        yield tmux


# What one sees.


def test_hazard_40_messages_do_not_tear_the_line(tmux: Tmux, other: Client) -> None:
    tmux.write("a line that is long enough to need two rows of this screen, 你好")
    tmux.press("Left", "Left", "Left")
    typed = ["> a line that is long enough to need two rows of this screen", ", 你好"]
    tmux.wait_for(*typed)
    other.say(*[f"message {number}" for number in range(3)])
    screen = tmux.wait_for("127.0.0.1: message 2", *typed)
    assert screen == [*WELCOME, *[f"127.0.0.1: message {number}" for number in range(3)], *typed]
    assert tmux.cursor() == (1, 6)
    other.say("a message that does not fit into one row, either, because it has 80 bytes or more")
    tmux.wait_for(
        "127.0.0.1: a message that does not fit into one row, either,", " because it has 80 bytes or more", *typed
    )


def test_hazard_41_ones_own_message_is_shown_once(tmux: Tmux, other: Client) -> None:
    tmux.write("mine")
    tmux.press("Enter")
    other.expect(b"127.0.0.1: mine")
    other.say("theirs")
    assert tmux.wait_for("127.0.0.1: theirs", ">") == [*WELCOME, "127.0.0.1: mine", "127.0.0.1: theirs", ">"]


def test_the_keys_of_a_real_terminal(tmux: Tmux) -> None:
    tmux.write("one two three")
    tmux.press("Home", "C-Right", "X", "End", "M-b", "Y", "C-a", "Right", "DC", "C-e", "BSpace")
    tmux.wait_for("> oeX two Ythre")
    tmux.press("C-w", "C-Left", "M-d", "C-b", "C-t", "C-y")
    tmux.wait_for("> oe Xtwo")
    tmux.press("C-u", "z", "Enter")
    tmux.wait_for("127.0.0.1: z", ">")
    tmux.press("h", "Up", "Down", "C-p", "C-n", "i", "C-r", "z")
    tmux.wait_for("(search: z) z")
    tmux.press("C-g")
    tmux.wait_for("> hi")


def test_hazard_44_characters_not_bytes(tmux: Tmux) -> None:
    tmux.write("a你e\u0301ö")
    tmux.wait_for("> a你e\u0301ö")
    assert tmux.cursor()[0] == 2 + 1 + 2 + 1 + 1
    tmux.press("BSpace", "Left", "X")
    tmux.wait_for("> a你Xe\u0301")
    tmux.press("Right", "BSpace", "BSpace", "BSpace")
    tmux.wait_for("> a")
    tmux.press("C-u")
    tmux.write("x" * 57 + "你é")  # one column is left in the row
    tmux.wait_for("> " + "x" * 57, "你é")
    assert tmux.cursor()[0] == 3


def test_what_is_pasted_waits_for_enter(tmux: Tmux, other: Client) -> None:
    tmux.call("set-buffer", "one\n\ntwo\tx\n")
    tmux.call("paste-buffer", "-p", "-r")
    tmux.wait_for("[3 lines] > one", "", "two     x")
    tmux.press("Enter")
    tmux.wait_for("127.0.0.1: two  x", ">")
    tmux.press("!", "Enter")
    other.expect(b"127.0.0.1: one", b"127.0.0.1: ", b"127.0.0.1: two\tx", b"127.0.0.1: !")


def test_the_prompt_counts_before_the_server_splits(tmux: Tmux) -> None:
    tmux.write("x" * 1000)  # more than this screen has room for: the prompt stays above what is seen of it
    eventually(lambda: tmux.screen()[0] == "[1000/1024] >")
    tmux.write("y" * 30)
    eventually(lambda: tmux.screen()[0] == "[1030/1024: 2 messages] >")
    assert tmux.screen()[-1].endswith("yyy")


def test_hazard_45_escapes_from_the_net_are_shown(tmux: Tmux, other: Client) -> None:
    other.send(b"\x1b[2J\x1b]0;title\x07 \xc2\x9b31m \xe2\x80\xaetxet\ttab \xff\r\n")
    tmux.wait_for(r"127.0.0.1: \x1b[2J\x1b]0;title\x07 \x9b31m \u202etxet   tab", r"\xff", ">")


def test_senders_have_a_colour_and_ones_own_messages_are_bold(tmux: Tmux, other: Client) -> None:
    other.say("theirs")
    tmux.wait_for("127.0.0.1: theirs", ">")
    tmux.press("m", "i", "n", "e", "Enter")
    tmux.wait_for("127.0.0.1: mine", ">")
    shown = tmux.history()
    theirs = re.search(r"\x1b\[(\d+)m127\.0\.0\.1\x1b\[39m: theirs", shown)
    mine = re.search(r"\x1b\[1m\x1b\[(\d+)m127\.0\.0\.1\x1b\[39m: mine", shown)
    assert theirs and mine and theirs.group(1) == mine.group(1), shown


def test_no_color_is_obeyed_and_timestamps_are_local_time(server: Chatsrv, other: Client) -> None:
    with Tmux(command(server.port, "--timestamps"), columns=80, NO_COLOR="1", TZ="XYZ-5:30") as tmux:
        tmux.wait_for(">")
        eventually(lambda: "Welcome" in tmux.screen()[0])
        other.say("hi")
        eventually(lambda: "hi" in tmux.history())
        shown = tmux.history()
        assert "\x1b" not in shown
        minute = int(time.time() // 60) + 330
        assert any(f"{now // 60 % 24:02d}:{now % 60:02d} 127.0.0.1: hi" in shown for now in (minute, minute - 1))


def test_a_dumb_terminal_gets_plain_text(server: Chatsrv) -> None:
    with Pty([*CLIENT, HERE, str(server.port)], TERM="dumb") as pty:
        pty.wait_for("here.")
        pty.press("hi\n")
        pty.wait_for("127.0.0.1: hi")
        pty.press("\x04")
        assert pty.exit_status() == 0
        assert b"\x1b" not in pty.output


def test_a_new_size_shows_the_line_whole(tmux: Tmux, other: Client) -> None:
    other.say("a message that will need more rows on a narrow screen")
    tmux.wait_for("127.0.0.1: a message that will need more rows on a narrow sc", "reen", ">")
    tmux.write("and a line that is so long that it does, as well: 你好.")
    tmux.resize(25, 10)
    narrow = ["> and a line that is so l", "ong that it does, as well", ": 你好."]
    tmux.wait_for("127.0.0.1: a message that", " will need more rows on a", " narrow screen", *narrow)
    assert tmux.cursor()[0] == 7
    tmux.resize(80, 5)
    wide = ["127.0.0.1: a message that will need more rows on a narrow screen",
            "> and a line that is so long that it does, as well: 你好."]  # fmt: skip
    tmux.wait_for(*wide)
    tmux.resize(60, 12)
    tmux.wait_for("> and a line that is so long that it does, as well: 你好.")
    assert "\n".join(tmux.screen()).count("and a line") == 1


def test_scrollback_keeps_the_conversation(tmux: Tmux, other: Client) -> None:
    other.say(*[f"message {number}." for number in range(100)])
    tmux.wait_for("127.0.0.1: message 99.", ">")
    shown = tmux.history()
    assert [shown.count(f"message {number}.") for number in range(100)] == [1] * 100


def test_control_l_repairs_the_screen(tmux: Tmux, other: Client) -> None:
    other.say("one")
    tmux.write("typed")
    tmux.wait_for("127.0.0.1: one", "> typed")
    terminal = tmux.call("display-message", "-p", "#{pane_tty}").strip()
    with open(terminal, "wb") as screen:
        screen.write(b"\x1b[2;5H garbage \r\n garbage")
    eventually(lambda: "garbage" in "".join(tmux.screen()))
    tmux.press("C-l")
    eventually(lambda: tmux.screen() == [*WELCOME, "127.0.0.1: one", "> typed"])


def test_suspended_and_continued(server: Chatsrv, other: Client) -> None:
    with Tmux("env 'PS1=$ ' bash --norc", columns=70) as tmux:
        tmux.wait_for("$")
        tmux.write(f"stty -g > {os.devnull}; {command(server.port)}")
        tmux.press("Enter")
        eventually(lambda: tmux.screen()[-1] == ">")
        tmux.write("half a line")
        tmux.wait_for("> half a line")
        tmux.press("C-z")
        eventually(lambda: tmux.screen()[-1] == "$" and "Stopped" in "".join(tmux.screen()))
        assert "half a line" not in "\n".join(tmux.screen())
        tmux.write("stty -a | grep -ow -e -icanon -e icanon -e -echo -e echo")
        tmux.press("Enter")
        tmux.wait_for("icanon", "echo", "$")
        other.say("while you were out")
        tmux.press("f", "g", "Enter")
        tmux.wait_for("127.0.0.1: while you were out", "> half a line")
        assert "icanon" in tmux.screen()  # what was written meanwhile stays
        tmux.write(".")
        tmux.wait_for("127.0.0.1: while you were out", "> half a line.")
        tmux.press("C-c")
        tmux.wait_for("> half a line.", "$")
        tmux.write("echo status $?")
        tmux.press("Enter")
        tmux.wait_for("status 130", "$")


def test_reconnecting_keeps_the_line(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv()
    with Tmux(command(server.port, "--reconnect"), columns=80) as tmux:
        eventually(lambda: tmux.screen()[-1] == ">")
        tmux.write("typed")
        tmux.wait_for("> typed")
        server.end()
        lost = "* the server has closed the connection; trying again"
        tmux.wait_for(lost, "[again in 1 s] > typed")
        tmux.press("Enter")
        eventually(lambda: re.match(r"\[again in \d s\] > typed$", tmux.screen()[-1]))
        assert tmux.screen()[-2] == lost
        server.finish()
        chatsrv(port=server.port)
        eventually(lambda: "* connected again" in tmux.screen())
        tmux.wait_for("Welcome to the chat: each line you send goes to everybody here.", "> typed")
        tmux.press("Enter")
        tmux.wait_for("127.0.0.1: typed", ">")


def test_the_pauses_grow_and_enter_ends_each() -> None:
    with Pty([*CLIENT, HERE, str(free_port()), "--reconnect"]) as pty:
        place = 0
        for seconds in 1, 2, 4, 8, 16, 30, 30:
            place = pty.wait_for(f"[again in {seconds} s] > ", since=place)
            pty.press("x\r")
        pty.wait_for("> " + "x" * 7, since=place)
        assert pty.output.count(b"refused; trying again") == 1
        pty.press("\x04\x15\x04")
        assert pty.exit_status() == 0


def test_the_pauses_grow_for_a_server_that_only_accepts() -> None:
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(PATIENCE)
        with Pty([*CLIENT, HERE, str(listener.getsockname()[1]), "--reconnect"]) as pty:
            place = 0
            for seconds in 1, 2, 4:
                listener.accept()[0].close()
                place = pty.wait_for(f"[again in {seconds} s] > ", since=place)
                pty.press("\r")


def test_a_flood_leaves_the_keyboard_alive(server: Chatsrv, other: Client) -> None:
    """10,000 lines: the screen is painted once for many of them, and what is typed meanwhile is there."""
    count = 10_000
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        other.say(*[f"line {number} of a flood" for number in range(count // 2)])
        pty.press("typed")
        pty.wait_for("> typed")
        other.say(*[f"line {number} of a flood" for number in range(count // 2, count)])
        pty.wait_for(f"line {count - 1} of")
        eventually(lambda: pty.read() or pty.output.endswith(b"> typed\r\x1b[7C"))
        assert pty.output.count(b" of a flood") == count
        assert pty.output.count(b"\x1b[J") < count / 20
        pty.press("\x03")
        assert pty.exit_status() == 130
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 1.0


def test_who_does_not_look_costs_bounded_memory(server: Chatsrv, other: Client) -> None:
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("memory is read from /proc")
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        before = memory(pty.process.pid)
        for _ in range(12):  # megabytes; nobody reads what the client writes
            other.say(*[b"x" * 1000] * 1000)
            for _ in range(1000):
                other.line()
        assert memory(pty.process.pid) - before < 5 << 20
        pty.process.send_signal(signal.SIGTERM)
        assert pty.process.wait(PATIENCE) == 128 + signal.SIGTERM  # although the terminal takes nothing


# Every way out leaves the terminal as it was.


@pytest.fixture
def pty(server: Chatsrv) -> Iterator[Pty]:
    """The client, greeted, with a line half typed."""
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        assert not pty.restored()
        yield pty


def test_hazard_43_control_c(pty: Pty) -> None:
    pty.press("half a line\x03")
    assert pty.exit_status() == 130
    assert pty.restored()


def test_hazard_43_control_d(pty: Pty) -> None:
    pty.press("all of a line\r\x04")
    assert pty.exit_status() == 0
    assert pty.restored()
    assert b"127.0.0.1\x1b[39m: all of a line" in pty.output  # sent, and heard, before it left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_hazard_43_signals(pty: Pty, number: signal.Signals) -> None:
    pty.press("half")
    pty.wait_for("> half")
    pty.process.send_signal(number)
    assert pty.exit_status() == 128 + number
    assert pty.restored()
    assert pty.output.endswith(b"> half\r\x1b[6C\r\r\n\x1b[?2004l") or pty.output.endswith(b"\n\x1b[?2004l")


def test_hazard_43_the_end_of_the_server(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv()
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        server.end()
        assert pty.exit_status() == 1
        assert pty.restored()
        assert pty.output.endswith(b"\r\x1b[J\x1b[?2004lchatclient: the server has closed the connection\r\n")


def test_hazard_43_an_exception(server: Chatsrv) -> None:
    program = "import sys; from chat.client import client, main; client.Client.say = 1; main.main()"
    with Pty([sys.executable, "-c", program, HERE, str(server.port)], PYTHONPATH=str(ROOT)) as pty:
        pty.wait_for("here.")
        pty.press("hi\r")
        assert pty.exit_status() == 1
        assert pty.restored()
        assert pty.output.index(b"\x1b[?2004l") < pty.output.index(b"Traceback")
        assert b"TypeError" in pty.output


def test_hazard_43_refused() -> None:
    with Pty([*CLIENT, HERE, str(free_port())]) as pty:
        assert pty.exit_status() == 1
        assert pty.restored()
        assert pty.output.endswith(b": connection refused\r\n")
        assert pty.output.count(b"\n") == 1


def test_hazard_43_stopped_and_continued_from_outside(pty: Pty) -> None:
    pty.press("half")
    pty.wait_for("> half")
    pty.process.send_signal(signal.SIGSTOP)
    before = len(pty.output)
    pty.set_mode(pty.before)  # as a shell does, which also writes on the screen
    pty.process.send_signal(signal.SIGCONT)
    pty.wait_for("here.\r\r\n> half", since=before)
    eventually(lambda: not pty.restored())
    pty.press(" a line\x03")
    assert pty.exit_status() == 130
    pty.wait_for("> half a line", since=before)


def test_the_terminal_goes_away(server: Chatsrv) -> None:
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        pty.hang_up()
        assert pty.process.wait(PATIENCE) == 128 + signal.SIGHUP


def test_the_picture_in_the_readme_is_made_from_a_real_run() -> None:
    rows, cursor = picture.session()
    drawing = ElementTree.fromstring(picture.drawn(rows, cursor))
    words = [text.text for text in drawing if text.text]
    assert " ".join(words).endswith(
        "> The line one types stays where it is, on as many rows as it needs, whi le the others"
    )
    assert "carla" in words and "\\x1b[2J?" in words
