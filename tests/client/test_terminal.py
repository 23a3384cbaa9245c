"""The client in a real terminal: tmux shows what one would see, a pseudo-terminal every way out."""

from __future__ import annotations

import os
import re
import resource
import select
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chatting import HERE, PATIENCE, ROOT, Chatsrv, Client, eventually, free_port, memory
from forked import CLIENT
from more import every
from terminals import Pty, Tmux

WELCOME = ["Welcome to the chat: each line you send goes to everybody", "  here."]  # 60 columns


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


def test_hazard_38_messages_do_not_tear_the_line(tmux: Tmux, other: Client) -> None:
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
        "127.0.0.1: a message that does not fit into one row, either,", "  because it has 80 bytes or more", *typed
    )


def test_hazard_39_ones_own_message_is_shown_once(tmux: Tmux, other: Client) -> None:
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


def test_hazard_42_characters_not_bytes(tmux: Tmux) -> None:
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


FAMILY = "👨\u200d👩\u200d👧"


@pytest.mark.parametrize(
    "char",
    every(3, ["\ud7b0", "\u3248", "\u4dc0", "\u0600", "का", "☰", FAMILY, "❤\ufe0f", "1\ufe0f\u20e3", "👍🏽", "🇩🇪"]),
)
def test_hazard_42_the_cursor_stands_behind_what_was_typed(tmux: Tmux, char: str) -> None:
    """However wide this terminal thinks that it is."""
    for typed in f"你{char}", f"你{char}{char}":
        tmux.write(f"{typed}|")
        eventually(lambda: tmux.screen()[-1].endswith("|"))
        assert tmux.cursor()[0] == tmux.column_of("|") + 1
        tmux.press("C-u")
        tmux.wait_for(">")


def test_hazard_42_a_joined_emoji_is_one_character(tmux: Tmux) -> None:
    tmux.write(f"a{FAMILY}b")
    tmux.press("Left", "Left", "X", "Right", "Y")
    eventually(lambda: tmux.screen()[-1] == f"> aX{FAMILY}Yb")
    tmux.press("Left", "BSpace", "End")
    tmux.wait_for("> aXYb")
    assert tmux.cursor()[0] == 6


def test_hazard_42_emoji_to_the_edge_do_not_break_the_rows(tmux: Tmux, other: Client) -> None:
    typed = "x" * 55 + FAMILY + "👍🏽" * 40 + "end"
    tmux.write(typed)
    eventually(lambda: tmux.screen()[-1].endswith("end"))
    other.say("one", "👍🏽❤\ufe0f" * 60 + "end")
    eventually(lambda: sum(row.endswith("end") for row in tmux.screen()) == 2)
    assert sum(row.startswith("> x") for row in tmux.screen()) == 1
    assert sum(row.startswith("127.0.0.1: one") for row in tmux.screen()) == 1
    tmux.press("C-u")
    eventually(lambda: tmux.screen()[-1] == ">" and tmux.screen()[-2].endswith("end"))


def test_what_is_pasted_waits_for_enter(tmux: Tmux, other: Client) -> None:
    tmux.call("set-buffer", "one\n\ntwo\tx\n")
    tmux.call("paste-buffer", "-p", "-r")
    tmux.wait_for("[3 lines] > one", "", "two     x")
    tmux.press("Enter")
    tmux.wait_for("127.0.0.1: two  x", ">")
    tmux.press("!", "Enter")
    other.expect(b"127.0.0.1: one", b"127.0.0.1: ", b"127.0.0.1: two\tx", b"127.0.0.1: !")


@pytest.mark.parametrize("split", every(3, range(3, 12)))
def test_a_paste_may_pause_anywhere(pty: Pty, split: int) -> None:
    keys = "\x1b[200~one\rtwo \x1b[201~"
    pty.press(keys[:split])
    time.sleep(0.3)  # far longer than after which Esc is a key
    pty.press(keys[split:])
    pty.wait_for("[2 lines] > one\r\r\ntwo ")
    assert b"m: one" not in pty.output


def test_a_paste_whose_end_does_not_come_does_not_lock_the_keyboard(pty: Pty) -> None:
    pty.press("\x1b[200~one\rtwo")
    pty.wait_for("[pasting, Ctrl-G ends it] > ")
    pty.press("\x07")
    place = pty.wait_for("[2 lines] > one\r\r\ntwo")
    pty.press("\r")
    place = pty.wait_for("127.0.0.1\x1b[39m: two", since=place)
    pty.press("\x1b[200~")
    pty.wait_for("[pasting, Ctrl-G ends it] > ", since=place)
    pty.press("\x03")
    assert pty.exit_status() == 130
    assert pty.restored()


