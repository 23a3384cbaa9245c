"""Text made harmless for logs and terminals.

Unicode's categories decide. str.isprintable() refuses controls, format characters (bidi marks, zero-width spaces), line
and paragraph separators, private and unassigned characters, halves of surrogate pairs, and spaces other than ASCII's.
All of these become escapes here, except the spaces. A few more characters become escapes: fillers and variation
selectors, which are printable by category, but cannot be seen. An emoji can have such selectors in it, and U+200D can
join several emoji into one. Inside an emoji, these characters change what is seen. So they stay there.
"""

from __future__ import annotations

PLAIN = bytes(range(0x20, 0x7F))
SPACES = {*"\xa0\u1680\u202f\u205f\u3000", *map(chr, range(0x2000, 0x200B))}
UNSEEN = {
    *"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0\U0001d159",
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
}
JOINERS = "\u200d\ufe0e\ufe0f"  # characters that may be inside an emoji
PICTURE = (  # one emoji, perhaps with a variation selector and a skin tone
    "[\xa9\xae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d"
    "\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001faff][\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?"
)
EMOJI = f"[#*0-9]\ufe0f\u20e3|{PICTURE}(?:\u200d{PICTURE}){{0,9}}"  # a keycap, or a picture, or several joined


def plain(data: bytes) -> bool:
    """Whether all of `data` is printable ASCII or b"\\n", as most data is. Then it can be shown unchanged."""
    return not data.translate(None, PLAIN + b"\n")


def visible(data: bytes) -> str:
    """UTF-8 bytes as one line of text, with everything unsafe or invalid shown as an escape (ESC as \\x1b)."""
    return harmless(data.decode("utf-8", "backslashreplace"))


def harmless(text: str) -> str:
    """The text as one line, with an escape for each character that is unprintable or invisible."""
    if text.isprintable() and (text.isascii() or UNSEEN.isdisjoint(text)):
        return text
    if not any(joiner in text for joiner in JOINERS):
        return text.translate(ESCAPES)
    try:
        import re  # only now: most text does without it
    except (ImportError, OSError):
        return text.translate(ESCAPES)  # no descriptor is free: better an emoji in parts than no message

    parts = re.split(f"({EMOJI})", text)  # the second, the fourth and so on are emoji
    for index, part in enumerate(parts):
        emoji = index % 2 == 1
        if not emoji or not part.replace("\u200d", "").isprintable():
            parts[index] = part.translate(ESCAPES)
    return "".join(parts)


class Escapes(dict):  # type: ignore[type-arg] # of int and str
    """What is shown for each character outside emoji, for str.translate.

    Remembers only a thousand of them, since a peer may send all the characters that there are.
    """

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if (char.isprintable() or char in SPACES) and char not in UNSEEN:
            shown = char
        elif code < 0x100:
            shown = f"\\x{code:02x}"
        elif code < 0x10000:
            shown = f"\\u{code:04x}"
        else:
            shown = f"\\U{code:08x}"
        if len(self) < 1000:
            self[code] = shown
        return shown


ESCAPES = Escapes()
