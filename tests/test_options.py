from __future__ import annotations

import contextlib
import io

import pytest

from chat.options import Flags
from chat.server.flags import Options, declare, make_parser

UNDERSTOOD = [
    "",
    "--port 0",
    "--port=0",
    "--port 1 --port 2",
    "--host 127.0.0.1 --port 3101 --no-prefix --quiet",
    "--host=",
    "--max-lag 4k --max-rate=1M --max-clients 7 --max-per-ip 0",
    "--stall-timeout off --idle-timeout=0.5",
    "--handler a.b:c --trace file,3",
    "--cluster redis://h:1/2?stream=x&maxlen=9 --cluster-wait --share-port --timestamps",
]
LEFT = [
    *("--help", "--version", "--nonsense", "--po 1", "--port", "--port --quiet", "--port x", "--quiet=1", "word", "--"),
    *("-q", "--max-per-ip -1", "--max-lag 1T", "--host -"),
]


@pytest.mark.parametrize("line", UNDERSTOOD + LEFT)
def test_a_command_line_means_what_argparse_says_or_is_left_to_it(line: str) -> None:
    flags, options = Flags(), Options()
    declare(flags.add_argument)
    understood = flags.understand(line.split(), options)
    assert understood == (line in UNDERSTOOD)
    if understood:
        assert vars(options) == vars(make_parser().parse_args(line.split(), namespace=Options()))


@pytest.mark.parametrize("about", [{"nargs": "?"}, {"choices": ["a"]}, {"action": "append"}, {"action": "count"}])
def test_a_flag_that_does_more_is_left_to_argparse(about: dict[str, object]) -> None:
    flags = Flags()
    flags.add_argument("--flag", **about)
    assert not flags.understand(["--flag", "a"], Options())


def test_nobody_is_told_anything_meanwhile() -> None:
    flags, heard = Flags(), io.StringIO()
    declare(flags.add_argument)
    with contextlib.redirect_stderr(heard):
        assert not flags.understand(["--port", "nowhere"], Options())
    assert not heard.getvalue()
