"""Text made harmless: every code point there is, and what emoji may keep."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from collections.abc import Iterable

import pytest
from chatting import ROOT
from more import only_with_more

from chat.escape import ESCAPES, harmless, plain, visible

OTHER = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@pytest.mark.parametrize(
    "codes",
    [
        [*range(0x40000), *range(0xE0000, 0xE1000), sys.maxunicode],  # where characters are, or may be soon
        only_with_more(range(sys.maxunicode + 1)),
    ],
    ids="assigned all".split(),
)
def test_each_code_point_is_shown_or_an_escape(codes: Iterable[int]) -> None:
    unseen = 0
    for code in codes:
        char = chr(code)
        escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        if unicodedata.category(char) in OTHER:
            assert harmless(char) == escape, escape
        elif harmless(char) != char:
            assert harmless(char) == escape
            unseen += 1
    assert unseen < 300, "what is neither a control nor a format character is shown, with few exceptions"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200bb\ufeff\u2060\u206a\U000e0041", r"a\u200bb\ufeff\u2060\u206a\U000e0041"),
        ("\u202etxet\u2066\u200e\u061c", r"\u202etxet\u2066\u200e\u061c"),
        ("a\r\n\x1b[31m\x7f\x9b\u2028\u2029\x85", r"a\x0d\x0a\x1b[31m\x7f\x9b\u2028\u2029\x85"),
        ("\ue000\U0010fffd\ufffe\u0378", r"\ue000\U0010fffd\ufffe\u0378"),
        ("soft\xadhyphen, \u0600, \u06dd", r"soft\xadhyphen, \u0600, \u06dd"),
        ("\u3164\uffa0\u115f\u1160\u034f\u180b\u17b4", r"\u3164\uffa0\u115f\u1160\u034f\u180b\u17b4"),
        ("a\ufe0f 你\ufe00 a\U000e0100", r"a\ufe0f 你\ufe00 a\U000e0100"),
        ("a\u200db\u200cc", r"a\u200db\u200cc"),
        ("no-break\xa0and wide\u3000spaces e\u0301 ש", "no-break\xa0and wide\u3000spaces e\u0301 ש"),
    ],
)
def test_what_is_not_seen_is_an_escape(text: str, shown: str) -> None:
    assert harmless(text) == shown


@pytest.mark.parametrize(
    "emoji",
    [
        "👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "❤\ufe0e",
        "1\ufe0f\u20e3",
        "👍🏽",
        "🇩🇪",
        "👩🏽\u200d❤\ufe0f\u200d👨🏻",
        "🏳\ufe0f\u200d🌈",
    ],
)
def test_emoji_keep_what_joins_them(emoji: str) -> None:
    assert harmless(emoji) == emoji
    assert harmless(f"a {emoji}\x1b{emoji}") == rf"a {emoji}\x1b{emoji}"
    assert harmless(f"{emoji}\u200d!") == rf"{emoji}\u200d!", "but not at its end"


def test_bytes_that_are_no_utf8_are_escapes() -> None:
    assert visible(b"a\xff\xed\xa0\x80\xc3") == r"a\xff\xed\xa0\x80\xc3"
    assert visible("你".encode()) == "你"


def test_plain_is_what_needs_no_look() -> None:
    assert plain(b"plain ~ text\nof two lines")
    assert not any(plain(bytes([code])) for code in range(256) if not 0x20 <= code < 0x7F and code != 10)


def test_a_flood_of_odd_characters_is_not_remembered() -> None:
    harmless("".join(map(chr, range(0x80, 0x20000))))
    assert len(ESCAPES) <= 1000


def test_the_server_starts_without_unicodes_tables() -> None:
    program = "import sys, chat.server.main; sys.exit('unicodedata' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
