"""All that is due to members is sent here. Only one task at a time sends to a socket.

For all members that keep up, this is spread(). A member that does not take all that it is sent has a *writer* of its
own, deliver(), until it has caught up. (The member's own task tries to send what a wire itself has to say, such as
its handshake: see wire.py.)
"""

from __future__ import annotations

import sys
from itertools import repeat
from os import write  # for sockets, too: half the cost of socket.send()

from loop import Coroutine, TimedOut, writable

from .member import APART, BEHIND, OVER, TOGETHER, Member
from .room import Hub, Room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

    from .outbox import Piece

BATCH = 64 << 10  # bytes that are sent at once to a member that is behind
LOOKS = 4  # how often, within --stall-timeout, we look whether a peer takes anything
LAST_TRY = 0.5  # seconds between two attempts to send a leaving member its last bytes


def spread(hub: Hub) -> Coroutine[None]:
    """COROUTINE. Sends what is new, once a turn.

    In each turn, it runs after the tasks of members that have said something, and sends what they have said.
    """
    while True:
        while not (hub.changed or hub.apart):
            yield from hub.news.wait()
        send_news(hub)


def send_news(hub: Hub) -> None:
    """Send all that is new. (In spread() itself, the variable `room` would keep a room alive while spread() waits.)"""
    hub.pace.start_turn()
    rooms = list(hub.changed)
    hub.changed.clear()
    for room in rooms:
        send_to_all(room)
    for member in list(hub.apart):
        send_to_one(member)


def send_to_all(room: Room) -> None:
    """Send what is new in a room to all members that are TOGETHER: the same bytes, in one call for each."""
    if room.told:
        send_told(room)
        return
    room.feed.seal()
    if not room.together:
        room.outbox.skip()
        return
    data = room.outbox.take(sys.maxsize)  # no sent() here: a member that takes less gets a fork
    if not data:
        return  # the news was a line for one member, which became APART since then, and took the line with it
    results = send_each(room.together.values(), repeat(data), room.hub)
    if results.count(len(data)) != len(results):
        check_each(list(room.together), repeat(data), results)


def send_told(room: Room) -> None:
    """Send each line in `room.told` to its member. While there is one, nothing else is due to TOGETHER members."""
    told = room.told.copy()
    room.told.clear()
    results = send_each([room.together[member] for member in told], told.values(), room.hub)
    check_each(told, told.values(), results)


def send_each(targets: Collection[Any], pieces: Iterable[Piece], hub: Hub) -> list[int | OSError]:
    """Send a piece to each of these wires and descriptors. Return how much of it each has taken, or its error."""
    sends = map(send if hub.wired else write, targets, pieces)  # a loop with a call in it would take 1.5 times as long
    results: list[int | OSError] = []
    while len(results) < len(targets):
        try:
            results += sends
        except OSError as error:
            results.append(error.with_traceback(None))  # the traceback would keep all of this alive
    return results


def send(target: Any, piece: Piece) -> int:
    """Send a piece to a member's wire, or to its descriptor. Return how much of it was taken."""
    return write(target, piece) if type(target) is int else target.send(piece)


def check_each(members: Iterable[Member], pieces: Iterable[Piece], results: list[int | OSError]) -> None:
    """Call fall_behind_or_lose() for each member that has not taken all of its piece."""
    for member, piece, result in zip(members, pieces, results):
        if result != len(piece):
            fall_behind_or_lose(member, piece, result)


def fall_behind_or_lose(member: Member, data: Piece, result: int | OSError) -> None:
    """Let a TOGETHER member fall behind or, after an error, call its lose().

    `result` is how much it took of `data`, or the send's error.
    """
    if isinstance(result, OSError) and not isinstance(result, BlockingIOError):
        member.lose(result)
    else:
        member.stand_apart()
        # The member has an outbox of its own now, at the place after `data`. sent() puts the rest of `data` into it.
        member.outbox.sent(data, result if isinstance(result, int) else taken(result))
        fall_behind(member)


def send_to_one(member: Member) -> None:
    """Send what is due to a member that is APART. If nothing is left, it is together with the others again."""
    try:
        if send_due(member, sys.maxsize):  # all, so that no member falls behind only because it is told much
            member.become(TOGETHER if member.outbox.feed else OVER)
        else:
            fall_behind(member)
    except OSError as error:
        member.lose(error)


def send_due(member: Member, most: int) -> bool:
    """Send about `most` bytes of what is due to one member, in one call. Return whether nothing is left."""
    outbox, wire = member.outbox, member.wire
    piece = outbox.take(most)
    if piece or (wire and wire.unsent):  # b"" makes the wire send what is unsent
        try:
            sent = (wire or member.socket).send(piece)
        except BlockingIOError as error:
            sent = taken(error)
        outbox.sent(piece, sent)
    return outbox.empty and not (wire and wire.unsent)


def taken(error: BlockingIOError) -> int:
    """How many bytes a wire had taken before it had to wait; 0 if the error is a socket's."""
    return getattr(error, "characters_written", 0)


def fall_behind(member: Member) -> None:
    """Give a member a writer of its own."""
    member.become(BEHIND)
    member.writer = member.hub.kernel.spawn(deliver(member), member.name)


def deliver(member: Member) -> Coroutine[None]:
    """COROUTINE. The writer of a member that is BEHIND: ends when all is sent."""
    outbox, wire = member.outbox, member.wire
    stall_timeout = member.hub.options.stall_timeout
    pause = None if stall_timeout is None else stall_timeout / LOOKS
    taken_before = member.acknowledged()  # bytes that its peer had taken at the last look
    unchanged = 0  # how many looks in a row have found that nothing was taken
    try:
        while not outbox.empty or (wire and wire.unsent):
            if outbox.feed is None:
                pause = LAST_TRY
            try:
                yield from writable(member.socket, pause)
                unchanged = 0
            except TimedOut:  # perhaps something was taken all the same: Linux reports space only when a third is free
                taken_now = member.acknowledged()
                unchanged = unchanged + 1 if taken_now == taken_before else 0
                taken_before = taken_now
                if unchanged == LOOKS and outbox.feed:
                    member.kick(f"took nothing for {stall_timeout:g} s")  # from now on, only its last line is due
            send_due(member, BATCH)
            if member.progress and not member.overfed:
                member.progress.wake_all()
        member.writer = None  # so that become(OVER) does not cancel this task
        member.become(APART if outbox.feed else OVER)  # if APART, spread() sends what was said in this turn
    except OSError as error:
        member.writer = None
        member.lose(error)
    finally:
        if member.writer:  # this task was cancelled, or its code has failed
            member.writer = None
            member.become(OVER)
