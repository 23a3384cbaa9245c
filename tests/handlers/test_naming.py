"""Names that cannot be taken for one another."""

# ruff: noqa: RUF001 (letters that look alike are what this is about)

from __future__ import annotations

import pytest

from chat.handlers.naming import LONGEST, key, proper


@pytest.mark.parametrize(
    "name", ["ann", "Ann", "a", "_ann", "ann-1_2", "José", "Jose\u0301", "Νίκος", "Ваня", "田中", "ひろし", "안녕",
             "हिन्दी", "สมชาย", "משה", "ß", "x" * LONGEST],
)  # fmt: skip
def test_names_that_are_fine(name: str) -> None:
    assert proper(name) in (name, "José")


@pytest.mark.parametrize(
    "name",
    [
        "", "x" * (LONGEST + 1), "two words", "ann:", "*", "(ann", "a/b", "a\tb", "ann\n", "\x1b[2J", "a\x7f",  # signs
        "1ann", "-ann", "7", "_", "-_-",  # no letter, or not in front
        "аnn", "annα", "田中さん", "abc\u0430",  # letters of two alphabets
        "an\u200bn", "an\u200dn", "\u2060ann", "ann\ufeff", "a\u00adnn", "a\ufe0fnn", "\u202eann", "a\u034fnn",
        "\u061cann",
        "\u3164", "\u115fann", "ᅠ", "\u17b4", "ann\u2800", "a\u180b", "\U000e0061nn",  # what cannot be seen
        "ann\u0301\u0302\u0303", "ᴀnn", "ǀnn", "☃", "😀", "a\ud800", "a\ue000", "\u0378", "Ꭺnn", "ꓮ",  # what confuses
    ],
)  # fmt: skip
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"^A name has 1 to 20 characters: letters of one alphabet, digits and -_; "):
        proper(name)


@pytest.mark.parametrize(
    "one, other",
    [
        ("ann", "ANN"), ("ann", "Ａｎｎ"), ("José", "JOSE\u0301"), ("ß", "SS"), ("ﬁn", "FIN"), ("Å", "å"),
        ("coco", "Сосо"), ("TOM", "ТОМ"), ("nina", "ΝΙΝΑ"), ("ВАСЯ", "вася"), ("ëë", "ёё"),
        ("guest1", "guestl"), ("Bill", "BiIl"), ("bob", "b0b"), ("ılk", "ilk"), ("gag", "ɡɑɡ"), ("oo", "օօ"),
    ],
)  # fmt: skip
def test_names_that_look_alike_have_one_key(one: str, other: str) -> None:
    assert key(proper(one)) == key(proper(other))
    assert key(proper(proper(one))) == key(proper(one))


def test_names_that_do_not_look_alike_have_different_keys() -> None:
    names = ["ann", "anna", "nan", "ann1", "ann2", "an-n", "an_n", "José", "Jose", "Ваня", "Аня", "Νίκος", "田中", "田"]
    assert len({key(proper(name)) for name in names}) == len(names)


def test_a_name_is_shown_in_its_plain_form() -> None:
    assert proper("Ａｎｎ") == "Ann"
    assert proper("Jose\u0301") == "José"


def test_other_signs_can_be_allowed() -> None:
    assert proper("[ann]", "-_[]") == "[ann]"
    with pytest.raises(ValueError):
        proper("[ann]")
