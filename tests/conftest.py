"""What all tests may use."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import forked
import hypothesis
import pytest
from certificates import Authority
from chatting import Chatsrv, Crowd
from pairs import Pair
from timeless import Timeless
from wires import House, Toy

import chat.handlers.chat
import chat.server.outbox
from chat.server.flags import Options
from loop import Kernel
from loop.trace import TracedKernel

if TYPE_CHECKING:
    from typing import Any

    from cluster.real import Stage

    from chat.server.loading import Handler

Build = Callable[..., House]  # the fixture `house`

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # servers are started by the hundred: compile them once

# Under nohup, or in the background of a script, signals are ignored, and would be in all programs that are started.
for number in signal.SIGHUP, signal.SIGINT, signal.SIGQUIT:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# The same examples in each run; HYPOTHESIS=search tries others. No deadline: a time, on a busy machine, says nothing.
hypothesis.settings.register_profile("few", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.register_profile("many", max_examples=300, deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", max_examples=300, deadline=None)


# Files and tests that --fast leaves out: they start many programs, wait for what takes its time, or try very much.
SLOW = set(
    "TestAgainstAModel test test_bench test_certificate test_client test_client_faults test_cluster "
    "test_cluster_ends test_cluster_handlers test_cluster_load test_cluster_losses test_cluster_tls "
    "test_cluster_ways test_cluster_world test_faults test_gallery test_install test_ladder test_limits "
    "test_listen test_main test_perfetto test_readme test_sending test_simulation test_speed_guards test_stdout "
    "test_terminal test_trust test_watchdog test_web test_web_fuzz test_web_page test_web_proxy test_web_tls "
    "test_world test_a_change_makes_the_test_fail_that_is_named test_both_answer_alike "
    "test_a_client_that_asks_for_the_names_and_does_nothing_else test_a_mistake_costs_its_own_member_only "
    "test_a_picture_is_what_its_script_draws test_a_very_long_chain_is_freed_without_recursion "
    "test_a_wait_queue_takes_time_by_the_number_of_its_waiters test_any_cut_of_any_conversation "
    "test_any_cut_of_any_stream test_any_operations_in_any_order_over_many_outboxes "
    "test_each_code_point_is_shown_or_an_escape test_entries_are_bounded "
    "test_every_way_of_cutting_around_the_limit test_messages_are_one_or_many_text_or_bytes "
    "test_no_system_call_while_nothing_happens test_no_word_of_the_help_is_broken test_the_cost_is_linear "
    "test_the_lag_is_about_what_it_costs_to_keep test_the_line_is_shown_once_and_whole_whatever_happens "
    "test_the_order_is_that_without_a_cluster test_the_program_says_so_and_ends "
    "test_the_recording_is_what_its_script_records "
    "test_the_rest_of_a_command_that_is_too_long_is_neither_heard_nor_obeyed test_trimming_is_about "
    "test_what_has_changed_is_laid_out_as_if_it_were_new "
    "test_what_was_begun_is_finished_and_the_rest_is_given_back "
    "test_whatever_a_dropped_task_does_about_it_is_swallowed test_whatever_disappears_is_counted "
    "test_where_the_input_is_cut_makes_no_difference test_write_lets_another_task_have_the_room "
    "test_write_never_waits_for_a_terminal".split()
)

# Files whose tests share what takes seconds to start or to build. They come first: with xdist, each worker begins with
# a piece of the list, and takes from others only what they would have done last. So one worker has them all.
SHARING = ["test_web_page", "test_install"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out the tests named in conftest.SLOW")
    parser.addoption("--more", action="store_true", help="more seeds and examples, and all that is marked so")


def pytest_configure(config: pytest.Config) -> None:
    examples = "many" if config.getoption("more") else "few"
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS", examples))
    gc.disable()  # until all tests are collected: it finds next to nothing, and takes a fifth of the time


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("more"):
        items[:] = [item for item in items if not item.get_closest_marker("more")]
    if config.getoption("fast"):
        items[:] = [item for item in items if SLOW.isdisjoint(names(item))]
    items.sort(key=lambda item: item.path.stem not in SHARING)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no collection of garbage has to look at it again."""
    gc.freeze()
    gc.enable()


