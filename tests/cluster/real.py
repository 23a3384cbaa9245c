"""Real processes: a Redis and nodes; and on a kernel of the test's own: clients, and a proxy that is no friend."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forked
import pytest
from chatting import HERE, PATIENCE, ROOT, cpu_seconds, eventually, free_port, memory

from cluster import hiredis
from cluster.oracle import Hearing, tagged
from loop import Kernel, TimedOut, accept, connect, recv, send, sleep

if TYPE_CHECKING:
    from loop import Task
    from loop.traps import Coroutine

PROGRAM = shutil.which("redis-server")
SS = shutil.which("ss")


class Redis:
    """A redis-server on a free port, with an append-only file in `directory`."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        self.flags = flags
        self.sock: socket.socket | None = None
        for _ in range(3):
            self.port = free_port()
            try:
                self.start()
                return
            except ChildProcessError:
                pass  # somebody else has taken the port meanwhile
        raise ChildProcessError("redis-server does not start")

    def start(self) -> None:
        """Start it, or start it again on its file."""
        if not PROGRAM:
            pytest.skip("redis-server is not installed")
        self.process = subprocess.Popen(
            [PROGRAM, *self.arguments()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(self.answers, "redis-server's answer")

    def arguments(self) -> list[str]:
        there = ["--bind", HERE, "--port", str(self.port), "--dir", str(self.directory)]
        copies = "--repl-diskless-sync-delay", "0"  # are served at once
        return [*there, "--save", "", "--appendonly", "yes", "--loglevel", "warning", *copies, *self.flags]

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise ChildProcessError("redis-server has ended")
        try:
            return not isinstance(self.ask("PING"), OSError)
        except OSError:
            return False

    def ask(self, *command: Any) -> Any:
        """One command's answer; errors are returned, too."""
        if self.sock is None:
            self.sock = socket.create_connection((HERE, self.port), timeout=PATIENCE)
            self.reader = hiredis.Reader(notEnoughData=Ellipsis)
        try:
            self.sock.sendall(hiredis.pack_command(command))
            while (answer := self.reader.gets()) is Ellipsis:
                if not (data := self.sock.recv(1 << 16)):
                    raise ConnectionResetError("closed by redis-server")
                self.reader.feed(data)
        except OSError:
            self.hang_up()
            raise
        return answer

    def hang_up(self) -> None:
        if self.sock:
            self.sock.close()
            self.sock = None

    def kill(self) -> None:
        """The hard way."""
        self.hang_up()
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def url(self, extra: str = "") -> str:
        return f"redis://{HERE}:{self.port}{extra}"


class Sentinel(Redis):
    """One that watches a Redis, under the name `chat`, and replaces it when it is gone. The flags are lines for it."""

    def __init__(self, directory: Path, watched: Redis, *flags: str) -> None:
        self.watched = watched
        super().__init__(directory, *flags)

    def arguments(self) -> list[str]:
        config = self.directory / "sentinel.conf"
        watch = f"sentinel monitor chat {HERE} {self.watched.port} 1"
        times = "sentinel down-after-milliseconds chat 300", "sentinel failover-timeout chat 3000"
        config.write_text("\n".join([f"bind {HERE}", f"port {self.port}", watch, *times, *self.flags, ""]))
        return [str(config), "--sentinel"]


def kill_sockets(redis: Redis) -> int:
    """Have the system end all connections to this Redis; returns how many. 0 where it cannot, or we may not."""
    redis.hang_up()
    if not SS:
        return 0
    ended = subprocess.run([SS, "-HtK", "dport", "=", f":{redis.port}"], capture_output=True)
    return ended.stdout.count(b"ESTAB")


class RunningNode:
    """A node of its own process. Its journal goes into a file."""

    def __init__(self, directory: Path, *flags: str, **environment: str) -> None:
        self.journal_file = directory / f"node{len(list(directory.iterdir()))}"
        self.port = 0
        with open(self.journal_file, "wb") as file:
            self.process = forked.start(
                [*forked.SERVER, "--host", HERE, "--port", "0", *flags],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **environment},
            )  # fmt: skip

    def listens(self) -> bool:
        """Whether it does, and on which port."""
        if found := self.lines("listens on port"):
            self.port = int(found[0].split()[-1])
        return self.port > 0

    def listens_no_more(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HERE, self.port)) != 0

    def journal(self) -> str:
        return self.journal_file.read_text()

    def lines(self, having: str) -> list[str]:
        """The journal's lines with this text in them."""
        assert self.process.poll() is None, self.journal()
        return [line for line in self.journal().split("\n")[:-1] if having in line]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return cpu_seconds(self.process.pid)

    def memory(self) -> int:
        """Bytes."""
        return memory(self.process.pid)


