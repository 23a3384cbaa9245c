"""A long run of the real server under a crowd that comes, talks, dawdles and goes as it likes: `make soak MINUTES=10`.

The run is made of rounds. In each, two hundred places are taken by one visitor after the other, of random behaviour. At
its end everybody goes, the oracle looks at all that was heard, the journal is compared with it, and what the server
holds then, with nobody there, is written down: it must not grow.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter

from chatting import Chatsrv, Crowd, Visitor, check_journal, check_oracle, cpu_seconds, descriptors, memory, tagged

from loop import send, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop.traps import Coroutine

PLACES = 200
ROUND = 15.0  # seconds
WARM = 3  # rounds until the server has seen all it will ever hold at once
FLAGS = "--max-clients", "195", "--idle-timeout", "4", "--stall-timeout", "10", "--max-rate", "64k"
MIB = 1 << 20


class Round:
    """One round: which clients were there, and what became of them."""

    def __init__(self, port: int, dice: random.Random, number: int) -> None:
        self.port = port
        self.dice = dice
        self.number = number
        self.crowd = Crowd()
        self.visitors: list[Visitor] = []
        self.said: dict[str, int] = {}  # by clients that have heard their own last message
        self.torn: set[str] = set()
        self.fates: Counter[str] = Counter()
        self.present: dict[str, str] = {}  # each client that is there now, and what it does

    def run(self) -> int:
        """Returns how many deliveries were checked."""
        (observer,) = self.crowd.enter(self.port, "observer")
        observer.listen()
        end = time.monotonic() + ROUND
        alive = self.crowd.kernel.spawn(self.keep_talking(observer))
        self.crowd.run(*(self.place(end) for _ in range(PLACES)), timeout=ROUND + 60)
        alive.cancel()
        self.crowd.run(observer.leave())
        heard = {visitor.name: visitor.heard for visitor in self.visitors}
        cut_off = {visitor.name for visitor in self.visitors if visitor.cut_off and not told_why(visitor)} - self.torn
        self.fates["cut off, being too slow"] += len(cut_off)
        self.torn |= cut_off
        self.messages = observer.heard.count(b"\n") - 1
        return check_oracle(observer.heard, heard, self.said, self.torn)

    def keep_talking(self, visitor: Visitor) -> Coroutine[None]:
        """COROUTINE. No client that talks is disconnected as idle."""
        while True:
            yield from visitor.say(1)
            yield from sleep(1)

    def place(self, end: float) -> Coroutine[None]:
        """COROUTINE. One visitor after the other."""
        yield from sleep(self.dice.uniform(0, 2))
        while time.monotonic() < end:
            visitor = self.crowd.visitor(f"v{self.number}.{len(self.visitors)}", self.dice.choice((0, 0, 8192)))
            self.visitors.append(visitor)
            kind = self.dice.choice(KINDS)
            self.present[visitor.name] = kind.__name__
            try:
                yield from visitor.enter(self.port)
                yield from kind(self, visitor)
            except OSError:  # it was refused, or disconnected: there is a line that says so, or a reset took it
                self.torn.add(visitor.name)
                yield from visitor.to_the_end()
                self.fates["disconnected"] += 1
            else:
                self.fates[kind.__name__] += 1
            visitor.close()
            del self.present[visitor.name]

    # What visitors do. Each ends its connection.

    def talker(self, visitor: Visitor) -> Coroutine[None]:
        """COROUTINE. Listens, says something now and then, and leaves when it has heard everything."""
        visitor.listen()
        for _ in range(self.dice.randrange(8)):
            yield from visitor.say(self.dice.choice((1, 1, 1, 3)), self.dice.choice((0, 10, 100, 900)))
            yield from sleep(self.dice.uniform(0, 1.5))
        yield from self.leave(visitor)

    def dripper(self, visitor: Visitor) -> Coroutine[None]:
        """COROUTINE. Sends a message in pieces, and the last one without its newline."""
        visitor.listen()
        for number, end in enumerate((b"\n", b"\r\n", b"")):
            text = tagged(visitor.name, number, self.dice.randrange(1, 300))[:-1] + end
            while text:
                size = self.dice.randrange(1, 100)
                yield from send(visitor.sock, text[:size])
                yield from sleep(self.dice.uniform(0, 0.2))
                text = text[size:]
            visitor.said += 1
        yield from self.leave(visitor)

    def sleeper(self, visitor: Visitor) -> Coroutine[None]:
        """COROUTINE. Does not read for a while, and then catches up."""
        yield from visitor.say(1)
        yield from sleep(self.dice.uniform(0, 3.5))
        yield from self.leave(visitor)

    def lurker(self, visitor: Visitor) -> Coroutine[None]:
        """COROUTINE. Says nothing, until it is disconnected."""
        yield from visitor.to_the_end()

    def flooder(self, visitor: Visitor) -> Coroutine[None]:
        """COROUTINE. Sends much more at once than --max-rate allows, and waits until all has come back."""
        visitor.listen()
        yield from visitor.say(self.dice.randrange(50, 150), self.dice.randrange(800))
        yield from self.leave(visitor)

    def rude(self, visitor: Visitor) -> Coroutine[None]:
        """COROUTINE. Resets the connection, in the middle of a message perhaps."""
        self.torn.add(visitor.name)
        if self.dice.random() < 0.5:
            visitor.listen()
        yield from visitor.say(self.dice.randrange(3))
        yield from send(visitor.sock, b"this is no message, for a reset comes instead of its end")
        yield from sleep(self.dice.choice((0, 0.1, 1)))
        visitor.reset()

    def fleeing(self, visitor: Visitor) -> Coroutine[None]:
        """COROUTINE. Says something and closes, with what was sent to it unread."""
        self.torn.add(visitor.name)
        yield from visitor.say(1)

    def leave(self, visitor: Visitor) -> Coroutine[None]:
        """COROUTINE. Leave in order, and count what was said, for now it must have arrived."""
        yield from visitor.leave()
        if not told_why(visitor):
            self.said[visitor.name] = visitor.said


KINDS = (
    *(Round.talker,) * 8,
    *(Round.dripper,) * 2,
    *(Round.sleeper,) * 3,
    *(Round.lurker,) * 2,
    *(Round.rude,) * 3,
    *(Round.fleeing,) * 2,
    *(Round.flooder,) * 1,
)


def told_why(visitor: Visitor) -> bool:
    """Whether the server has disconnected it, and said so; a reset may follow, if it says something nevertheless."""
    return b"* You are disconnected" in visitor.heard[-100:]


def slope(samples: list[tuple[float, int]]) -> float:
    """The slope of the straight line that fits (seconds, bytes) best, in bytes a second."""
    middle = sum(at for at, _ in samples) / len(samples)
    mean = sum(size for _, size in samples) / len(samples)
    spread = sum((at - middle) ** 2 for at, _ in samples)
    return sum((at - middle) * (size - mean) for at, size in samples) / spread if spread else 0.0


def soak(minutes: float, seed: int) -> None:
    """Run it, showing how it goes. Raises AssertionError on the first thing that isn't as it should be."""
    dice = random.Random(seed)
    server = Chatsrv(*FLAGS)
    assert server.journal
    server.journal.take()
    fates: Counter[str] = Counter()
    samples: list[tuple[float, int]] = []
    connections = messages = deliveries = 0
    try:
        at_first = descriptors(server.pid)
        start = time.monotonic()
        print(f"seed {seed}, {minutes:g} minutes, {PLACES} places")
        print(f"{'time left':>9} {'visitors':>9} {'messages':>9} {'checked':>11} {'memory':>9} {'files':>6} {'cpu':>6}")
        while (gone := time.monotonic() - start) < minutes * 60:
            round = Round(server.port, dice, len(samples))
            text = ""
            try:
                try:
                    deliveries += round.run()
                except AssertionError:
                    print("still there:", round.present, flush=True)
                    server.process.send_signal(signal.SIGUSR1)
                    time.sleep(0.5)
                    print(server.complaints.take())
                    raise
                while text.count(" accepted connection\n") != text.count(" connection terminated: ") or not text:
                    time.sleep(0.1)
                    text += server.journal.take()
                    assert time.monotonic() < start + gone + ROUND + 90, "somebody is still there, says the journal"
            finally:
                round.crowd.close()
            check_journal(text)
            assert text.count(" > ") == round.messages, "the journal and the chat have not told the same"
            assert descriptors(server.pid) == at_first, "descriptors are left open"
            connections += text.count(" accepted connection\n")
            messages += round.messages
            fates += round.fates
            now = time.monotonic() - start
            samples.append((now, memory(server.pid)))
            left = max(0, minutes * 60 - now)
            print(
                f"{left / 60:7.1f} m {connections:9} {messages:9} {deliveries:11} {samples[-1][1] / MIB:5.1f} MiB "
                f"{descriptors(server.pid):6} {cpu_seconds(server.pid) / now:6.1%}",
                flush=True,
            )
        used = cpu_seconds(server.pid)
        server.finish()
    finally:
        server.destroy()
    steady = samples[WARM:] or samples
    growth = slope(steady)
    passed = steady[-1][0] - steady[0][0]
    print(f"{connections} accepted, as many terminated; {messages} messages, {deliveries} deliveries checked")
    print(", ".join(f"{name} {count}" for name, count in fates.most_common()))
    print(f"memory {steady[0][1] / MIB:.2f} MiB at first, {steady[-1][1] / MIB:.2f} MiB at last, ", end="")
    print(
        f"slope {growth * 3600 / MIB:+.3f} MiB an hour; descriptors {at_first} at first and at last; cpu {used:.1f} s"
    )
    assert growth * passed < 2 * MIB, "memory has grown"


def main() -> int:
    parser = argparse.ArgumentParser(description="A long run of the real server under a crowd of random behaviour.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    if sys.platform != "linux":
        parser.error("this reads /proc, which only Linux has")
    try:
        soak(arguments.minutes, arguments.seed)
    except AssertionError as error:
        print(f"FAILED with seed {arguments.seed}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
