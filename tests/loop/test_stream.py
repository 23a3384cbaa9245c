"""System calls as coroutines, on real sockets and pipes. Time is not real: see Timeless."""

from __future__ import annotations

import errno
import os
import select
import socket
import termios
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from more import every
from pairs import Pair, fill
from timeless import Timeless

import loop.stream
from loop import (
    Kernel,
    ReadWait,
    Sleep,
    TimedOut,
    WriteWait,
    accept,
    connect,
    read,
    readable,
    recv,
    send,
    sleep,
    writable,
    write,
)

if TYPE_CHECKING:
    from loop.traps import Coroutine

pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")


class TroubledListener(socket.socket):
    """Listens on a port of its own; accept() raises what stands in `trouble` (None: nothing) before it goes on."""

    def __init__(self, *trouble: int | None) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.setblocking(False)
        self.trouble = list(trouble)

    def accept(self) -> tuple[socket.socket, Any]:
        number = self.trouble.pop(0) if self.trouble else None
        if number is not None:
            raise OSError(number, os.strerror(number))
        return super().accept()


class Guests:
    """Connections made to a listener, and those it has accepted."""

    def __init__(self, listener: TroubledListener, number: int) -> None:
        self.sockets = [socket.create_connection(listener.getsockname(), 2) for _ in range(number)]
        self.addresses = [sock.getsockname() for sock in self.sockets]

    def __enter__(self) -> Guests:
        return self

    def __exit__(self, *error: object) -> None:
        for sock in self.sockets:
            sock.close()

    def let_in(self, accepted: list[tuple[socket.socket, Any]]) -> list[Any]:
        """The addresses of those accepted."""
        self.sockets += [sock for sock, _ in accepted]
        return [address for _, address in accepted]


def result(kernel: Kernel, coroutine: Coroutine[Any]) -> Any:
    """Runs a coroutine to its end; returns its value, or raises what it raises."""
    values: list[Any] = []
    errors: list[Exception] = []

    def task() -> Coroutine[None]:
        try:
            values.append((yield from coroutine))
        except Exception as error:
            errors.append(error)

    kernel.run(until=kernel.spawn(task()))
    for error in errors:
        raise error
    return values[0]


def drain(sock: socket.socket) -> None:
    """Take all there is."""
    try:
        while True:
            sock.recv(65536)
    except BlockingIOError:
        pass


# accept


def test_accept_returns_all_connections_that_are_there(kernel: Kernel) -> None:
    with TroubledListener() as listener, Guests(listener, 5) as guests:
        accepted = result(kernel, accept(listener))
        assert guests.let_in(accepted) == guests.addresses
        assert [sock.getblocking() for sock, _ in accepted] == [False] * 5


def test_accept_returns_at_most_so_many_and_the_others_later(kernel: Kernel) -> None:
    with TroubledListener() as listener, Guests(listener, 5) as guests:
        batches = [guests.let_in(result(kernel, accept(listener, 2))) for _ in range(3)]
        assert batches == [guests.addresses[:2], guests.addresses[2:4], guests.addresses[4:]]


def test_accept_waits_first(kernel: Kernel) -> None:
    with TroubledListener() as listener, Guests(listener, 1):
        assert type(next(accept(listener))) is ReadWait


def test_accept_waits_on_after_a_false_alarm(kernel: Kernel) -> None:
    with TroubledListener(errno.EAGAIN, errno.EAGAIN) as listener, Guests(listener, 1) as guests:
        assert guests.let_in(result(kernel, accept(listener))) == guests.addresses
        assert listener.trouble == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED])
def test_accept_raises_what_went_wrong_and_may_be_called_again(kernel: Kernel, number: int) -> None:
    with TroubledListener(number, number) as listener, Guests(listener, 2) as guests:
        for _ in range(2):
            with pytest.raises(OSError) as trouble:
                result(kernel, accept(listener))
            assert trouble.value.errno == number
        assert guests.let_in(result(kernel, accept(listener))) == guests.addresses


def test_accept_loses_no_connection_that_came_before_the_error(kernel: Kernel) -> None:
    with TroubledListener(None, None, errno.EMFILE, errno.EMFILE) as listener, Guests(listener, 3) as guests:
        assert guests.let_in(result(kernel, accept(listener))) == guests.addresses[:2]
        with pytest.raises(OSError) as trouble:
            result(kernel, accept(listener))
        assert trouble.value.errno == errno.EMFILE
        assert guests.let_in(result(kernel, accept(listener))) == guests.addresses[2:]


