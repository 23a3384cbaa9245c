"""What framing should do, written from the protocol's rules to be obviously right, however slow."""

from __future__ import annotations

LIMIT = 1024


def frames(stream: bytes) -> list[bytes]:
    """The messages of a whole stream that has ended."""
    *lines, rest = stream.split(b"\n")
    messages = []
    for line in lines:
        messages += parts(line[:-1] if line.endswith(b"\r") else line)
    return messages + (parts(rest) if rest else [])


def parts(line: bytes) -> list[bytes]:
    """A line packed into parts of at most LIMIT bytes, without breaking a character; an invalid byte stands alone."""
    if len(line) <= LIMIT:
        return [line]
    packed = [b""]
    for character in line.decode("utf-8", "surrogateescape"):
        whole = character.encode("utf-8", "surrogateescape")
        if len(packed[-1]) + len(whole) > LIMIT:
            packed.append(b"")
        packed[-1] += whole
    return packed


TAILS = [b"", b"\n", b"\r\n", b"\rx", b"x", *(bytes([byte]) + b"\x80" * 3 for byte in (0x80, 0x90, 0xA0, 0xBF))]


def settled(stream: bytes) -> list[bytes]:
    """The messages of a stream that goes on: those that are the same whatever comes next."""
    known = frames(stream)
    if known and len(stream) - stream.rfind(b"\n") - 1 < LIMIT:  # the last line is not full: all before it is settled
        return known if stream.endswith(b"\n") else known[:-1]
    for tail in TAILS:
        other = frames(stream + tail)
        same = 0
        while same < min(len(known), len(other)) and known[same] == other[same]:
            same += 1
        known = known[:same]
    return known
