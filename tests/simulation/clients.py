"""Who talks to the server, and everything that goes wrong on their side.

A client's life is a generator: each step does one thing and yields the seconds until the next. Whatever it says carries
its name and a number, so that one can see in a history whose message is missing.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .browsers import BrowserEnd
from .ends import End, SecureEnd
from .handlers import commands, mischief
from .network import Socket
from .strangers import TO_BROWSERS, Stranger, visits
from .world import once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .network import Listener
    from .world import World

NICK_COMMANDS = [b"/who", b"/nick anna", b"/nick bert", b"/nick two words", b"/me waves", b"/away", b"/quit"]
BINARY = bytes([0, 0xFF, 0xF4, 0x1B, 0x5B, 0x32, 0x4A, 0x0D, 0xC3, 0x28, 0x7F]) + "\u202e\x85é".encode()


class SimulatedClient:
    """One client; what it has sent, received and gone through is kept for the oracle."""

    def __init__(self, world: World, number: int, listener: Listener, host: str, talkative: int, fine: bool) -> None:
        pick, chance = world.pick, world.chance
        self.world = world
        self.name = f"c{number}"
        self.listener = listener
        self.address = (host, 40000 + number) if ":" not in host else (host, 40000 + number, 0, 0)
        self.link: Socket
        self.end = End(self)
        self.pushed = 0  # bytes of its connection that it has sent
        self.cut_after = 1 << 40  # so many of them
        self.wrong_after = -1  # so many pieces, it does what is not allowed
        self.inclined = False  # to read, when the handshake is over
        self.connected = False
        number_of = 0 if chance() < 0.2 else 1 + world.below(talkative)
        self.messages = [self.text(number, 0.8 if fine and number_of > 3 else 1.0) for number in range(number_of)]
        if chance() < world.floods:
            self.messages.append(b"\n" * pick(100, 1500))
            world.hit("thousands of empty messages")
        self.cut = pick("lines", "lines", "whole", "random", "drip")  # how its stream is cut into pieces
        self.tempo = pick(0.0, 0.0, 0.01, 2.0)  # seconds between two pieces, at most
        self.ending = pick("fin", "fin", "fin", "stay", "stay", "close", "reset", "reset")
        self.rest = pick(b"", b"", b"an unfinished rest", b"r\r")  # what it sends last, without a separator
        self.attentive = chance() < 0.6  # reads whatever comes at once, and to the end
        self.steady = (
            not self.attentive and chance() < world.steadiness
        )  # reads everything, but only some time after it has come
        self.about_to_read = False
        self.gulp = 1 << 20  # bytes that it reads at once then
        self.reading = self.attentive or (not self.steady and chance() < 0.7)
        self.lossy = chance() < 0.3  # its reset destroys what the server has yet to read, as on BSD
        self.sent = bytearray()
        self.received = bytearray()
        self.eof = False  # it has read to the server's end
        self.broken = False  # the server's side has reset the connection
        self.fin = False
        self.reset = False  # its side has
        self.closed = False  # so it can receive nothing any more
        self.finished = False  # its life is over; it may still read
        self.meddled = False  # the world has ended one of its tasks

    def text(self, number: int, reach: float) -> bytes:
        """A message with its separator; a long one only with a `reach` of 1."""
        world = self.world
        tag = b"%s.%d" % (self.name.encode(), number)
        kind = world.chance() * reach
        if kind < 0.75:
            text = tag + b" said so"[: world.below(9)]
        elif kind < 0.80:
            text = b""
        elif kind < 0.85:
            text = tag + BINARY[: world.below(len(BINARY) + 1)]
        elif kind < 0.92:
            size = world.pick(1022, 1023, 1024, 1025, 2048, 2049, 3000)
            text = (tag + b"".join(b" %d" % n for n in range(999)))[:size]
            world.hit("message of about 1024 bytes or more")
        elif kind < 0.95:
            text = tag + b"-" * world.below(4) + world.pick("é", "€", "😀").encode() * 600
            world.hit("long message of UTF-8")
        else:
            text = tag + b" " * 200
        if kind > 0.6 and world.chance() < 0.5:
            return text + b"\r\n"
        return text + b"\n"

    def speak_nick(self) -> None:
        """Put commands of the nick handler among the messages."""
        world = self.world
        for place in range(len(self.messages)):
            if world.chance() < 0.3:
                self.messages[place] = world.pick(*NICK_COMMANDS) + b"\n"

    def wander(self, number: int) -> None:
        """Put commands of the wanderer among the messages, and perhaps a harmful one; there are `number` clients."""
        world, chance = self.world, self.world.chance
        often, said = world.pick(0.3, 0.7), commands(world, number)
        self.tempo = world.pick(0.0, 0.01, 0.5, 2.0)
        self.messages = [
            line for text in self.messages for line in ([next(said) + b"\n", text] if chance() < often else [text])
        ]
        if chance() < 0.5 and any(line.startswith(b"/listen") for line in self.messages):
            self.cut, self.tempo = "drip", 0.5  # its handler waits, and parts of a message come
        if chance() < world.mischief:
            self.messages.insert(world.below(len(self.messages) + 1), mischief(world, number) + b"\n")

    def come_with(self, kind: str) -> None:
        """Be a browser, or speak TLS, or both."""
        world, chance = self.world, self.world.chance
        world.count(f"a client with {kind}")
        self.end = End(self) if kind == "a browser" else SecureEnd(self)
        if chance() < 0.2:
            self.be_a_stranger(kind)
        elif kind != "TLS":
            self.end = BrowserEnd(self, self.end)
            self.messages = [message.decode("utf-8", "replace").encode() for message in self.messages]
        if chance() < 0.1:
            self.cut_after = 1 + world.below(1500)
        if chance() < 0.15:
            self.wrong_after = world.below(world.pick(1, 1 + len(self.messages)))
        self.inclined, self.reading = self.reading, self.attentive or chance() < 0.95

    def be_a_stranger(self, kind: str) -> None:
        """Be none of those that this kind of port is for."""
        if kind == "a browser over TLS" and self.world.chance() < 0.5:
            self.end = Stranger(self, self.end, self.world.pick(*TO_BROWSERS))
        else:
            self.end = Stranger(self, End(self), self.world.pick(*visits(kind)))

    # Its life.

    def live(self) -> Iterator[float]:
        world = self.world
        chance, pick = world.chance, world.pick
        if self.listener.closed:
            self.finished = True
            return
        link = self.link
        self.connected = True
        self.listener.backlog.append(link)
        if world.history is not None:
            world.note(f"{self.name}: connects from {self.address[0]}")
        if self.ending == "reset" and chance() < 0.4:
            yield pick(0, 0, 0, 0.001)
            self.abort()
            return
        yield pick(0, 0, 0.01, 1.0)
        end = self.end
        end.begin()
        wait = 0.01
        while end.kind != "plain" and not end.ready and chance() < 0.98:
            if self.eof or self.broken or self.closed or wait > 1000:
                self.finished = True
                return
            wait = 0.01 if self.push() else wait * 2
            yield wait
        for number, piece in enumerate(self.pieces()):
            wait = 0.01
            if piece:
                end.say(piece)
            if number == self.wrong_after:
                end.break_rules()
            while end.waiting:
                if self.eof or self.broken or self.closed or wait > 1000:
                    self.finished = True
                    return
                if self.push():
                    wait = 0.01
                    yield chance() * self.tempo if end.ready else 0.001
                else:
                    yield wait
                    wait *= 2
            if not (self.attentive or self.steady) and chance() < 0.3:
                self.turn_away(not self.reading)
            if self.ending == "reset" and chance() < 0.3:
                break
        self.finished = True
        if self.eof or self.broken or self.closed:
            return
        if self.ending == "reset":
            self.abort()
        elif self.ending == "close":
            self.close()
        elif self.ending == "fin":
            self.fin = True
            if chance() < 0.8:
                end.end()
                yield from self.push_all()
            if end.ended and chance() < 0.6:
                world.hit("waits for the server's own end")
                return  # as browsers do
            link.end()
            world.hit("half-close")
            world.hit("FIN with a rest" if self.sent and self.sent[-1] != 10 else "FIN without a rest")
            if world.history is not None:
                world.note(f"{self.name}: ends its stream")
            if not (self.reading or self.steady):
                yield pick(0.1, 3.0, 20.0, 200.0)
                self.turn_away(True)

    def push(self) -> int:
        """Send some of what is to be sent; returns how much the system has taken."""
        queue, link = self.end.queue, self.link
        if not queue or link.fin:
            queue.clear()
            return 0
        data, text = queue[0]
        sent = link.push(data if text is data else data[: self.most(len(data))])
        if sent:
            if self.world.history is not None:
                self.world.note(f"{self.name}: sends {self.end.show(data[:sent])}")
            self.pushed += sent
            if text is data:
                self.sent += data[:sent]
                text = data = data[sent:]
            else:
                data = data[sent:]
                self.sent += b"" if data else text
            if data:
                queue[0] = data, text
            else:
                queue.popleft()
            if self.pushed >= self.cut_after:
                self.break_off()
        return sent

    def most(self, size: int) -> int:
        """How much of so many bytes it sends at once."""
        if self.cut == "random" or (self.cut == "drip" and self.pushed > 60):
            size = min(size, 1 + self.world.below(300))
        elif self.cut == "drip":
            size = min(size, 1 + self.world.below(3))
        return min(size, self.cut_after - self.pushed)

    def push_all(self) -> Iterator[float]:
        """Steps: send all that is to be sent."""
        wait = 0.01
        while self.end.queue and wait < 1000 and not (self.eof or self.broken or self.closed):
            wait = 0.01 if self.push() else wait * 2
            yield wait if wait > 0.01 else 0

    def break_off(self) -> None:
        """End in whatever state it is."""
        way = self.world.pick("fin", "close", "reset")
        self.world.hit(f"broke off: {way}")
        self.finished = True
        if self.end.queue:  # what says its end is in there, too
            self.end.ended = False
        self.end.queue.clear()
        if way == "fin":
            self.fin = True
            self.link.end()
        elif way == "close":
            self.close()
        else:
            self.abort()

    def hear(self) -> None:
        """Something has come from the server."""
        if self.steady and not self.about_to_read:
            self.about_to_read = True
            self.world.at(0.04, once(self.read_steadily))

    def read_steadily(self) -> None:
        self.about_to_read = False
        self.read(most=self.gulp)
        if self.link.outgoing and not self.closed:
            self.hear()

    def pieces(self) -> Iterator[bytes]:
        stream = b"".join(self.messages) + self.rest
        if self.cut == "lines" or (self.cut == "drip" and self.end.kind != "plain"):
            yield from self.messages
            yield self.rest
        elif self.cut == "whole":
            yield stream
        else:
            if self.cut == "drip":
                self.world.hit("slow drip")
            start = 0
            while start < len(stream):
                most = 3 if self.cut == "drip" and start < 200 else 300
                size = 1 + self.world.below(most)
                yield stream[start : start + size]
                start += size

    def abort(self) -> None:
        """Reset the connection, or lose it."""
        link, world = self.link, self.world
        self.finished = self.reset = self.closed = True
        if self.eof or self.broken or link.closed:
            return
        if link.fd >= 0:
            if not self.received and not link.outgoing:
                world.hit("reset between accept and greeting")
            if self.sent and self.sent[-1] != 10:
                world.hit("reset inside a message")
        number = world.pick(0, 0, 0, errno.ETIMEDOUT, errno.EHOSTUNREACH)
        world.hit("reset" if not number else "connection lost")
        if world.history is not None:
            world.note(f"{self.name}: resets its connection" if not number else f"{self.name}: is lost")
        link.abort(number)

    def close(self) -> None:
        """Close at once, read or not."""
        link, world = self.link, self.world
        if world.history is not None:
            world.note(f"{self.name}: closes")
        self.fin = self.closed = True
        link.end()
        if link.outgoing and not link.closed:
            world.hit("closed with something unread")
            link.abort()
        else:
            world.hit("closed at once")

    def turn_away(self, reading: bool) -> None:
        self.reading = reading
        self.world.hit("reader went on" if reading else "reader stopped")
        if self.world.history is not None:
            self.world.note(f"{self.name}: {'reads on' if reading else 'stops reading'}")

    def read(self, everything: bool = False, most: int = 0) -> None:
        """Read what has come, or some of it; at the server's end, go."""
        link = self.link
        if self.closed or self.eof:
            return
        if link.outgoing:
            size = most or len(link.outgoing) if everything or most else self.world.part(len(link.outgoing))
            data = link.drain(size)
            if self.world.history is not None:
                self.world.note(f"{self.name}: reads {self.end.show(data)}")
            ready = self.end.ready
            self.received += self.end.hear(data)
            if self.end.ready and not ready:
                self.reading = self.inclined
            if self.end.queue:
                self.world.at(self.world.pick(0, 0.001, 0.1), self.push_all())
            self.world.work += 1
        if not link.outgoing and not self.broken and (link.ended or link.closed) and not link.reset:
            self.eof = True
            if self.world.history is not None:
                self.world.note(f"{self.name}: reads to the end")
            if self.attentive or self.world.chance() < 0.5:
                self.world.at(self.world.pick(0, 0.001, 0.5), once(self.go))

    def go(self) -> None:
        """The server has ended: so do we."""
        if not self.closed:
            self.fin = self.closed = True
            self.link.end()

    def turned_away(self) -> None:
        """The listener was closed before we were accepted."""
        if not self.closed:
            self.broken = self.closed = True