# connect


def test_connect(kernel: Kernel) -> None:
    with TroubledListener() as listener, socket.socket() as sock:
        sock.setblocking(False)
        result(kernel, connect(sock, listener.getsockname(), timeout=5))
        assert sock.getpeername() == listener.getsockname()
        result(kernel, accept(listener))[0][0].close()


def test_connect_refused(kernel: Kernel) -> None:
    with socket.socket() as nobody, socket.socket() as sock:
        nobody.bind(("127.0.0.1", 0))  # never listens
        sock.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            result(kernel, connect(sock, nobody.getsockname(), timeout=5))


def test_connect_has_a_timeout(kernel: Kernel, world: Timeless, pair: Pair) -> None:
    class Slow(socket.socket):
        def connect_ex(self, address: object) -> int:
            return errno.EINPROGRESS

    near, _ = pair
    fill(near)  # never writable
    with Slow(fileno=near.dup().detach()) as sock:
        with pytest.raises(TimedOut):
            result(kernel, connect(sock, "nowhere", timeout=5))
        assert world.now == 1005


def test_connect_does_not_believe_one_wakeup(kernel: Kernel) -> None:
    """The connection is refused, and a task that reads from it at the same time is told first."""
    with socket.socket() as nobody, socket.socket() as sock:
        nobody.bind(("127.0.0.1", 0))  # never listens
        sock.setblocking(False)
        seen: list[Any] = []

        def steal() -> Coroutine[None]:
            try:
                yield from recv(sock, 100)
            except OSError as error:
                seen.append(type(error))

        coroutine = connect(sock, nobody.getsockname())
        trap = next(coroutine)
        assert isinstance(trap, WriteWait)
        result(kernel, steal())
        assert seen == [ConnectionRefusedError]
        with pytest.raises(OSError):
            for _ in coroutine:
                pass


def test_connect_waits_on_after_a_false_alarm(kernel: Kernel) -> None:
    class Busy(socket.socket):
        answers: ClassVar = [errno.EINPROGRESS, errno.EALREADY, errno.EALREADY, errno.EINTR, errno.EISCONN]

        def connect_ex(self, address: object) -> int:
            return self.answers.pop(0)

    with Busy() as sock:
        sock.setblocking(False)
        assert [type(trap) for trap in connect(sock, ("127.0.0.1", 1))] == [WriteWait] * 4


