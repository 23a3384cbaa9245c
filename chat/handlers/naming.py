"""Nicknames of which no two look alike, for `nick` and `irc`."""

# ruff: noqa: RUF001 (letters that look alike are what this is about)

from __future__ import annotations

from unicodedata import category, normalize
from unicodedata import name as name_of

LONGEST = 20  # characters
DIGITS = "0123456789"
ALPHABETS = set(
    "LATIN GREEK CYRILLIC ARMENIAN GEORGIAN HEBREW ARABIC ETHIOPIC DEVANAGARI BENGALI GURMUKHI GUJARATI TAMIL TELUGU "
    "KANNADA MALAYALAM SINHALA THAI LAO MYANMAR KHMER TIBETAN HANGUL HIRAGANA KATAKANA CJK".split()
)
# Each pair: a character, and the Latin letter that it or its capital looks like ("il": a capital i looks like l)
PAIRS = (
    "аa вb еe гr кk мm нh оo рp сc тt уy хx іl јj ѕs һh ӏl ԁd ԛq ԝw ѵv "  # Cyrillic
    "αa βb εe ζz ηh ιl κk μm νn οo ρp τt υy χx "  # Greek
    "օo սu ոn հh յj զq "  # Armenian
    "ɑa ɡg ıl il |l 1l 0o"
)
ALIKE = {ord(pair[0]): pair[1] for pair in PAIRS.split()}


def proper(text: str, signs: str = "-_") -> str:
    """The name as it is shown: `text`, with plain characters instead of wide or narrow ones.

    A name has 1 to LONGEST characters: at least one letter, all letters from one alphabet, and perhaps digits and
    `signs`. It does not begin with a digit or with `-`. Raises ValueError if `text` is no name.
    """
    name = normalize("NFKC", text)
    alphabets = {alphabet(character) for character in name if character not in DIGITS + signs}
    if len(name) > LONGEST or len(alphabets) != 1 or not alphabets <= ALPHABETS or name[0] in DIGITS + "-":
        raise ValueError(
            f"A name has 1 to {LONGEST} characters: letters of one alphabet, digits and {signs}; "
            "a digit or - cannot be the first"
        )
    return name


def alphabet(character: str) -> str:
    """The alphabet of a letter, or of a sign that belongs to one: the first word of its name in Unicode, as a rule."""
    word, _, rest = name_of(character, "").replace("-", " ").partition(" ")
    invisible = "FILLER" in rest or "INHERENT" in rest
    small_capital = word == "LATIN" and rest.startswith("LETTER")
    if category(character)[0] not in "LM" or invisible or small_capital:
        return ""
    return word


def key(name: str) -> str:
    """The same text for all names that look alike: names that differ only in case, in width, or by one of PAIRS."""
    return normalize("NFD", normalize("NFKC", name).casefold()).translate(ALIKE)
