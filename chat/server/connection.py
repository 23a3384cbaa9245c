"""A connection before its handler begins (the handshake), and after its handler has ended."""

from __future__ import annotations

import sys

from loop import Cancelled, TimedOut, recv, report, sleep
from loop.bare import socket
from loop.stream import countdown

from .member import OVER, Member
from .wire import finish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from loop.traps import Coroutine

    from .wire import Wire

HANDSHAKE = 10.0  # seconds until a wire has to be ready
FAREWELL = 5.0  # seconds for what is still due to a member that ends
LONGEST = 1.0  # seconds that one wait of a Patience asks for, at most
OVERRUN = 0.2  # seconds; a wait that lasts so much longer than it asked for was interrupted
BY_RESET = (1).to_bytes(4, sys.byteorder) + bytes(4)  # for SO_LINGER, a struct of two ints: on, 0 seconds
LINGER = 1.0  # seconds for the last step of an end, such as the peer's FIN


class Patience:
    """So many seconds to wait. Time in which the process stood still hardly counts.

    A wait asks for at most `longest` seconds. If it lasts longer, the process was stopped, or another step took long:
    then it counts as LONGEST at most.
    """

    def __init__(self, clock: Callable[[], float], seconds: float, longest: float = LONGEST) -> None:
        self.clock = clock
        self.left = seconds
        self.longest = longest

    def spend(self, wait: Callable[[float], Coroutine[None]]) -> Coroutine[None]:
        """COROUTINE. Runs `wait(seconds)` for a little while. Raises TimedOut if no time is left."""
        if self.left <= 0:
            raise TimedOut("no time is left")
        most, began = min(self.left, self.longest), self.clock()
        try:
            yield from wait(most)
        except TimedOut:
            pass
        spent = self.clock() - began
        self.left -= spent if spent < most + OVERRUN else min(most, LONGEST)


def shake_hands(member: Member, wire: Wire) -> Coroutine[bool]:
    """COROUTINE. Runs the wire's handshake. Returns whether it has succeeded, so that the peer can be greeted."""
    try:
        why = yield from wire.handshake(countdown(member.hub.kernel.clock, HANDSHAKE))
    except TimedOut:
        why = f"no handshake within {HANDSHAKE:g} s"
    except Cancelled:
        why = "kicked"  # member.reason is set already, and stays
    except OSError as error:
        why = (error.strerror or str(error)).lower()
    except Exception:
        report(f"the handshake of {member.name} failed")
        why = "its handshake failed"
    else:
        if not why:
            return True
    member.handled = True
    member.reason = member.reason or why
    if not member.kicked:
        yield from linger(member)  # so that the peer gets what the wire has sent last
    return False


def see_off(member: Member) -> Coroutine[None]:
    """COROUTINE. Waits until all is sent, sends a FIN, and reads up to the peer's FIN.

    Closing a socket with something unread in it makes TCP send a reset, which can destroy what was just sent.
    """
    if member.task.error:  # the member was kicked in its handler's last step
        try:
            yield from sleep(0)  # raises Cancelled: otherwise the next wait below would raise it
        except Cancelled:
            pass
    if member.end_known and not member.peer_ended:  # the connection has failed, or its wire got nonsense
        if member.wire:
            yield from linger(member)  # so that the peer gets what the wire has sent last
        return
    try:
        patience = Patience(member.hub.kernel.clock, FAREWELL)
        while member.sending != OVER:
            yield from patience.spend(member.wait_for_progress)
        if member.failure:
            return
        if member.wire:
            left = countdown(member.hub.kernel.clock, LINGER)
            yield from finish(member.wire, member.socket, member.reason, left)
        # A plain socket's stream ends with the peer's FIN. A wire's stream can end earlier, and more bytes can follow.
        if member.wire or not member.peer_ended:
            yield from linger(member)
    except TimedOut:
        pass


def linger(member: Member) -> Coroutine[None]:
    """COROUTINE. Sends a FIN, and reads up to the peer's FIN, for at most LINGER."""
    member.socket.shutdown(socket.SHUT_WR)
    left = countdown(member.hub.kernel.clock, LINGER)
    try:
        while (yield from recv(member.socket, 1 << 16, left())):
            pass
    except TimedOut:
        pass


def reset_unless_complete(member: Member) -> None:
    """If something could not be delivered, let close() send a reset instead of a FIN.

    A FIN would tell the peer that it has received everything.
    """
    undelivered = member.sending != OVER and member.lag()
    if undelivered or member.failure or (member.wire and member.wire.unsent):
        try:
            member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BY_RESET)
        except OSError:
            pass  # the connection has failed, and some systems say so here