def test_a_socket_is_not_connected_to_itself(kernel: Kernel) -> None:
    """At a port of the range from which the system picks, TCP does that when nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            result(kernel, connect(sock, sock.getsockname(), timeout=5))


# recv and send


def test_recv_returns_what_has_arrived(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    far.send(b"hello")
    assert result(kernel, recv(near, 4)) == b"hell"
    assert result(kernel, recv(near, 4)) == b"o"


def test_recv_returns_nothing_at_the_end_of_the_stream(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    far.send(b"last words")
    far.close()
    assert [result(kernel, recv(near, 100)) for _ in range(3)] == [b"last words", b"", b""]


def test_recv_raises_what_went_wrong(kernel: Kernel) -> None:
    with TroubledListener() as listener, Guests(listener, 1) as guests:
        near = result(kernel, accept(listener))[0][0]
        with near:
            near.send(b"unread")
            guests.sockets[0].close()  # with unread input: a reset
            with pytest.raises(ConnectionResetError):
                result(kernel, recv(near, 100, timeout=5))


def test_recv_has_a_timeout(kernel: Kernel, world: Timeless, pair: Pair) -> None:
    with pytest.raises(TimedOut):
        result(kernel, recv(pair[0], 100, timeout=5))
    assert world.now == 1005


def test_recv_waits_first_and_on_after_a_false_alarm(pair: Pair) -> None:
    near, far = pair
    coroutine = recv(near, 100, timeout=5)
    for _ in range(3):
        trap = next(coroutine)
        assert isinstance(trap, ReadWait)
        assert (trap.fd, trap.timeout) == (near.fileno(), 5)
    far.send(b"now")
    with pytest.raises(StopIteration) as end:
        next(coroutine)
    assert end.value.value == b"now"


def test_send_does_not_wait_if_there_is_room(pair: Pair) -> None:
    near, far = pair
    assert list(send(near, b"hello")) == []
    assert far.recv(100) == b"hello"


def test_send_of_nothing_returns_even_if_there_is_no_room(pair: Pair) -> None:
    fill(pair[0])
    assert list(send(pair[0], b"")) == []


def test_send_waits_on_after_a_false_alarm(pair: Pair) -> None:
    near, _ = pair
    fill(near)
    coroutine = send(near, b"x", timeout=5)
    for _ in range(3):
        trap = next(coroutine)
        assert isinstance(trap, WriteWait)
        assert (trap.fd, trap.timeout) == (near.fileno(), 5)


def test_send_delivers_all_of_it_in_order_to_a_slow_reader(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    data = b"".join(b"%06d\n" % number for number in range(200_000))
    received = bytearray()

    def reader() -> Coroutine[None]:
        while len(received) < len(data):
            received.extend((yield from recv(far, 10_000)))

    writer = kernel.spawn(send(near, data))
    kernel.turn()
    assert writer.outcome is None  # more than there is room for
    kernel.spawn(reader())
    kernel.run()
    assert writer.outcome == "returned"
    assert received == data


def test_send_raises_what_went_wrong(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    far.close()
    with pytest.raises(BrokenPipeError):
        result(kernel, send(near, b"x"))


def test_send_to_a_peer_that_takes_nothing_times_out(kernel: Kernel, world: Timeless, pair: Pair) -> None:
    near, _ = pair
    with pytest.raises(TimedOut):
        result(kernel, send(near, bytes(2_000_000), timeout=5))
    assert world.now == 1005


def test_the_timeout_of_send_runs_anew_when_the_peer_takes_something(
    kernel: Kernel, world: Timeless, pair: Pair
) -> None:
    near, far = pair
    size = 2_000_000

    def slow_reader() -> Coroutine[None]:
        left = size
        while left:
            yield from sleep(4)
            left -= len(far.recv(200_000))

    kernel.spawn(slow_reader())
    result(kernel, send(near, bytes(size), timeout=5))
    assert world.now > 1005


# Files and time


def test_read_returns_what_there_is_and_nothing_at_the_end(kernel: Kernel) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", 0) as read_end, open(writer, "wb", 0) as write_end:
        write_end.write(b"by file")
        assert result(kernel, read(read_end, 100)) == b"by file"
        write_end.write(b"by number")
        assert result(kernel, read(reader, 100)) == b"by number"
        write_end.close()
        assert [result(kernel, read(read_end, 100)) for _ in range(2)] == [b"", b""]


def test_read_waits_first_and_on_after_a_false_alarm(pair: Pair) -> None:
    near, far = pair
    coroutine = read(near, 100)
    for _ in range(3):
        assert type(next(coroutine)) is ReadWait
    far.send(b"now")
    with pytest.raises(StopIteration) as end:
        next(coroutine)
    assert end.value.value == b"now"


def test_hazard_03_read_leaves_a_number_alone_that_belongs_to_somebody_else_by_now(pair: Pair) -> None:
    """The file is closed between its readiness and its reader's step, and its number is used again."""
    near, far = pair
    reader, writer = os.pipe()
    with open(writer, "wb", 0), open(reader, "rb", 0) as read_end:
        coroutine = read(read_end, 100)
        next(coroutine)
        read_end.close()
        with socket.socket(fileno=os.dup2(near.fileno(), reader)):
            far.send(b"for somebody else")
            with pytest.raises((OSError, ValueError)):
                next(coroutine)
            assert near.recv(100) == b"for somebody else"


def test_write_delivers_all_of_it_to_a_slow_reader_through_a_blocking_pipe(kernel: Kernel) -> None:
    """Were it written at once, it would block for ever: the reader is a task of the same thread."""
    data = b"".join(b"%06d\n" % number for number in range(50_000))
    received = bytearray()
    reader, writer = os.pipe()
    with open(reader, "rb", 0) as read_end, open(writer, "wb", 0) as write_end:

        def slow_reader() -> Coroutine[None]:
            while len(received) < len(data):
                yield from sleep(1)
                received.extend((yield from read(read_end, 10_000)))

        task = kernel.spawn(write(write_end.fileno(), data))
        result(kernel, slow_reader())
    assert task.outcome == "returned"
    assert received == data


def test_write_waits_first_and_on_after_a_false_alarm(pair: Pair) -> None:
    """The descriptor may be non-blocking: a standard stream is shared with others, and so are its flags."""
    near, far = pair
    fill(near)
    coroutine = write(near.fileno(), b"x")
    for _ in range(3):
        assert type(next(coroutine)) is WriteWait
    drain(far)
    assert list(coroutine) == []
    assert far.recv(100) == b"x"


