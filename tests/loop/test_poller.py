"""One face, every poller this system has. KqueuePoller runs on a stand-in (kqueue.py) where there is no kqueue."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kqueue as standin
import pytest
from pairs import Pair, fill

import loop.poller
from loop import EpollPoller, Kernel, KqueuePoller, SelectPoller, accept, connect, read, recv, send, sleep
from loop.poller import READ, WRITE, default_poller

if TYPE_CHECKING:
    from loop.poller import Poller
    from loop.traps import Coroutine

NATIVE_KQUEUE = hasattr(select, "kqueue")
YEAR = 365 * 86400.0
Pipe = tuple[Any, Any]  # two unbuffered files: the end to read and the end to write
pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")


@pytest.fixture
def kqueue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the stand-in where select.kqueue is missing."""
    if not NATIVE_KQUEUE:
        for name in standin.NAMES:
            monkeypatch.setattr(select, name, getattr(standin, name), raising=False)


@pytest.fixture(
    params=[
        pytest.param("epoll", marks=pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has none")),
        pytest.param("kqueue", id="kqueue" if NATIVE_KQUEUE else "kqueue-standin"),
        "select",
    ]
)
def poller(request: pytest.FixtureRequest, kqueue: None) -> Iterator[Poller]:
    kinds: dict[str, Callable[[], Poller]] = {"epoll": EpollPoller, "kqueue": KqueuePoller, "select": SelectPoller}
    poller = kinds[request.param]()
    yield poller
    poller.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    with open(reader, "rb", 0) as read_end, open(writer, "wb", 0) as write_end:
        yield read_end, write_end


def ready(poller: Poller, fd: int, timeout: float | None = 0) -> int:
    """What one poll says of `fd`, in one or two reports, and it speaks of nothing else."""
    found = poller.poll(timeout)
    assert {number for number, _ in found} <= {fd}
    return sum({bit for _, bits in found for bit in (READ, WRITE) if bits & bit})


class TestPoller:
    def test_readable(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        poller.arm(near.fileno(), READ)
        assert ready(poller, near.fileno()) == 0
        far.send(b"x")
        assert ready(poller, near.fileno()) == READ

    def test_writable(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        fill(near)
        poller.arm(near.fileno(), WRITE)
        assert ready(poller, near.fileno()) == 0
        while ready(poller, near.fileno()) == 0:
            far.recv(65536)
        near.send(b"there is room")

    def test_both_directions_at_once(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        far.send(b"x")
        poller.arm(near.fileno(), READ | WRITE)
        assert ready(poller, near.fileno()) == READ | WRITE

    def test_of_both_directions_the_one_that_is_ready(self, poller: Poller, pair: Pair) -> None:
        near, _ = pair
        poller.arm(near.fileno(), READ | WRITE)
        assert ready(poller, near.fileno()) == WRITE

    def test_readiness_is_reported_once(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        far.send(b"x")
        poller.arm(near.fileno(), READ)
        assert [ready(poller, near.fileno()) for _ in range(3)] == [READ, 0, 0]
        poller.arm(near.fileno(), READ)  # it is still there for the next to ask
        assert [ready(poller, near.fileno()) for _ in range(3)] == [READ, 0, 0]

    def test_the_last_arming_counts(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        far.send(b"x")
        poller.arm(near.fileno(), READ)
        poller.arm(near.fileno(), WRITE)
        assert ready(poller, near.fileno()) == WRITE

    def test_arming_for_nothing_takes_it_back(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        far.send(b"x")
        poller.arm(near.fileno(), 0)  # also when there is nothing to take back
        poller.arm(near.fileno(), READ | WRITE)
        poller.arm(near.fileno(), 0)
        assert ready(poller, near.fileno()) == 0

    def test_hazard_04_the_end_of_a_pipe_wakes_its_reader(self, poller: Poller, pipe: Pipe) -> None:
        read_end, write_end = pipe
        poller.arm(read_end.fileno(), READ)
        assert ready(poller, read_end.fileno()) == 0
        write_end.close()
        assert ready(poller, read_end.fileno()) & READ

    def test_hazard_04_a_full_pipe_without_a_reader_wakes_its_writer(self, poller: Poller, pipe: Pipe) -> None:
        read_end, write_end = pipe
        os.set_blocking(write_end.fileno(), False)
        while write_end.write(bytes(65536)):
            pass
        poller.arm(write_end.fileno(), WRITE)
        assert ready(poller, write_end.fileno()) == 0
        read_end.close()
        assert ready(poller, write_end.fileno()) & WRITE

    @pytest.mark.parametrize("want", [READ, WRITE, READ | WRITE])
    def test_hazard_04_a_refused_connection_wakes_the_waiter(self, poller: Poller, want: int) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # never listens
            with socket.socket() as sock:
                sock.setblocking(False)
                assert sock.connect_ex(nobody.getsockname()) in (errno.EINPROGRESS, errno.ECONNREFUSED)
                poller.arm(sock.fileno(), want)
                assert ready(poller, sock.fileno(), 2) & want == want

    def test_hazard_04_a_reset_wakes_both_directions(self, poller: Poller) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            far = socket.create_connection(listener.getsockname())
            near, _ = listener.accept()
        with near, far:
            near.setblocking(False)
            fill(near)
            poller.arm(near.fileno(), READ | WRITE)
            far.close()  # with unread input: a reset
            assert ready(poller, near.fileno(), 2) == READ | WRITE

    @pytest.mark.parametrize("want", [READ, WRITE, READ | WRITE])
    def test_hazard_16_dev_null_is_always_ready(self, poller: Poller, want: int) -> None:
        with open(os.devnull, "r+b", 0) as file:
            poller.arm(file.fileno(), want)
            assert [ready(poller, file.fileno(), None), ready(poller, file.fileno())] == [want, 0]

    @pytest.mark.parametrize("want", [READ, WRITE, READ | WRITE])
    def test_hazard_16_a_file_is_always_ready(self, poller: Poller, want: int, tmp_path: Path) -> None:
        with open(tmp_path / "file", "w+b", 0) as file:  # stands at its end
            poller.arm(file.fileno(), want)
            assert [ready(poller, file.fileno()), ready(poller, file.fileno())] == [want, 0]

    def test_hazard_16_a_file_can_be_taken_back_and_forgotten(self, poller: Poller, tmp_path: Path) -> None:
        with open(tmp_path / "file", "w+b", 0) as file:
            poller.arm(file.fileno(), WRITE)
            poller.arm(file.fileno(), 0)
            assert ready(poller, file.fileno()) == 0
            poller.arm(file.fileno(), WRITE)
            poller.forget(file.fileno())
            assert ready(poller, file.fileno()) == 0

    def test_hazard_16_a_file_keeps_nobody_else_from_being_seen(
        self, poller: Poller, pair: Pair, tmp_path: Path
    ) -> None:
        near, far = pair
        far.send(b"x")
        with open(tmp_path / "file", "w+b", 0) as file:
            poller.arm(file.fileno(), WRITE)
            poller.arm(near.fileno(), READ)
            assert sorted(poller.poll(None)) == sorted([(file.fileno(), WRITE), (near.fileno(), READ)])

    def test_hazard_01_a_forgotten_number_can_be_used_again(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        new, new_far = socket.socketpair()
        number = near.fileno()
        poller.arm(number, READ)
        poller.forget(number)
        near.close()
        with new, new_far, socket.socket(fileno=os.dup2(new.fileno(), number)):
            far.close()  # means nothing to the new one
            poller.arm(number, READ)
            assert ready(poller, number) == 0
            new_far.send(b"x")
            assert ready(poller, number) == READ
            poller.forget(number)

    def test_forgetting_what_was_never_armed_is_nothing(self, poller: Poller, pair: Pair) -> None:
        poller.forget(pair[0].fileno())

    def test_hazard_02_a_forgotten_descriptor_is_silent_though_a_duplicate_lives(
        self, poller: Poller, pair: Pair
    ) -> None:
        near, far = pair
        poller.arm(near.fileno(), READ)
        with near.dup():
            far.send(b"x")
            poller.forget(near.fileno())
            assert poller.poll(0) == []
            near.close()
            far.close()
            assert poller.poll(0) == []

    def test_hazard_02_a_descriptor_closed_without_a_word_costs_one_report_at_most(
        self, poller: Poller, pair: Pair
    ) -> None:
        if isinstance(poller, SelectPoller):
            pytest.skip("select knows numbers only, and fails for one that is closed")
        near, far = pair
        number = near.fileno()
        new, new_far = socket.socketpair()
        poller.arm(number, READ)
        with near.dup(), new, new_far:
            near.close()
            far.send(b"x")
            assert sum(len(poller.poll(0)) for _ in range(10)) <= 1
            with socket.socket(fileno=os.dup2(new.fileno(), number)):
                poller.arm(number, WRITE)
                assert [ready(poller, number), ready(poller, number)] == [WRITE, 0]
                poller.forget(number)

    def test_a_poll_reports_all_that_is_ready(
        self, poller: Poller, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also what one call to the system has no room for."""
        monkeypatch.setattr(loop.poller, "MOST", 3)
        read_end, write_end = pipe
        write_end.write(b"x")
        numbers = [os.dup(read_end.fileno()) for _ in range(9)]
        try:
            for number in numbers:
                poller.arm(number, READ)
            assert sorted(poller.poll(None)) == [(number, READ) for number in numbers]
            assert poller.poll(0) == []
        finally:
            for number in numbers:
                poller.forget(number)
                os.close(number)

    def test_arming_a_closed_descriptor_fails_and_hurts_nobody_else(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        poller.arm(near.fileno(), READ)
        number = os.dup(near.fileno())
        os.close(number)
        with pytest.raises(OSError) as refusal:
            poller.arm(number, READ)
        assert refusal.value.errno == errno.EBADF
        far.send(b"x")
        assert ready(poller, near.fileno()) == READ

    def test_a_closed_poller_keeps_nobody_from_closing_a_socket(self, poller: Poller, pair: Pair) -> None:
        near, _ = pair
        kernel = Kernel(poller)
        seen: list[type] = []

        def reader() -> Coroutine[None]:
            try:
                yield from recv(near, 10)
            finally:
                kernel.close(near)

        def writer() -> Coroutine[None]:
            try:
                yield from send(near, b"x")
            except OSError as error:
                seen.append(type(error))

        fill(near)
        tasks = [kernel.spawn(reader()), kernel.spawn(writer())]
        kernel.spawn(sleep(0))
        kernel.turn()
        poller.close()
        kernel.drop(tasks[0])
        assert near.fileno() == -1
        assert not kernel.readers and not kernel.writers

    def test_poll_waits_as_long_as_it_is_told_and_never_less(self, poller: Poller, pair: Pair) -> None:
        poller.arm(pair[0].fileno(), READ)
        for timeout in (0.0004, 0.0101):  # epoll counts in milliseconds
            start = time.monotonic()
            assert poller.poll(timeout) == []
            assert time.monotonic() - start >= timeout

    def test_poll_waits_for_ever_if_it_is_told_no_time(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        poller.arm(near.fileno(), READ)
        alarms: list[int] = []

        def alarm(number: int, frame: object) -> None:
            alarms.append(number)
            far.send(b"x")
            assert len(alarms) < 100, "it waits too long"

        handler = signal.signal(signal.SIGALRM, alarm)
        timer = signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            assert ready(poller, near.fileno(), None) == READ
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)

    def test_a_timeout_of_a_year_does_not_end_the_kernel(self, poller: Poller, pair: Pair) -> None:
        near, far = pair
        kernel = Kernel(poller)
        sleeper = kernel.spawn(sleep(YEAR))
        reader = kernel.spawn(recv(near, 10))
        kernel.turn()
        far.send(b"x")
        kernel.run(until=reader)
        assert (reader.outcome, sleeper.outcome) == ("returned", None)

    def test_hazard_16_a_file_is_read_to_its_end(self, poller: Poller, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"text")
        parts: list[bytes] = []

        def reader() -> Coroutine[None]:
            with path.open("rb") as file:
                while not parts or parts[-1]:
                    parts.append((yield from read(file, 3)))

        kernel = Kernel(poller)
        task = kernel.spawn(reader())
        for _ in range(5):
            kernel.spawn(sleep(0))  # so that no turn waits
            kernel.turn()
        task.cancel()
        kernel.run()
        assert (parts, task.outcome) == ([b"tex", b"t", b""], "returned")

    def test_a_conversation(self, poller: Poller) -> None:
        """Ten clients over TCP, each waiting for its echo before it says the next thing; one server."""
        kernel = Kernel(poller)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        heard: list[bytes] = []

        def serve() -> Coroutine[None]:
            try:
                while True:
                    for sock, _ in (yield from accept(listener)):
                        kernel.spawn(echo(sock))
            finally:
                kernel.close(listener)

        def echo(sock: socket.socket) -> Coroutine[None]:
            try:
                while data := (yield from recv(sock, 100, timeout=5)):
                    yield from send(sock, data, timeout=5)
            finally:
                kernel.close(sock)

        def client(number: int) -> Coroutine[None]:
            sock = socket.socket()
            sock.setblocking(False)
            try:
                yield from connect(sock, listener.getsockname(), timeout=5)
                for count in range(20):
                    yield from send(sock, b"%d says %d" % (number, count), timeout=5)
                    heard.append((yield from recv(sock, 100, timeout=5)))
            finally:
                kernel.close(sock)

        server = kernel.spawn(serve())
        clients = [kernel.spawn(client(number)) for number in range(10)]
        for task in clients:
            kernel.run(until=task)
        server.cancel()
        kernel.run()
        assert sorted(heard) == sorted(b"%d says %d" % (number, count) for number in range(10) for count in range(20))
        assert not kernel.readers and not kernel.writers


def test_the_default_is_the_best_there_is() -> None:
    poller = default_poller()
    poller.close()
    best = EpollPoller if hasattr(select, "epoll") else KqueuePoller if NATIVE_KQUEUE else SelectPoller
    assert type(poller) is best


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has none")
def test_epoll_is_told_to_wait_for_ever_in_a_way_that_all_pythons_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPy takes no None."""
    told: list[object] = []

    class Epoll:
        def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
            told.append(timeout)
            return []

    monkeypatch.setattr(select, "epoll", Epoll)
    for timeout in (None, 0, 2.5):
        EpollPoller().poll(timeout)
    assert told == [-1, 0, 2.5]


class TestSelect:
    """It knows numbers only, of which some are too large, and one that is closed makes it fail for all."""

    def test_a_descriptor_beyond_its_limit_is_refused_alone(self, pair: Pair) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 1200:
            pytest.skip("there are not so many descriptors")
        near, far = pair
        poller = SelectPoller()
        poller.arm(near.fileno(), READ)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
        number = fcntl.fcntl(near.fileno(), fcntl.F_DUPFD, 1024)
        try:
            with pytest.raises(OSError, match="descriptors up to 1023, and not 1024"):
                poller.arm(number, READ)
        finally:
            os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        far.send(b"x")
        assert ready(poller, near.fileno()) == READ

    def test_a_descriptor_closed_behind_its_back_is_reported_to_its_waiter(self, pair: Pair) -> None:
        near, far = pair
        poller = SelectPoller()
        number = os.dup(near.fileno())
        poller.arm(near.fileno(), READ)
        poller.arm(number, READ)
        os.close(number)
        assert poller.poll(None)[0] == (number, READ)
        assert poller.poll(0) == []
        far.send(b"x")
        assert ready(poller, near.fileno()) == READ


class TestKqueue:
    """What KqueuePoller relies on. Shown of the real one where there is one, of the stand-in elsewhere."""

    @pytest.fixture
    def queue(self, kqueue: None) -> Iterator[Any]:
        queue = vars(select)["kqueue"]()
        yield queue
        queue.close()

    def test_filters_are_apart_and_one_shot(self, queue: Any, pair: Pair) -> None:
        near, far = pair
        reading, writing = change(near.fileno(), "READ", "ADD"), change(near.fileno(), "WRITE", "ADD")
        queue.control([reading, writing], 0)
        assert [report.filter for report in queue.control(None, 10, 0)] == [writing.filter]
        far.send(b"x")
        assert [report.filter for report in queue.control(None, 10, 0)] == [reading.filter]
        assert queue.control(None, 10, 0) == []

    def test_what_was_not_armed_is_not_taken_for_armed(
        self, kqueue: None, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else it would be deleted some day, which fails for what is not there."""
        near, far = pair
        poller: Any = KqueuePoller()
        poller.arm(near.fileno(), READ)
        control, trouble = poller.kqueue.control, [OSError(errno.ENOMEM, "no memory")]

        class Refusing:
            def control(self, changes: Any, most: int, timeout: float | None = None) -> Any:
                if changes and trouble:
                    raise trouble.pop()
                return control(changes, most, timeout)

        real, poller.kqueue = poller.kqueue, Refusing()
        with pytest.raises(OSError):
            poller.arm(near.fileno(), READ | WRITE)
        assert poller.armed[near.fileno()] == READ
        poller.arm(near.fileno(), READ | WRITE)
        poller.arm(near.fileno(), READ)
        far.send(b"x")
        assert ready(poller, near.fileno()) == READ
        poller.kqueue = real
        poller.close()

    def test_deleting_what_is_not_there(self, queue: Any, pair: Pair) -> None:
        with pytest.raises(FileNotFoundError):
            queue.control([change(pair[0].fileno(), "READ", "DELETE")], 0)

    @pytest.mark.parametrize("verb", ["ADD", "DELETE"])
    def test_a_closed_descriptor(self, queue: Any, pair: Pair, verb: str) -> None:
        number = pair[0].fileno()
        pair[0].close()
        with pytest.raises(OSError) as refusal:
            queue.control([change(number, "READ", verb)], 0)
        assert refusal.value.errno == errno.EBADF

    def test_a_filter_goes_with_its_descriptor(self, queue: Any, pair: Pair) -> None:
        near, far = pair
        queue.control([change(near.fileno(), "READ", "ADD")], 0)
        with near.dup():
            near.close()
            far.send(b"x")
            assert queue.control(None, 10, 0) == []

    def test_a_file_at_its_end_is_not_readable(self, queue: Any, tmp_path: Path) -> None:
        with open(tmp_path / "file", "w+b", 0) as file:
            queue.control([change(file.fileno(), "READ", "ADD")], 0)
            assert queue.control(None, 10, 0) == []

    def test_dev_null_is_refused(self, queue: Any) -> None:
        with open(os.devnull, "r+b", 0) as file, pytest.raises(OSError):
            queue.control([change(file.fileno(), "WRITE", "ADD")], 0)


def change(fd: int, filter: str, verb: str) -> Any:
    queue = vars(select)
    return queue["kevent"](fd, queue[f"KQ_FILTER_{filter}"], queue[f"KQ_EV_{verb}"] | queue["KQ_EV_ONESHOT"])
