"""What is always true of a cluster, whatever happens to it.

Every stream is a contiguous slice of one global order. Where it is not, a line says so, and then it is several slices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

Message = tuple[str, int]  # who said it, and the how manieth of theirs it is: from 0

GAP = re.compile(r"\* (?:(\d+) m|M)essages (?:were|may have been) lost here\.")
OTHERS = re.compile(r"Welcome |\* The other servers are |\* You are disconnected: ")
MESSAGE = re.compile(r"(?:127\.0\.0\.1: )?<(\S+) (\d+)>\.*")


def tagged(sender: str, number: int, padding: int = 0) -> str:
    """A message which can be told from all others."""
    return f"<{sender} {number}>{'.' * padding}"


class Hearing:
    """What one client has heard: slices of the order, and how many messages were lost between them, as far as known."""

    def __init__(self, heard: bytes | bytearray) -> None:
        *lines, rest = bytes(heard).decode().split("\n")
        assert not rest, f"ends within a message: {rest!r}"
        self.slices: list[list[Message]] = [[]]
        self.lost: list[int | None] = []
        for line in lines:
            if gap := GAP.fullmatch(line):
                self.lost.append(int(gap[1]) if gap[1] else None)
                self.slices.append([])
            elif message := MESSAGE.fullmatch(line):
                self.slices[-1].append((message[1], int(message[2])))
            else:
                assert OTHERS.match(line), f"nobody says {line!r}"

    def messages(self) -> list[Message]:
        return [message for slice in self.slices for message in slice]


def check(streams: Mapping[str, Hearing], reset: bool = False) -> int:
    """Compare the streams; returns how many messages they have together.

    With `reset`, Redis has lost its memory on the way. What had come back to some nodes only is then written again, and
    those do not hear it again: the order is one after the last gap, and what others had heard before is left out there.
    """
    following: dict[Message, Message] = {}
    preceding: dict[Message, Message] = {}
    for name, stream in streams.items():
        last: dict[str, int] = {}
        for slice in stream.slices:
            last_here: dict[str, int] = {}
            for sender, number in slice:
                if sender in last_here and not reset:
                    assert number == last_here[sender] + 1, f"{name}: <{sender} {number}> after {last_here[sender]}"
                else:
                    assert number > last.get(sender, -1), f"{name}: <{sender} {number}> again"
                last_here[sender] = last[sender] = number
            for one, next in zip(slice, slice[1:]):
                if not reset:
                    assert following.setdefault(one, next) == next, f"{name}: {next} follows {one}: {following[one]}"
                    assert preceding.setdefault(next, one) == one, f"{name}: {one} precedes {next}: {preceding[next]}"
    merge([slice for stream in streams.values() for slice in stream.slices[-1 if reset else 0 :]])
    return sum(len(stream.messages()) for stream in streams.values())


def merge(slices: Iterable[list[Message]]) -> list[Message]:
    """One order that has all these orders in it; there must be one."""
    after: dict[Message, set[Message]] = {}
    for slice in slices:
        for message in slice:
            after.setdefault(message, set())
        for one, next in zip(slice, slice[1:]):
            after[one].add(next)
    waiting = dict.fromkeys(after, 0)
    for nexts in after.values():
        for next in nexts:
            waiting[next] += 1
    free = [message for message, count in waiting.items() if not count]
    order = []
    while free:
        order.append(message := free.pop())
        for next in after[message]:
            waiting[next] -= 1
            if not waiting[next]:
                free.append(next)
    assert len(order) == len(after), "there is no order that all agree on"
    return order


def check_losses(stream: Hearing, order: list[Message]) -> None:
    """The stream's gaps are exactly as wide in `order`, that of a client that missed nothing, as the stream says."""
    place = {message: index for index, message in enumerate(order)}
    for before, lost, after in zip(stream.slices, stream.lost, stream.slices[1:]):
        if before and after:
            assert lost == place[after[0]] - place[before[-1]] - 1


def check_whole(stream: Hearing, order: list[Message], to_the_end: bool) -> None:
    """It is a slice of `order`, and what is missing in it was told, with its number; `to_the_end`: up to the end."""
    assert all(stream.lost), "a loss without a number"
    heard = stream.messages()
    lost = [*map(int, filter(None, stream.lost)), 0]
    if to_the_end:
        at = len(order) - len(heard) - sum(lost)
    elif heard:
        first = next(number for number, slice in enumerate(stream.slices) if slice)
        at = order.index(heard[0]) - sum(lost[:first])
    else:
        return
    for slice, missing in zip(stream.slices, lost):
        assert slice == order[at : at + len(slice)], "not a contiguous piece of the order"
        at += len(slice) + missing
    assert at <= len(order), "more is missing than there is"


def check_together(whole: list[Message], other: list[Message], said: Iterable[Message]) -> None:
    """One that was told of no loss has missed nothing that was `said` since it came, and has the order of the other."""
    common = set(whole) & set(other)
    first = [message for message in whole if message in common]
    assert first == [message for message in other if message in common], "two orders, and one was not told"
    heard = set(whole)
    since: dict[str, int] = {}
    for sender, number in whole:
        since.setdefault(sender, number)
    for sender, number in said:
        if number > since.get(sender, number):
            assert (sender, number) in heard, "something is missing, and nobody was told"
