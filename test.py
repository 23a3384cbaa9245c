#!/usr/bin/env python3
"""Tries the server from outside: `python test.py` runs all tests, `python test.py Test3` one group.

Each test starts the real server as a process, reads its log through a pipe and talks to it over real sockets. Nothing
but Python's standard library is needed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path

IP = "127.0.0.1"
PORT = 0  # 0 lets each server take a free one; the default is 3100
COMMAND = [sys.executable, str(Path(__file__).resolve().parent / "chatsrv")]  # on the Python that runs the tests
if "CHATSRV" in os.environ:
    COMMAND = [os.environ["CHATSRV"]]  # one that is installed, or has been made one file

PATIENCE = 20.0  # seconds for what must happen; on a fast machine it happens at once


class Log:
    """The server's stdout, read as it comes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.fd = process.stdout.fileno()
        self.text = b""

    def wait_for(self, what: bytes, times: int = 1) -> None:
        """Read until `what` has been logged so often."""
        end = time.monotonic() + PATIENCE
        while self.text.count(what) < times:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            data = os.read(self.fd, 65536) if ready else b""
            if not data:
                raise AssertionError(f"{what!r} was logged {self.text.count(what)} times, not {times}: {self.text!r}")
            self.text += data


class Client:
    """A client over a real socket; every call gives up after PATIENCE seconds."""

    def __init__(self, port: int, ip: str = IP) -> None:
        self.socket = socket.create_connection((ip, port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        """The next line, with its end; b"" if the server has closed."""
        return self.file.readline()

    def rest(self) -> bytes:
        """All until the server closes."""
        return self.file.read()

    def leave(self) -> bytes:
        """End the stream, and return what still comes. (Closing with something unread would be a reset.)"""
        self.socket.shutdown(socket.SHUT_WR)
        return self.rest()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def reset(self) -> None:
        """Go without a goodbye: the server's side gets RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()


class ChatTest(unittest.TestCase):
    FLAGS: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.process, self.log, self.port = self.start(PORT)

    def start(self, port: int) -> tuple[subprocess.Popen[bytes], Log, int]:
        process = subprocess.Popen([*COMMAND, "--port", str(port), *self.FLAGS], stdout=subprocess.PIPE)
        self.addCleanup(self.end, process)
        log = Log(process)
        log.wait_for(b"listens on port")
        log.wait_for(b"\n")
        return process, log, int(log.text.split(b"listens on port")[1].split()[0])

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Every server must end by itself when told to, and well."""
        assert process.stdout is not None
        if process.poll() is None:
            process.terminate()
        with process.stdout:
            try:
                status = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        self.assertIn(status, (0, -signal.SIGKILL))

    def join(self, ip: str = IP) -> Client:
        """A new client that has got its greeting."""
        client = self.connect(ip)
        self.assertTrue(client.line().startswith(b"Welcome"))
        return client

    def connect(self, ip: str = IP) -> Client:
        client = Client(self.port, ip)
        self.addCleanup(client.close)
        return client

    def logged_so_far(self) -> bytes:
        """All that was logged before something that happens now."""
        self.join().say(b"now\n")
        self.log.wait_for(b"now\n")
        return self.log.text


class Test1(ChatTest):
    """The server accepts connections and says so."""

    def test_one_connection_is_logged(self) -> None:
        self.connect()
        self.log.wait_for(b"accepted connection")

    def test_every_connection_is_logged_once(self) -> None:
        for _ in range(5):
            self.connect()
        self.assertEqual(self.logged_so_far().count(b"accepted connection"), 5 + 1)

    def test_nothing_is_logged_before_somebody_comes(self) -> None:
        self.assertEqual(self.logged_so_far().count(b"accepted connection"), 1)

    def test_a_hundred_at_once(self) -> None:
        for _ in range(100):
            self.connect()
        self.log.wait_for(b"accepted connection", 100)


class Test2(ChatTest):
    """The server reads messages and logs them."""

    def test_a_message_is_logged(self) -> None:
        self.connect().say(b"hello, world\n")
        self.log.wait_for(b"hello, world")

    def test_only_a_complete_message_is_logged(self) -> None:
        client = self.connect()
        client.say(b"to be con")
        self.assertNotIn(b"to be con", self.logged_so_far())
        client.say(b"tinued\n")
        self.log.wait_for(b"to be continued\n")

    def test_several_messages_in_one_packet(self) -> None:
        self.connect().say(b"one\ntwo\nthree\n")
        for text in b"one", b"two", b"three":
            self.log.wait_for(text + b"\n")

    def test_messages_of_several_clients(self) -> None:
        for number in range(5):
            self.connect().say(b"from %d\n" % number)
        for number in range(5):
            self.log.wait_for(b"from %d\n" % number)

    def test_control_characters_cannot_forge_a_line(self) -> None:
        self.connect().say(b"a\rb\x1b[2J\xff\n")
        self.log.wait_for(rb"a\x0db\x1b[2J\xff")


class Test3(ChatTest):
    """The server notices that a client has gone, says so, and frees what it had."""

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def test_a_closed_connection_is_logged(self) -> None:
        self.join().close()
        self.log.wait_for(b"connection terminated")

    def test_a_reset_connection_is_logged(self) -> None:
        self.join().reset()
        self.log.wait_for(b"connection terminated")

    def test_each_end_is_logged_once(self) -> None:
        for client in [self.join() for _ in range(5)]:
            client.close()
        self.log.wait_for(b"connection terminated", 5)
        self.assertEqual(self.logged_so_far().count(b"connection terminated"), 5)

    def test_what_was_said_last_is_kept(self) -> None:
        client = self.join()
        client.say(b"bye\nno newline")
        client.leave()
        self.log.wait_for(b"connection terminated")
        self.assertIn(b"bye\n", self.log.text)
        self.assertIn(b"no newline\n", self.log.text)

    def test_the_others_stay(self) -> None:
        stays, goes = self.join(), self.join()
        goes.reset()
        self.log.wait_for(b"connection terminated")
        stays.say(b"still here\n")
        self.assertIn(b"still here", stays.line())

    @unittest.skipUnless(os.path.isdir("/proc/self/fd"), "counts descriptors in /proc")
    def test_descriptors_are_given_back(self) -> None:
        self.join().close()
        self.log.wait_for(b"connection terminated")
        before = self.descriptors()
        for client in [self.join() for _ in range(20)]:
            client.close()
        self.log.wait_for(b"connection terminated", 21)
        self.assertEqual(self.descriptors(), before)


class Test4(ChatTest):
    """A new client is greeted, and told nothing of what was said before."""

    def test_the_greeting(self) -> None:
        greeting = self.connect().line()
        self.assertTrue(greeting.startswith(b"Welcome"))
        self.assertTrue(greeting.endswith(b"\n"))

    def test_only_the_new_client_is_greeted(self) -> None:
        first = self.join()
        self.join().say(b"hello\n")
        self.assertEqual(first.line(), b"127.0.0.1: hello\n")

    def test_no_history(self) -> None:
        first = self.join()
        first.say(b"before\n")
        first.line()
        second = self.join()
        second.say(b"after\n")
        self.assertEqual(second.line(), b"127.0.0.1: after\n")

    def test_the_greeting_comes_before_anything_else(self) -> None:
        talker = self.join()
        for _ in range(20):
            talker.say(b"chatter\n" * 10)
            self.join()


class Test5(ChatTest):
    """What a client says comes back to it."""

    def test_echo(self) -> None:
        client = self.join()
        client.say(b"hello\n")
        self.assertEqual(client.line(), b"127.0.0.1: hello\n")

    def test_nothing_before_the_message_is_complete(self) -> None:
        client, other = self.join(), self.join()
        client.say(b"half")
        other.say(b"first\n")
        self.assertEqual(client.line(), b"127.0.0.1: first\n")
        client.say(b" and half\n")
        self.assertEqual(client.line(), b"127.0.0.1: half and half\n")

    def test_byte_by_byte(self) -> None:
        client = self.join()
        for byte in b"slow\n":
            client.say(bytes([byte]))
        self.assertEqual(client.line(), b"127.0.0.1: slow\n")

    def test_an_empty_message_is_a_message(self) -> None:
        client = self.join()
        client.say(b"\n\n")
        self.assertEqual(client.line() + client.line(), b"127.0.0.1: \n" * 2)

    def test_any_bytes_come_back_as_they_are(self) -> None:
        client = self.join()
        text = bytes(byte for byte in range(256) if byte != ord("\n"))
        client.say(text + b"\n")
        self.assertEqual(client.line(), b"127.0.0.1: " + text + b"\n")

    def test_telnet_line_ends(self) -> None:
        client = self.join()
        client.say(b"telnet\r\n")
        self.assertEqual(client.line(), b"127.0.0.1: telnet\n")

    def test_ending_the_stream_is_no_reason_to_lose_the_echo(self) -> None:
        client = self.join()
        client.say(b"first\nlast")
        self.assertEqual(client.leave(), b"127.0.0.1: first\n127.0.0.1: last\n")


class Test6(ChatTest):
    """What one says, all hear."""

    def test_two(self) -> None:
        one, two = self.join(), self.join()
        one.say(b"hello\n")
        self.assertEqual(two.line(), b"127.0.0.1: hello\n")
        two.say(b"hello yourself\n")
        self.assertEqual([one.line() for _ in range(2)], [b"127.0.0.1: hello\n", b"127.0.0.1: hello yourself\n"])

    def test_fifty(self) -> None:
        clients = [self.join() for _ in range(50)]
        clients[7].say(b"all of you\n")
        for client in clients:
            self.assertEqual(client.line(), b"127.0.0.1: all of you\n")

    def test_all_hear_the_same_order(self) -> None:
        clients = [self.join() for _ in range(5)]
        for number in range(50):
            for name, client in enumerate(clients):
                client.say(b"%d from %d\n" % (number, name))
        heard = [[client.line() for _ in range(250)] for client in clients]
        for other in heard[1:]:
            self.assertEqual(other, heard[0])
        for name in range(5):
            own = [line for line in heard[0] if line.endswith(b"from %d\n" % name)]
            self.assertEqual(own, [b"127.0.0.1: %d from %d\n" % (number, name) for number in range(50)])


class Test7(ChatTest):
    """A message has at most 1024 bytes; a longer one comes in parts."""

    def parts(self, data: bytes) -> list[bytes]:
        client = self.join()
        client.say(data + b"\nend\n")
        lines = iter(client.line, b"127.0.0.1: end\n")
        return [line[len(b"127.0.0.1: ") : -1] for line in lines]

    def test_1024_are_one_message(self) -> None:
        self.assertEqual(self.parts(b"x" * 1024), [b"x" * 1024])

    def test_1025_are_two(self) -> None:
        self.assertEqual(self.parts(b"x" * 1025), [b"x" * 1024, b"x"])

    def test_three_full_parts(self) -> None:
        self.assertEqual(self.parts(b"x" * 3072), [b"x" * 1024] * 3)

    def test_the_separator_does_not_count(self) -> None:
        self.assertEqual(self.parts(b"x" * 1024 + b"\r"), [b"x" * 1024])

    def test_a_full_part_does_not_wait_for_the_rest(self) -> None:
        client = self.join()
        client.say(b"x" * 1500)
        self.assertEqual(client.line(), b"127.0.0.1: " + b"x" * 1024 + b"\n")
        client.say(b"\n")
        self.assertEqual(client.line(), b"127.0.0.1: " + b"x" * 476 + b"\n")

    def test_a_character_is_not_cut(self) -> None:
        text = ("x" + "\N{EURO SIGN}" * 400).encode()
        cut = 1 + 3 * 341
        self.assertEqual(self.parts(text), [text[:cut], text[cut:]])


class Test8(ChatTest):
    """Messages never mix, and none is lost."""

    FLAGS = ("--quiet",)

    def test_many_talk_at_once_in_small_pieces(self) -> None:
        clients = [self.join() for _ in range(10)]
        lines = [b"%d " % name * 20 + b"\n" for name in range(10)]
        for start in range(0, 41, 3):
            for client, line in zip(clients, lines):
                client.say(line[start : start + 3])
        for client in clients:
            self.assertEqual(sorted(client.line() for _ in range(10)), [b"127.0.0.1: " + line for line in lines])

    def test_a_burst(self) -> None:
        talker, listener = self.join(), self.join()
        talker.say(b"".join(b"%d\n" % number for number in range(10000)))
        for number in range(10000):
            self.assertEqual(listener.line(), b"127.0.0.1: %d\n" % number)


class Test9(ChatTest):
    """A client that does not read keeps nobody waiting."""

    FLAGS = ("--quiet", "--max-lag", "1M")

    def test_a_sleeper_is_sent_away_and_delays_nobody(self) -> None:
        sleeper = self.connect()
        talker, listener = self.join(), self.join()
        block = (b"x" * 1000 + b"\n") * 64
        expected = len(b"127.0.0.1: ") * 64 + len(block)
        for _ in range(250):  # 16 MB: more than the systems' buffers and the limit hold
            talker.say(block)
            for client in talker, listener:
                self.assertEqual(len(client.file.read(expected)), expected)
        self.assertTrue(sleeper.rest().endswith(b"\n* You are disconnected: more than 1048576 bytes behind.\n"))
        self.log.wait_for(b"connection terminated: more than 1048576 bytes behind")


@unittest.skipUnless(os.path.isdir("/proc/self"), "reads /proc")
class Test10(ChatTest):
    """When nobody speaks, the server does nothing: no processor time, one thread, no children."""

    def wakes(self) -> list[str]:
        """How often it has been given the processor, and how often it has been deprived of it."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return [line for line in status.splitlines() if "ctxt_switches" in line]

    def test_idle(self) -> None:
        clients = [self.join() for _ in range(20)]
        clients[0].say(b"half a message")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            before = self.wakes()
            time.sleep(1)
            if self.wakes() == before:
                return
        self.fail("there was never a second in which it did nothing")

    def test_one_thread_and_no_children(self) -> None:
        self.join()
        process = Path(f"/proc/{self.process.pid}")
        self.assertEqual(len(list(process.glob("task/*"))), 1)
        self.assertEqual((process / f"task/{self.process.pid}/children").read_text(), "")


class Test11(ChatTest):
    """SO_REUSEADDR: a server starts again at once on the port it had, whatever became of its clients."""

    def test_restart(self) -> None:
        for _ in range(3):
            self.join()
        self.process.kill()
        self.process.wait()
        self.process, self.log, port = self.start(self.port)
        self.assertEqual(port, self.port)
        self.join().say(b"again\n")
        self.log.wait_for(b"again")

    def test_a_port_that_is_in_use_is_said_in_one_line(self) -> None:
        command = [*COMMAND, "--port", str(self.port)]
        second = subprocess.run(command, capture_output=True, timeout=PATIENCE)
        self.assertEqual(second.returncode, 1)
        self.assertEqual(second.stderr.count(b"\n"), 1)
        self.assertEqual(second.stdout, b"")


class Test12(ChatTest):
    """The sender's address before each message."""

    def test_ipv4(self) -> None:
        client = self.join()
        client.say(b"hello\n")
        self.assertEqual(client.line(), b"127.0.0.1: hello\n")

    def test_ipv6(self) -> None:
        client = None
        with contextlib.suppress(OSError):
            client = self.connect("::1")
        if client is None:
            self.skipTest("no IPv6 here")
        client.line()
        client.say(b"hello\n")
        self.assertEqual(client.line(), b"::1: hello\n")


class Test13(ChatTest):
    """--no-prefix: the bare message."""

    FLAGS = ("--no-prefix",)

    def test_no_prefix(self) -> None:
        client = self.join()
        client.say(b"hello\n")
        self.assertEqual(client.line(), b"hello\n")


class Test14(unittest.TestCase):
    """Nothing but the defaults."""

    def test_port_3100(self) -> None:
        process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.terminate)
        assert process.stdout is not None and process.stderr is not None
        ready, _, _ = select.select([process.stdout, process.stderr], [], [], PATIENCE)
        said = b"".join(pipe.readline() for pipe in ready)
        if b"in use" in said:
            self.skipTest("somebody else uses port 3100")
        self.assertIn(b"listens on port 3100\n", said)
        client = Client(3100)
        self.addCleanup(client.close)
        self.assertTrue(client.line().startswith(b"Welcome"))


if __name__ == "__main__":
    unittest.main()
