"""What publish() makes of messages, before it appends them to the feed."""

from __future__ import annotations

import pytest

from chat.framing import Messages
from chat.server.room import compose

TEXT = b"one\n\nthree\n"


@pytest.mark.parametrize("prefix", [b"ann: ", "ann: ", b"", ""])
def test_what_was_received_is_published_as_a_list_of_the_same_messages_is(prefix: bytes | str) -> None:
    lines, text = compose(prefix, Messages(TEXT))
    assert (lines, text) == compose(prefix, [b"one", b"", b"three"])
    start = prefix.encode() if isinstance(prefix, str) else prefix
    assert text == start + b"one\n" + start + b"\n" + start + b"three\n"


def test_what_a_handler_changes_is_published_as_it_left_it() -> None:
    messages = Messages(TEXT)
    assert compose(b"> ", messages)[1] == b"> one\n> \n> three\n"
    messages[0] = b"first"
    del messages[1]
    assert compose(b"> ", messages)[1] == b"> first\n> three\n"
    messages.clear()
    assert compose(b"> ", messages) == ([], b"")


def test_a_newline_that_a_handler_puts_into_what_it_received_is_refused() -> None:
    messages = Messages(TEXT)
    messages[0] += b"\ntwo"
    with pytest.raises(ValueError, match="a message is one line"):
        compose(b"> ", messages)


def test_a_newline_in_the_prefix_of_what_was_received_is_refused() -> None:
    with pytest.raises(ValueError, match="a prefix has no newline"):
        compose(b"ann\n", Messages(TEXT))


def test_a_bytearray_is_one_message() -> None:
    assert compose(b"", bytearray(b"one")) == ([b"one"], b"one\n")  # type: ignore[arg-type]


def test_a_prefix_of_what_was_received_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="a prefix is str or bytes, not 5"):
        compose(5, Messages(TEXT))  # type: ignore[arg-type]