def names(item: pytest.Item) -> set[str]:
    """The file of a test, its class and its function."""
    return {item.path.stem, *(name.partition("[")[0] for name in item.nodeid.split("::")[1:])}


@pytest.fixture
def no_descriptor_is_left() -> Iterator[None]:
    """For all tests of a module: `pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")`."""
    before = set(os.listdir("/dev/fd"))
    yield
    assert set(os.listdir("/dev/fd")) <= before, "the test has left descriptors open"


# For tests that need a kernel.


@pytest.fixture
def world() -> Iterator[Timeless]:
    """A poller and a clock that never keep a test waiting."""
    world = Timeless()
    yield world
    world.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What the tests of loop/ say of a kernel holds of one that is traced as well."""
    if "kernel" in metafunc.fixturenames and metafunc.definition.path.parent.name == "loop":
        metafunc.parametrize("kernel", [Kernel, TracedKernel], ids=["plain", "traced"], indirect=True)


@pytest.fixture
def kernel(request: pytest.FixtureRequest, world: Timeless) -> Kernel:
    kernel: Kernel = getattr(request, "param", Kernel)(world, world.clock)
    return kernel


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two non-blocking sockets, connected to each other."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


another_pair = pair


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many segments of feeds there are, in a list of one."""
    count = [0]

    class Counted(chat.server.outbox.Segment):
        __slots__ = ()

        def __init__(self, start: int) -> None:
            count[0] += 1
            super().__init__(start)

        def __del__(self) -> None:
            count[0] -= 1

    monkeypatch.setattr(chat.server.outbox, "Segment", Counted)
    return count


# For tests that need a chat.


@pytest.fixture(scope="session", autouse=True)
def forkers() -> Iterator[None]:
    """Let servers and clients be forked, where there are pidfds; not while coverage is measured: each must start it."""
    if has_pidfds() and "coverage" not in sys.modules:
        forked.forkers += [forked.Forker(forked.SERVER, os.environ), forked.Forker(forked.CLIENT, forked.ENVIRONMENT)]
    yield
    while forked.forkers:
        forked.forkers.pop().close()


def has_pidfds() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


@pytest.fixture
def started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is forked."""
    monkeypatch.setattr(forked, "forkers", [])


@pytest.fixture
def chatsrv(no_descriptor_is_left: None) -> Iterator[Callable[..., Chatsrv]]:
    """Starts servers: `chatsrv("--quiet", ...)`. Each is ended and checked after the test; see Chatsrv.finish."""
    servers: list[Chatsrv] = []

    def start(*flags: str, **more: object) -> Chatsrv:
        servers.append(Chatsrv(*flags, **more))  # type: ignore[arg-type]
        return servers[-1]

    try:
        yield start
        for server in servers:
            server.finish()
    finally:
        for server in servers:
            server.destroy()
            for client in server.clients:
                client.close()


@pytest.fixture
def stage(tmp_path: Path, no_descriptor_is_left: None) -> Iterator[Stage]:
    """A Redis, and what it takes to have nodes and clients."""
    from cluster.real import Stage

    stage = Stage(tmp_path)
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Chatsrv]:
    """One server for all tests of a module."""
    server = Chatsrv()
    try:
        yield server
        server.finish()
    finally:
        server.destroy()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """Clients by the hundred; whatever is left of them is closed after the test."""
    crowd = Crowd()
    yield crowd
    crowd.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Enough of them for a thousand clients in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def house(kernel: Kernel, world: Timeless, tmp_path: Path) -> Iterator[Build]:
    """Opens servers without waiting: house(handler, wire=Toy, stall_timeout=...); see wires.House."""
    houses: list[House] = []

    def build(handler: Handler = chat.handlers.chat.chat, wire: Any = Toy, **flags: Any) -> House:
        options = Options()
        vars(options).update({"prefix": False, "max_clients": 100, **flags})
        houses.append(House(kernel, world, tmp_path / "journal", handler, options, wire))
        return houses[-1]

    yield build
    for opened in houses:
        opened.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Makes certificates."""
    return Authority(tmp_path_factory.mktemp("certificates"))