@pytest.mark.parametrize(
    "keys",
    every(3, ["\x1b[[A", "\x1bO2P", "\x1bu", "\x1b[3$", "\x1b[15;2~", "\x1b[<0;3;3M", "\x1b]11;rgb:0/0/0\x1b\\"]),
)
def test_unknown_keys_type_nothing_and_lose_nothing(pty: Pty, keys: str) -> None:
    pty.press(f"<{keys}>\x1bOM")
    pty.wait_for("127.0.0.1\x1b[39m: <>\x1b[m\r")


def test_alt_and_a_letter_in_a_real_terminal(tmux: Tmux) -> None:
    tmux.press("a", "M-u", "M-x", "F1", "F5", "S-Up", "C-F2", "PPage", "b", "IC", "c")
    tmux.wait_for("> abc")


def test_tab_completes_names_that_have_spoken(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv("--handler", "chat.handlers.nick:nick")
    with Tmux(command(server.port, "--bell")) as tmux:
        eventually(lambda: tmux.screen()[-1] == ">" and len(tmux.screen()) > 2)
        for name in "anna", "andy":
            client = server.client()
            client.say(f"/nick {name}", "hi")
            eventually(lambda name=name: f"{name}: hi" in tmux.screen())  # type: ignore[misc]
        tmux.press("a", "Tab")
        tmux.wait_for("> andy:")
        tmux.press("Tab", "x")
        tmux.wait_for("> anna: x")


def test_a_line_that_names_me_is_marked_and_rings(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv("--handler", "chat.handlers.nick:nick")
    with Pty([*CLIENT, HERE, str(server.port), "--bell"]) as pty:
        pty.wait_for("is here")
        pty.press("/nick carla\r")
        pty.wait_for("is now carla")
        other = server.client()
        other.say("nobody", "Carla, come!", "hi carla")
        place = pty.wait_for("\x1b[7mCarla\x1b[27m, come!")
        pty.wait_for("hi \x1b[7mcarla\x1b[27m", since=place)
        assert 1 <= pty.output.count(b"\a") <= 2
        pty.press("\x03")
        assert pty.exit_status() == 130


def test_the_prompt_counts_before_the_server_splits(tmux: Tmux) -> None:
    tmux.write("x" * 1000)  # more than this screen has room for: the prompt stays above what is seen of it
    eventually(lambda: tmux.screen()[0] == "[1000/1024] >")
    tmux.write("y" * 30)
    eventually(lambda: tmux.screen()[0] == "[1030/1024: 2 messages] >")
    assert tmux.screen()[-1].endswith("yyy")


def test_hazard_43_escapes_from_the_net_are_shown(tmux: Tmux, other: Client) -> None:
    other.send(b"\x1b[2J\x1b]0;title\x07 \xc2\x9b31m \xe2\x80\xaetxet\ttab \xff\r\n")
    tmux.wait_for(r"127.0.0.1: \x1b[2J\x1b]0;title\x07 \x9b31m \u202etxet   tab", r"  \xff", ">")


def test_what_does_not_fit_cannot_be_taken_for_another_message(tmux: Tmux, other: Client) -> None:
    other.say("." + " " * 69 + "127.0.0.7: no, never mind")
    tmux.wait_for("127.0.0.1: .", "  127.0.0.7: no, never mind", ">")
    other.say(".".ljust(49, "x") + "127.0.0.7: no")  # one word, which ends where a row does
    tmux.wait_for("127.0.0.1: ." + "x" * 48, "  127.0.0.7: no", ">")


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
    tmux.wait_for("127.0.0.1: a message that will need more rows on a narrow", "  screen", ">")
    tmux.write("and a line that is so long that it does, as well: 你好.")
    tmux.resize(25, 10)
    narrow = ["> and a line that is so l", "ong that it does, as well", ": 你好."]
    tmux.wait_for("127.0.0.1: a message that", "  will need more rows on", "  a narrow screen", *narrow)
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


@pytest.mark.parametrize(("columns", "rows", "text"), [(80, 24, "line\n" * 60), (40, 12, "x" * 500), (60, 12, "")])
def test_scrollback_keeps_the_conversation_only(server: Chatsrv, columns: int, rows: int, text: str) -> None:
    """Not copies of the line being typed, be it as large as the window or the only thing there."""
    with Tmux(command(server.port), columns, rows) as tmux:
        eventually(lambda: any(row.endswith("here.") for row in tmux.screen()) and tmux.screen()[-1] == ">")
        if text:
            tmux.call("set-buffer", text)
            tmux.call("paste-buffer", "-p", "-r")
        for key in "abcdefghij":
            tmux.press(key)
        eventually(lambda: tmux.screen()[-1].endswith("abcdefghij"))
        shown = tmux.history().rstrip("\n").split("\n")
        assert len(shown) <= rows + 2, "\n".join(shown)
        other = server.client()
        other.say("one", "two")
        eventually(lambda: "two" in tmux.history())
        tmux.press("C-u", "z")
        tmux.wait_for("> z")
        assert [len(re.findall(rf"\b{word}\b", tmux.history())) for word in ("Welcome", "one", "two")] == [1, 1, 1]


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


def test_suspended_by_another_process(server: Chatsrv, tmp_path: Path) -> None:
    with Tmux("env 'PS1=$ ' bash --norc", columns=70) as tmux:
        tmux.wait_for("$")
        tmux.write(f"sh -c 'echo $$ > {tmp_path}/pid; exec {command(server.port)}'")
        tmux.press("Enter")
        eventually(lambda: tmux.screen()[-1] == ">")
        tmux.write("half a line")
        tmux.wait_for("> half a line")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTSTP)
        eventually(lambda: tmux.screen()[-1] == "$" and "Stopped" in "".join(tmux.screen()))
        assert "half a line" not in "\n".join(tmux.screen())
        tmux.press("f", "g", "Enter")
        eventually(lambda: tmux.screen()[-1] == "> half a line")


def test_control_z_does_nothing_where_nobody_could_continue_us(server: Chatsrv) -> None:
    trap = ["bash", "-c", 'trap "" TSTP; exec "$@"', "bash"]
    with Tmux(f"{shlex.join(trap)} {command(server.port)}") as tmux:
        eventually(lambda: tmux.screen()[-1] == ">")
        tmux.write("half")
        tmux.press("C-z")
        tmux.write(" a line")
        eventually(lambda: tmux.screen()[-1] == "> half a line")


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


def crowd_of_megabytes(other: Client, megabytes: int) -> None:
    """Say so much, in lines of 1000 bytes."""
    for _ in range(megabytes):
        other.say(*[b"x" * 1000] * 1000)
        for _ in range(1000):
            other.line()


def test_a_terminal_that_is_not_read_costs_bounded_memory(server: Chatsrv, other: Client) -> None:
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("memory is read from /proc")
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        before = memory(pty.process.pid)
        crowd_of_megabytes(other, 12)  # nobody reads what the client writes
        assert memory(pty.process.pid) - before < 5 << 20
        pty.process.send_signal(signal.SIGTERM)
        assert pty.process.wait(PATIENCE) == 128 + signal.SIGTERM  # although the terminal takes nothing


def test_long_lines_for_a_terminal_that_is_not_read_cost_bounded_memory() -> None:
    """Lines as long as they can be, each byte of which is shown as an escape."""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("memory is read from /proc")
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(PATIENCE)
        with Pty([*CLIENT, HERE, str(listener.getsockname()[1])]) as pty:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(1)
                peer.sendall(b"Welcome\n")
                pty.wait_for("Welcome")
                before = memory(pty.process.pid)
                with pytest.raises(TimeoutError):
                    for _ in range(1000):
                        peer.sendall((b"\x1b" * 60_000 + b"\n") * 16)
                assert memory(pty.process.pid) - before < 16 << 20
                pty.press("\x03")
                assert pty.process.wait(PATIENCE) == 130


def test_control_c_does_not_wait_until_all_is_shown(server: Chatsrv, other: Client) -> None:
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        crowd_of_megabytes(other, 2)  # nobody reads what the client writes
        pty.press("\x03")
        place = len(pty.output)
        assert pty.exit_status() == 130
        assert len(pty.output) - place < 100_000  # what had been written, and what was being written
        assert pty.restored()


def test_a_slow_terminal_is_given_back_in_its_mode() -> None:
    """It has not taken all of the conversation when the client ends. But it does take something."""
    with socket.create_server((HERE, 0)) as listener, Pty([*CLIENT, HERE, str(listener.getsockname()[1])]) as pty:
        listener.settimeout(PATIENCE)
        peer, _ = listener.accept()
        with peer:
            pty.wait_for(">")
            peer.sendall("ann: é".encode() * 2000 * 20 + b"\n")
            peer.sendall(b"\xc3\xa9\n" * 20000)
            time.sleep(0.3)
            pty.process.send_signal(signal.SIGTERM)
            while pty.process.poll() is None:
                if select.select([pty.master], [], [], 0)[0]:
                    pty.output += os.read(pty.master, 4000)
                time.sleep(0.02)
            pty.read()
        assert pty.process.returncode == 128 + signal.SIGTERM
        assert pty.restored()
        assert pty.output.count(b"\x1b[?7l") <= pty.output.count(b"\x1b[?7h")


@pytest.mark.parametrize("unit", every(4, ["line\r", "x", "👍", "你"]))
def test_a_megabyte_can_be_pasted_and_edited(server: Chatsrv, unit: str) -> None:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = unit * ((1 << 20) // len(unit.encode()))
    with Pty([*CLIENT, HERE, str(server.port)], columns=80, rows=24) as pty:
        pty.wait_for("here.")
        pty.feed(f"\x1b[200~{text}\x1b[201~".encode())
        pty.wait_for("messages" if unit != "line\r" else f"[{text.count(unit)} lines]")
        place = len(pty.output)
        for key in "abcdefghij":
            pty.press(key)
            place = pty.wait_for(key, since=place)
        pty.press("\x03")
        assert pty.exit_status() == 130
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 6.0  # most of it for the emoji, once


# Every way out leaves the terminal as it was.


@pytest.fixture
def pty(server: Chatsrv) -> Iterator[Pty]:
    """The client, greeted, with a line half typed."""
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        assert not pty.restored()
        yield pty


def test_hazard_41_control_c(pty: Pty) -> None:
    pty.press("half a line\x03")
    assert pty.exit_status() == 130
    assert pty.restored()


def test_hazard_41_control_d(pty: Pty) -> None:
    pty.press("all of a line\r\x04")
    assert pty.exit_status() == 0
    assert pty.restored()
    assert b"127.0.0.1\x1b[39m: all of a line" in pty.output  # sent, and heard, before it left


@pytest.mark.parametrize(
    "number",
    every(
        2,
        [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM, signal.SIGXCPU],
    ),
)
def test_hazard_41_signals(pty: Pty, number: signal.Signals) -> None:
    pty.press("half")
    pty.wait_for("> half")
    pty.process.send_signal(number)
    assert pty.exit_status() == 128 + number
    assert pty.restored()
    assert pty.output.endswith(b"> half\r\x1b[6C\r\r\n\x1b[?2004l") or pty.output.endswith(b"\n\x1b[?2004l")


def test_hazard_41_the_end_of_the_server(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv()
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        server.end()
        assert pty.exit_status() == 1
        assert pty.restored()
        assert pty.output.endswith(b"\r\x1b[K\x1b[?2004lchatclient: the server has closed the connection\r\n")


@pytest.mark.parametrize("broken", ["editor.Editor.press", "screen.Screen.bottom", "conversation.Conversation.say"])
def test_hazard_41_an_exception(server: Chatsrv, broken: str) -> None:
    program = f"from chat.client import {broken.split('.')[0]}, main; {broken} = 1; main.main()"
    with Pty([sys.executable, "-c", program, HERE, str(server.port)], PYTHONPATH=str(ROOT)) as pty:
        pty.wait_for("\x1b[?2004h")
        pty.press("hi\r")
        assert pty.exit_status() == 1
        assert pty.restored()
        assert pty.output.index(b"\x1b[?2004l") < pty.output.index(b"Traceback")
        assert b"TypeError" in pty.output


def test_hazard_41_refused() -> None:
    with Pty([*CLIENT, HERE, str(free_port())]) as pty:
        assert pty.exit_status() == 1
        assert pty.restored()
        assert pty.output.endswith(b": connection refused\r\n")
        assert pty.output.count(b"\n") == 1


def test_hazard_41_stopped_and_continued_from_outside(pty: Pty) -> None:
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


def test_control_d_and_a_server_that_does_not_answer_is_no_success(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv()
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        server.process.send_signal(signal.SIGSTOP)
        pty.press("hi\r\x04")
        pty.wait_for("[leaving] > ")
        assert pty.exit_status() == 1
        assert pty.restored()
        assert pty.output.endswith(b"\x1b[?2004lchatclient: the server may not have got everything\r\n")
        server.process.send_signal(signal.SIGCONT)


def test_control_d_and_a_server_that_is_killed_is_no_success(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv()
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        server.process.send_signal(signal.SIGSTOP)
        pty.press("hi\r\x04")
        pty.wait_for("[leaving] > ")
        server.end(signal.SIGKILL)
        assert pty.exit_status() == 1
        server.finish(status=-signal.SIGKILL)


def test_while_leaving_control_c_and_another_control_d_are_immediate(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv()
    for key, status in ("\x03", 130), ("\x04", 1):
        with Pty([*CLIENT, HERE, str(server.port)]) as pty:
            pty.wait_for("here.")
            server.process.send_signal(signal.SIGSTOP)
            pty.press("hi\r\x04")
            pty.wait_for("[leaving] > ")
            pty.press(key)
            assert pty.exit_status() == status
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("flags", [[], ["--reconnect"]])
def test_to_quit_is_an_orderly_end(chatsrv: Callable[..., Chatsrv], flags: list[str]) -> None:
    server = chatsrv("--handler", "chat.handlers.nick:nick")
    with Pty([*CLIENT, HERE, str(server.port), *flags]) as pty:
        pty.wait_for("is here")
        pty.press("hi\r/quit\r")
        assert pty.exit_status() == 0
        assert pty.restored()
        assert b"chatclient" not in pty.output


def test_a_question_is_seen_before_its_line_ends() -> None:
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(PATIENCE)
        with Tmux(command(listener.getsockname()[1])) as tmux:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"Hello!\r\nlogin: ")
                tmux.wait_for("Hello!", "login:", ">")
                tmux.write("an")
                tmux.wait_for("Hello!", "login:", "> an")
                peer.sendall(b"(your name) ")
                tmux.wait_for("Hello!", "login: (your name)", "> an")
                tmux.press("n", "Enter")
                assert peer.recv(100) == b"ann\n"
                peer.sendall(b"ann\npassword: ")
                tmux.wait_for("Hello!", "login: (your name) ann", "password:", ">")
                peer.sendall(b"x" * 70 + b"\ny")
                tmux.wait_for("password: " + "x" * 50, "  " + "x" * 20, "y", ">")


@pytest.mark.parametrize("number", every(2, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
def test_a_signal_that_was_ignored_stays_ignored(server: Chatsrv, number: signal.Signals) -> None:
    shell = ["sh", "-c", f'trap "" {number.name[3:]}; exec "$@"', "sh"]
    with Pty([*shell, *CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        pty.process.send_signal(number)
        pty.press("still here\r")
        pty.wait_for("127.0.0.1\x1b[39m: still here")
        pty.press("\x03")
        assert pty.exit_status() == 130


def test_many_inherited_descriptors(server: Chatsrv) -> None:
    """More than select takes."""
    program = """
import os, resource, sys

resource.setrlimit(resource.RLIMIT_NOFILE, (2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for _ in range(1100):
    os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
os.execv(sys.argv[1], sys.argv[1:])
"""
    if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000:
        pytest.skip("so many descriptors are not allowed here")
    with Pty([sys.executable, "-c", program, *CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        pty.press("hi\r")
        pty.wait_for("127.0.0.1\x1b[39m: hi")
        pty.press("\x04")
        assert pty.exit_status() == 0
        assert pty.restored()


@pytest.mark.parametrize("descriptors", every(3, range(5, 12)))
def test_few_descriptors_are_enough_or_one_line_says_so(server: Chatsrv, descriptors: int) -> None:
    with Pty(["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *CLIENT, HERE, str(server.port)]) as pty:
        eventually(lambda: (pty.read() and b"here." in pty.output) or pty.process.poll() is not None)
        pty.press("\x04")
        status = pty.exit_status()
        assert pty.restored()
        assert status == 0 or (status == 1 and b"too many open files\r\n" in pty.output)
        assert b"Traceback" not in pty.output


def test_nothing_is_left_open(server: Chatsrv) -> None:
    """What Python complains about in its development mode."""
    for keys, status in ("\x04", 0), ("\x03", 130):
        with Pty([sys.executable, "-X", "dev", *CLIENT[1:], HERE, str(server.port)]) as pty:
            pty.wait_for("here.")
            pty.press(keys)
            assert pty.exit_status() == status
            assert b"Warning" not in pty.output


def test_the_terminal_goes_away(server: Chatsrv) -> None:
    with Pty([*CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        pty.hang_up()
        assert pty.process.wait(PATIENCE) == 128 + signal.SIGHUP
