"""A WebSocket's frames: those from a browser become lines, and text for browsers becomes frames. No I/O.

The package websockets parses the frames from a browser. Text for browsers is framed here, once for all of them.
"""

from __future__ import annotations

import codecs
import struct

from websockets.frames import CloseCode, Frame, Opcode
from websockets.server import ServerProtocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Piece = Union[bytes, bytearray, memoryview]

IDLE = 100  # frames without text in one read: more are an attack, because each costs time
MESSAGE = 64 << 10  # the most bytes of one message from a browser
FRAME = 64 << 10  # the most bytes of text in one frame to a browser: browsers show only complete frames
SEND = 1 << 20  # the most bytes of text that are framed at once
REASON = 123  # the most bytes of a reason in a close frame, from RFC 6455


class Incoming:
    """What a browser sends after the handshake that `protocol` has accepted. Each message becomes a line."""

    __slots__ = ("protocol", "decoder", "pong", "farewell", "failure", "ended")

    def __init__(self, protocol: ServerProtocol) -> None:
        self.protocol = protocol
        self.decoder: codecs.IncrementalDecoder | None = None  # of a message that comes in several frames
        self.pong = b""  # the frame that answers the latest ping; earlier pings need no answer then
        self.ended = False  # whether the browser has sent a close frame or erred: then nothing more is read
        self.farewell = b""  # when `ended`: the close frame to send
        self.failure = ""  # what the browser did wrong, in words; "": nothing

    def receive_data(self, data: bytes) -> bytes:
        """Take what has arrived; return what was said, a newline after each message.

        The last message may not be complete: then the part that has come is returned, without a newline.
        """
        protocol = self.protocol
        if self.ended:
            return b""
        protocol.receive_data(data)
        protocol.data_to_send()  # drops its pongs and close frame: we make our own
        said: list[bytes] = []
        idle = 0
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            idle += not (frame.opcode in (Opcode.TEXT, Opcode.CONT) and (frame.data or frame.fin))
            if idle > IDLE:
                self.refuse(CloseCode.POLICY_VIOLATION, "too many frames say nothing")
                break
            if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.CONT:
                if not self.valid(frame):
                    self.refuse(CloseCode.INVALID_DATA, "a message is to be UTF-8")
                    break
                said.append(bytes(frame.data) + b"\n" if frame.fin else bytes(frame.data))
            elif frame.opcode is Opcode.BINARY:
                self.refuse(CloseCode.UNSUPPORTED_DATA, "a message is to be text")
                break
            elif frame.opcode is Opcode.PING:
                self.pong = framed(Opcode.PONG, frame.data)
        close = protocol.close_sent
        if close and not self.ended:
            if protocol.close_rcvd_then_sent:
                self.ended = True
                self.farewell = goodbye(close.code, close.reason)
            else:
                self.refuse(close.code, close.reason)
        return b"".join(said)

    def refuse(self, code: int, why: str) -> None:
        """The browser has broken the rules: nothing more is read from it, and it is told why."""
        self.ended = True
        self.farewell = goodbye(code, why)
        self.failure = f"the browser was not understood: {why}"

    def valid(self, frame: Frame) -> bool:
        """Whether the message is UTF-8 up to the end of this frame. If more frames follow, a character can be cut."""
        try:
            if frame.fin and not self.decoder:
                str(frame.data, "utf-8")
                return True
            self.decoder = self.decoder or codecs.getincrementaldecoder("utf-8")()
            self.decoder.decode(bytes(frame.data), frame.fin)
        except UnicodeDecodeError:
            return False
        if frame.fin:
            self.decoder = None
        return True


class Outgoing:
    """The text that was framed last, and its frames: the next browser is mostly sent the same text."""

    __slots__ = ("text", "frames")

    def __init__(self) -> None:
        self.text: Piece = b""
        self.frames = Frames(b"")

    def frame(self, text: Piece) -> Frames:
        """The frames for a text. If it is the same object as last time, the frames are the same, too."""
        if text is not self.text:
            self.text, self.frames = text, Frames(text)
        return self.frames


class Frames:
    """A text as frames of at most FRAME bytes, which end at the end of a line if that is possible."""

    __slots__ = ("data", "size", "taken", "borders")

    def __init__(self, text: Piece) -> None:
        text = bytes(text[: SEND + FRAME])  # a little more, so that border() sees what follows
        frames: list[bytes] = []
        size = start = 0
        self.borders: list[tuple[int, int]] = []  # where each frame ends: in `data`, and in the text
        while start < min(len(text), SEND):
            end = border(text, start)
            frames.append(framed(Opcode.TEXT, well_formed(text[start:end])))
            size += len(frames[-1])
            start = end
            self.borders.append((size, end))
        self.data = frames[0] if len(frames) == 1 else b"".join(frames)
        self.size = size  # bytes of `data`
        self.taken = start  # how many bytes of the text are in `data`

    def cut(self, sent: int) -> tuple[memoryview, int]:
        """After `sent` bytes of `data`: the rest of the frame that was cut, and how much of the text is sent with it.

        For example, the text has 100 bytes in two frames of 52 bytes with 50 bytes of text each. If 60 bytes were sent,
        the other 44 bytes of the second frame have to follow, and then all 100 bytes of the text are sent.
        """
        end, taken = next((border for border in self.borders if border[0] >= sent), (sent, self.taken))
        return memoryview(self.data[sent:end]), taken  # a copy, which does not keep all of `data` in memory


def border(text: bytes, start: int) -> int:
    """Where the frame that begins at `start` ends: after a line, or in a very long line after a character."""
    end = start + FRAME
    if end >= len(text):
        return len(text)
    if newline := text.rfind(b"\n", start, end) + 1:
        return newline
    while text[end] & 0xC0 == 0x80 and end > start + FRAME - 3:
        end -= 1
    return end


def well_formed(text: bytes) -> bytes:
    """The text as UTF-8, with replacement characters for what is not. Browsers refuse anything else."""
    if text.isascii():
        return text
    return text.decode("utf-8", "replace").encode()


def framed(opcode: int, data: Piece) -> bytes:
    """One whole frame, as a server sends it."""
    size = len(data)
    if size < 126:
        return bytes((0x80 | opcode, size)) + data
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + data
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + data


def goodbye(code: int, reason: str) -> bytes:
    """A close frame. Of a long reason, as much as fits."""
    if code == CloseCode.NO_STATUS_RCVD:
        return framed(Opcode.CLOSE, b"")
    text = reason.encode("utf-8", "replace")[:REASON].decode("utf-8", "ignore").encode()
    return framed(Opcode.CLOSE, struct.pack("!H", code) + text)


PING = framed(Opcode.PING, b"")