def run_chatsrv(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One that should not even start."""
    return subprocess.run(
        [sys.executable, str(ROOT / "chatsrv"), "--host", HERE, "--port", "0", *flags],
        capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, **environment},
    )  # fmt: skip


class Talker:
    """A client that hears everything from the greeting on, and says things that can be told apart."""

    def __init__(self, kernel: Kernel, name: str, port: int) -> None:
        self.kernel = kernel
        self.name = name
        self.said = 0
        self.heard = bytearray()
        self.ended = False
        self.pause = 0.0  # seconds, after each piece that it takes
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # so that being pushed back is felt early
        self.sock.setblocking(False)
        kernel.spawn(self.listen(port), name)

    def listen(self, port: int) -> Coroutine[None]:
        try:
            yield from connect(self.sock, (HERE, port), PATIENCE)
            while data := (yield from recv(self.sock, 1 << 16)):
                self.heard += data
                if self.pause:
                    yield from sleep(self.pause)
        except OSError:
            pass
        finally:
            self.ended = True
            self.kernel.close(self.sock)

    def say(self, count: int = 1, padding: int = 0) -> Coroutine[None]:
        """COROUTINE. So many messages at once; nothing if the server is gone."""
        lines = [tagged(self.name, self.said + n, padding) for n in range(count)]
        self.said += count
        try:
            yield from send(self.sock, "".join(f"{line}\n" for line in lines).encode(), PATIENCE)
        except OSError:
            assert self.ended

    def type(self, text: str) -> Coroutine[None]:
        """COROUTINE. One line, as it is."""
        yield from send(self.sock, text.encode() + b"\n", PATIENCE)

    def lines(self) -> list[str]:
        """The whole lines it has heard, without addresses before them, but with names."""
        return [line.replace(f"{HERE}: ", "", 1) for line in self.heard.decode().split("\n")[:-1]]

    def hears_itself(self) -> bool:
        """Whether it has heard the last that it has said."""
        return f"<{self.name} {self.said - 1}>".encode() in self.heard

    def has_lost(self) -> bool:
        """Whether it was told of a loss."""
        return b"lost here" in self.heard

    def chatter(self, count: int, pause: float, at_once: int = 1, padding: int = 0) -> Coroutine[None]:
        """COROUTINE. Say something again and again."""
        for _ in range(count):
            yield from self.say(at_once, padding)
            yield from sleep(pause)

    def finish(self) -> None:
        """Say no more."""
        self.sock.shutdown(socket.SHUT_WR)

    def stream(self) -> Hearing:
        """What it has heard; a client that was cut off may end within a message."""
        heard = bytes(self.heard)
        return Hearing(heard[: heard.rfind(b"\n") + 1] if self.ended else heard)


class Proxy:
    """Between nodes and Redis. `delay` is in seconds; what passes is handed on in pieces of `piece` bytes.

    So `piece / delay` bytes a second pass on each connection, in each direction.
    """

    def __init__(self, kernel: Kernel, port: int) -> None:
        self.kernel = kernel
        self.target = port
        self.listener = socket.create_server((HERE, 0))
        self.listener.setblocking(False)
        self.port = int(self.listener.getsockname()[1])
        self.delay = 0.0
        self.piece = 1 << 16
        self.open = True
        self.cut_after: int | None = None  # bytes from Redis after which all is cut
        self.cuts = 0
        self.deaf = False  # nodes that follow hear nothing
        self.followers: set[socket.socket] = set()
        self.socks: dict[socket.socket, None] = {}
        kernel.spawn(self.admit(), "proxy")

    def url(self, extra: str = "") -> str:
        return f"redis://{HERE}:{self.port}{extra}"

    def admit(self) -> Coroutine[None]:
        while True:
            for near, _ in (yield from accept(self.listener)):
                self.socks[near] = None
                if self.open:
                    self.kernel.spawn(self.serve(near), "proxy")
                else:
                    self.drop(near)

    def serve(self, near: socket.socket) -> Coroutine[None]:
        far = socket.socket()
        far.setblocking(False)
        self.socks[far] = None
        try:
            yield from connect(far, (HERE, self.target), PATIENCE)
        except OSError:
            self.drop(near, far)
            return
        self.kernel.spawn(self.pump(near, far, False), "proxy out")
        self.kernel.spawn(self.pump(far, near, True), "proxy in")

    def pump(self, source: socket.socket, target: socket.socket, answers: bool) -> Coroutine[None]:
        try:
            while data := (yield from recv(source, self.piece)):
                if self.delay:
                    yield from sleep(self.delay)
                if b"-follows" in data and not answers:
                    self.followers.add(source)
                while self.deaf and target in self.followers:
                    yield from sleep(0.005)
                if answers and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        yield from send(target, data[: len(data) // 2 + 1])
                        self.cut_after = None
                        self.cut()
                        return
                yield from send(target, data)
        except OSError:
            pass
        self.drop(source, target)

    def close_door(self) -> None:
        """Nobody gets through, until it is `open` again."""
        self.open = False
        self.cut()

    def cut(self) -> None:
        """All connections, now."""
        self.cuts += 1
        self.drop(*self.socks)

    def drop(self, *socks: socket.socket) -> None:
        for sock in socks:
            if sock in self.socks:
                del self.socks[sock]
                self.kernel.close(sock)

    def close(self) -> None:
        self.drop(*self.socks)
        self.kernel.close(self.listener)


class Stage:
    """A Redis, nodes, clients and a kernel for the test's own side. Everything on it is ended by close()."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.redis = Redis(directory)
        self.kernel = Kernel()
        self.nodes: list[RunningNode] = []
        self.clients: list[Talker] = []
        self.proxies: list[Proxy] = []

    def node(self, url: str = "", *flags: str, **environment: str) -> RunningNode:
        """A new node, which listens."""
        self.run(self.soon(url or self.redis.url(), *flags, **environment))
        return self.nodes[-1]

    def soon(self, url: str, *flags: str, **environment: str) -> Coroutine[None]:
        """COROUTINE. Start a node, the last one of `nodes` from now on."""
        node = RunningNode(self.directory, "--cluster", url, *flags, **environment)
        self.nodes.append(node)
        while not node.listens():
            yield from sleep(0.01)

    def end(self, node: RunningNode) -> None:
        """SIGTERM, while the clients go on."""
        node.process.terminate()
        self.until(lambda: node.process.poll() is not None)
        assert node.process.returncode == 0

    def proxy(self) -> Proxy:
        self.proxies.append(Proxy(self.kernel, self.redis.port))
        return self.proxies[-1]

    def client(self, node: RunningNode) -> Talker:
        """A client that has been greeted, and so hears everything from now on."""
        client = self.enter(node)
        self.until(lambda: client.heard)
        return client

    def enter(self, node: RunningNode) -> Talker:
        self.clients.append(Talker(self.kernel, f"client{len(self.clients)}", node.port))
        return self.clients[-1]

    def run(self, *coroutines: Coroutine[Any], timeout: float = 40) -> None:
        """Run these to their end, and all else meanwhile."""
        tasks = [self.kernel.spawn(coroutine) for coroutine in coroutines]
        self.until(lambda: all(task.outcome for task in tasks), timeout)
        assert all(task.outcome == "returned" for task in tasks)

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
        """Let everything go on until `condition()` is true."""

        def watch() -> Coroutine[None]:
            deadline = time.monotonic() + timeout
            while not condition():
                if time.monotonic() > deadline:
                    raise TimedOut("it did not come true")
                yield from sleep(0.005)

        task: Task = self.kernel.spawn(watch(), "watch")
        self.kernel.run(until=task)
        assert task.outcome == "returned", self.last_words()

    def last_words(self) -> str:
        """What may explain that something has not happened."""
        heard = (f"{client.name}: {bytes(client.heard[-500:])!r}" for client in self.clients)
        return "\n".join([*heard, *(node.journal()[-1000:] for node in self.nodes)])

    def all_heard(self) -> bool:
        """Whether all that are still there have heard the last words of all others."""
        there = [client for client in self.clients if not client.ended]
        ends = [f"<{client.name} {client.said - 1}>".encode() for client in there if client.said]
        return all(end in client.heard for client in there for end in ends)

    def streams(self) -> dict[str, Hearing]:
        return {client.name: client.stream() for client in self.clients}

    def close(self) -> None:
        for task in list(self.kernel.tasks):
            task.cancel()
        self.kernel.run()
        for proxy in self.proxies:
            proxy.close()
        self.kernel.poller.close()
        for node in self.nodes:
            if node.process.poll() is None:
                node.kill()
        self.redis.go_on()
        self.redis.kill()
