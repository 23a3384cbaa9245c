"""Those who are connected, and the feed they share."""

from __future__ import annotations

from loop import WaitQueue

from .feed import Feed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop import Kernel
    from loop.traps import Coroutine

    from .cluster.node import Cluster
    from .flags import Options
    from .journal import Journal
    from .member import Member

RECEIVE = 32 << 10  # bytes: at most so much is taken from one socket at once; with 64 KiB, fan-out was slower
TURN = 1 << 20  # bytes: about so much is taken from all of them before it is sent on


class Room:
    """What a handler can reach besides its own member."""

    def __init__(self, kernel: Kernel, options: Options, journal: Journal) -> None:
        self.kernel = kernel
        self.options = options
        self.journal = journal
        self.feed = Feed()
        self.news = WaitQueue()  # spread() waits here for something fresh
        self.members: dict[Member, None] = {}  # everybody, oldest first
        self.caught_up: dict[Member, None] = {}  # those who were sent everything that is sealed
        self.check_at = 0
        self.talking: set[Member] = set()  # who has published since the last spreading
        self.talked = 1  # how many had between that and the one before
        self.turn = min(TURN, options.max_lag // 4)
        self.cluster: Cluster | None = None  # with other servers: what is said here goes through it into the feed
        self.held = False  # nobody is read from now; `released` is where they wait
        self.released = WaitQueue()

    def publish(self, member: Member, messages: list[bytes]) -> None:
        """Send messages (without separators) to everybody, `member` included, with the member's prefix in front.

        All of them, in this order and with nothing between them.
        """
        self.talking.add(member)
        self.lay_down(member.name, member.prefix, messages)

    def announce(self, line: str | bytes) -> None:
        """Send everybody a line that nobody said, without a prefix."""
        self.lay_down("room", b"", [encoded(line).replace(b"\n", b" ")])

    def lay_down(self, who: str, prefix: bytes, messages: list[bytes]) -> None:
        if not messages:
            return
        text = prefix + (b"\n" + prefix).join(messages) + b"\n"
        self.journal.messages(who, messages)
        (self.cluster.publish if self.cluster else self.append)(text)

    def append(self, text: bytes) -> None:
        """Lay whole messages, with their separators, into the feed."""
        self.feed.append(bytes(text))  # anything else shall fail here, in the handler that has it, and not in spread()
        self.news.wake()
        if self.feed.end >= self.check_at:
            self.check_lags()

    def spread(self) -> Coroutine[None]:
        """COROUTINE. The one writer of all who have caught up: what is fresh, to each of them in one send.

        Who does not take all of it falls behind, and has a writer of its own until it has caught up again.
        """
        while True:
            while not self.feed.fresh:
                yield from self.news.wait()
            news = self.feed.seal()
            size = len(news)
            self.talked = len(self.talking) or 1
            self.talking.clear()
            for member in list(self.caught_up):
                try:
                    sent = member.socket.send(news)
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    member.send_failed(error)
                    continue
                if sent != size:
                    member.fall_behind(memoryview(news)[sent:])

    def share(self) -> int:
        """How many bytes a member may take from its socket now.

        A turn's worth is shared: as many as talked in the last turn will talk in this one, and nobody gets more than
        what is left of it. Else a thousand members that talk at once would put everybody --max-lag behind in one turn.
        """
        feed = self.feed
        return max(1024, min(RECEIVE, self.turn // self.talked, self.turn - (feed.end - feed.sealed)))

    def check_lags(self) -> None:
        """Look for those who have fallen too far behind: once in a while, so that publishing touches no member."""
        self.check_at = self.feed.end + self.options.max_lag // 16
        for member in self.members:
            member.kick_if_behind()


def encoded(line: str | bytes) -> bytes:
    return line.encode("utf-8", "replace") if isinstance(line, str) else line
