"""Text that cannot do anything but be read: for logs and terminals."""

from __future__ import annotations

# What never shows as a character of its own: C0, DEL and C1 controls (escape sequences begin with one), line and
# paragraph separators, and the marks that change the direction of the text around them.
UNSAFE = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in UNSAFE}
PLAIN = bytes(range(0x20, 0x7F))


def plain(data: bytes) -> bool:
    """Whether all of `data` is printable ASCII or b"\\n", as most is: then it may be shown as it is."""
    return not data.translate(None, PLAIN + b"\n")


def visible(data: bytes) -> str:
    """UTF-8 bytes as one line of text, with everything unsafe or invalid shown as an escape (ESC as \\x1b)."""
    return data.decode("utf-8", "backslashreplace").translate(ESCAPES)