def test_write_waits_on_if_another_process_has_used_the_room(
    kernel: Kernel, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    os_write, troubles = os.write, [BlockingIOError()] * 3

    def late(fd: int, data: bytes) -> int:
        if troubles:
            raise troubles.pop()
        return os_write(fd, data)

    monkeypatch.setattr(os, "write", late)
    result(kernel, write(near.fileno(), b"at last"))
    assert far.recv(100) == b"at last"


def test_write_goes_on_where_a_partial_write_ended(kernel: Kernel, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = pair
    os_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: os_write(fd, data[:3]))
    result(kernel, write(near.fileno(), b"all of it"))
    assert far.recv(100) == b"all of it"


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    every(2, [b"a\tb" * 4500, b"text\n" * 4500, "schön € \x1b[1m\n".encode() * 2000, b"\n" * 15_000]),
    ids="tabs lines any ends".split(),
)
def test_write_never_waits_for_a_terminal(kernel: Kernel, text: bytes) -> None:
    """It is blocking, and nobody reads while it counts as writable; then somebody reads it all."""
    master, slave = os.openpty()
    shown = bytearray()

    def reader() -> Coroutine[None]:
        while not shown.endswith(b"THE END"):
            shown.extend((yield from read(master, 1900)))

    mode = termios.tcgetattr(slave)
    mode[1] |= termios.OPOST | termios.ONLCR | termios.TAB3  # a tab becomes spaces
    termios.tcsetattr(slave, termios.TCSANOW, mode)
    try:
        task = kernel.spawn(write(slave, text + b"THE END"))
        kernel.run(until=kernel.spawn(sleep(1)))
        assert task.outcome is None
        result(kernel, reader())
    finally:
        os.close(master)
        os.close(slave)
    assert task.outcome == "returned"
    assert shown.replace(b"\r\n", b"\n") == (text + b"THE END").expandtabs()


@pytest.mark.timeout(30)
def test_write_lets_another_task_have_the_room(kernel: Kernel, pair: Pair) -> None:
    """Two write to the same blocking pipe or terminal; both are woken, and there is room for one."""
    master, slave = os.openpty()
    other = os.dup(slave)
    try:
        tasks = [kernel.spawn(write(fd, b"text\n" * 3000)) for fd in (slave, other)]
        kernel.run(until=kernel.spawn(sleep(1)))
        while not all(task.outcome for task in tasks):
            os.read(master, 5000)
            kernel.run(until=kernel.spawn(sleep(1)))
    finally:
        for fd in master, slave, other:
            os.close(fd)


def test_writable(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    result(kernel, writable(near))
    fill(near)
    task = kernel.spawn(writable(near))
    result(kernel, sleep(1))
    assert task.outcome is None
    drain(far)
    kernel.run()
    assert task.outcome == "returned"


def test_readable_takes_nothing(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    task = kernel.spawn(readable(near))
    result(kernel, sleep(1))
    assert task.outcome is None
    far.send(b"still there")
    kernel.run()
    assert task.outcome == "returned"
    assert near.recv(100) == b"still there"


@pytest.mark.parametrize("wait", [readable, writable])
def test_readable_and_writable_have_a_timeout(
    kernel: Kernel, world: Timeless, pair: Pair, wait: Callable[..., Coroutine[None]]
) -> None:
    fill(pair[0])
    with pytest.raises(TimedOut):
        result(kernel, wait(pair[0], timeout=5))
    assert world.now == 1005


def test_sleep_takes_its_time_and_no_more(kernel: Kernel, world: Timeless) -> None:
    result(kernel, sleep(2.5))
    assert world.now == 1002.5
    result(kernel, sleep(0))
    assert world.now == 1002.5
    assert [type(trap) for trap in sleep(1)] == [Sleep]


def test_sleep_does_not_take_none_for_ever() -> None:
    with pytest.raises(TypeError, match="a number of seconds, not None"):
        next(sleep(None))  # type: ignore[arg-type]


def test_room_in_a_pipe_that_another_process_has_used_meanwhile_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    try:
        os.pwritev(writer, [b"x"], -1, os.RWF_NOWAIT)
    except (AttributeError, OSError):
        os.close(reader)
        os.close(writer)
        pytest.skip("this system cannot write to a blocking pipe without waiting")
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    there_was_room = SimpleNamespace(select=lambda *_: ([], [writer], []), PIPE_BUF=select.PIPE_BUF)
    monkeypatch.setattr(loop.stream, "select", there_was_room)
    assert loop.stream.write_some(writer, b"text") == 0
    os.close(reader)
    os.close(writer)
