"""AMQP 0-9-1 as bytes: pure.

pamqp knows every method. Those that come once or more for each message are read and written here
in a few steps, as pamqp takes twenty for each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import pamqp.base
import pamqp.frame
from pamqp import commands

FRAME_MAX: Final = 131_072
"""The longest frame, in bytes: what RabbitMQ offers unless it is told otherwise."""

MAX_CONTENT: Final = 64 * 1024 * 1024
"""The longest message that is taken, in bytes; a longer one is skipped."""

MAX_CHANNEL: Final = 3
"""No connection here has more channels."""

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
_END: Final = b"\xce"
_ENVELOPE: Final = 8  # bytes of a frame around its payload

PROTOCOL: Final = b"AMQP\x00\x00\x09\x01"
BEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

_FRAME = struct.Struct(">BHI")
_TAG = struct.Struct(">Q")
_CONTENT = struct.Struct(">HHQ")
_ACK = struct.Struct(">BHIIQBB")

_DELIVER: Final = b"\x00\x3c\x00\x3c"
_RETURN: Final = b"\x00\x3c\x00\x32"
_CONFIRMED: Final = b"\x00\x3c\x00\x50"
_REJECTED: Final = b"\x00\x3c\x00\x78"


class ProtocolError(Exception):
    """What came is not AMQP, or not what can come now."""


class Method(NamedTuple):
    """A method that comes seldom."""

    channel: int
    frame: pamqp.base.Frame


class Delivered(NamedTuple):
    """A message that was delivered."""

    channel: int
    tag: int
    body: bytes | None
    """`None` if it was too long, and skipped."""


class Returned(NamedTuple):
    """A message that was sent back, as it reached no queue."""

    channel: int
    body: bytes | None


class Confirmed(NamedTuple):
    """The broker has taken, or refused, what was published."""

    channel: int
    tag: int
    multiple: bool
    """Whether everything before it is meant, too."""
    accepted: bool


Event = Method | Delivered | Returned | Confirmed


class _Content:
    """A message of which parts have come."""

    __slots__ = ("parts", "size", "start", "wanted")

    def __init__(self, start: bytes) -> None:
        self.start = start
        self.wanted: int | None = None
        self.size = 0
        self.parts: list[bytes] = []


def name_of(event: Event) -> str:
    """What an event is called in an error: what is in it is of no matter there, and may be long."""
    return event.frame.name if isinstance(event, Method) else type(event).__name__


class FrameReader:
    """Makes events of bytes. Whoever feeds it more has read all events before."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._contents: dict[int, _Content] = {}

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        self._buffer += data

    def events(self) -> Iterator[Event | None]:
        """What is complete: an event, or `None` for a frame that is a part of one.

        Raises `ProtocolError` for what cannot be understood.
        """
        buffer, at = self._buffer, 0
        try:
            while len(buffer) - at >= _ENVELOPE:
                kind, channel, size = _FRAME.unpack_from(buffer, at)
                if size > FRAME_MAX - _ENVELOPE:
                    raise ProtocolError(_what_else(buffer, at) or f"a frame of {size} bytes")
                end = at + 7 + size
                if len(buffer) <= end:
                    break
                if buffer[end] != 0xCE:
                    raise ProtocolError("a frame without its end")
                if channel > MAX_CHANNEL:
                    raise ProtocolError(f"a frame on the channel {channel}, which is not open")
                payload = bytes(memoryview(buffer)[at + 7 : end])
                at = end + 1
                yield self._frame(kind, channel, payload)
        finally:
            del buffer[:at]

    def _frame(self, kind: int, channel: int, payload: bytes) -> Event | None:
        if kind == METHOD:
            return self._method(channel, payload)
        if kind == HEARTBEAT:
            return None
        content = self._contents.get(channel)
        if content is None:
            raise ProtocolError(f"a frame of kind {kind} that belongs to nothing")
        if kind == HEADER and content.wanted is None:
            try:
                _, _, content.wanted = _CONTENT.unpack_from(payload)
            except struct.error:
                raise ProtocolError("a content header that is too short") from None
        elif kind == BODY and content.wanted is not None:
            content.size += len(payload)
            if not payload:
                raise ProtocolError("a part of a message without a byte")
            if content.size > content.wanted:
                raise ProtocolError("a message that is longer than it says")
            if content.wanted <= MAX_CONTENT:
                content.parts.append(payload)
        else:
            raise ProtocolError(f"a frame of kind {kind} out of its turn")
        assert content.wanted is not None
        if content.size < content.wanted:
            return None
        del self._contents[channel]
        body = b"".join(content.parts) if content.wanted <= MAX_CONTENT else None
        if content.start[:4] == _RETURN:
            return Returned(channel, body)
        tag_at = 5 + content.start[4]
        try:
            return Delivered(channel, _TAG.unpack_from(content.start, tag_at)[0], body)
        except struct.error:
            raise ProtocolError("a delivery without its number") from None

    def _method(self, channel: int, payload: bytes) -> Event | None:
        if channel in self._contents:
            raise ProtocolError("a method in the midst of a message")
        which = payload[:4]
        if which in (_DELIVER, _RETURN) and len(payload) > 4:
            self._contents[channel] = _Content(payload)
            return None
        if which in (_CONFIRMED, _REJECTED) and len(payload) == 13:
            (tag,) = _TAG.unpack_from(payload, 4)
            return Confirmed(channel, tag, bool(payload[12] & 1), which == _CONFIRMED)
        return Method(channel, _unmarshal(channel, payload))


def _unmarshal(channel: int, payload: bytes) -> pamqp.base.Frame:
    whole = b"".join((_FRAME.pack(METHOD, channel, len(payload)), payload, _END))
    try:
        _, _, frame = pamqp.frame.unmarshal(whole)
    except Exception as error:  # noqa: BLE001 -- a table within tables ends in a RecursionError
        raise ProtocolError(f"a method that cannot be read: {type(error).__name__}") from None
    if not isinstance(frame, pamqp.base.Frame):
        raise ProtocolError("a frame of another kind than it says")
    return frame


def _what_else(buffer: bytearray, at: int) -> str:
    """What speaks there instead, if that can be told."""
    start = bytes(buffer[at : at + 5])
    if start.startswith(b"AMQP"):
        return "another version of AMQP is spoken there"
    if start.startswith(b"HTTP/"):
        return "HTTP is spoken there: is it the port of the management plugin?"
    if start[:1] in (b"\x15", b"\x16"):
        return "TLS is spoken there: write amqps://"
    return ""


def method(frame: pamqp.base.Frame, channel: int) -> bytes:
    """A method as bytes."""
    return pamqp.frame.marshal(frame, channel)


def ack(channel: int, tag: int) -> bytes:
    """Everything up to that delivery has been received."""
    return _ACK.pack(METHOD, channel, 13, 0x003C0050, tag, 1, 0xCE)


def publish(channel: int, exchange: bytes, key: bytes, body: bytes) -> bytes:
    """A message as bytes: to be sent back if it reaches no queue, and kept in memory only."""
    size = 9 + len(exchange) + len(key)
    parts = [
        _FRAME.pack(METHOD, channel, size),
        b"\x00\x3c\x00\x28\x00\x00",
        bytes((len(exchange),)),
        exchange,
        bytes((len(key),)),
        key,
        b"\x01\xce",
        _FRAME.pack(HEADER, channel, 14),
        _CONTENT.pack(60, 0, len(body)),
        b"\x00\x00\xce",
    ]
    for start in range(0, len(body), FRAME_MAX - _ENVELOPE):
        part = body[start : start + FRAME_MAX - _ENVELOPE]
        parts += (_FRAME.pack(BODY, channel, len(part)), part, _END)
    return b"".join(parts)


def start_of_body(data: bytes, exchange: bytes) -> int:
    """Where the body begins in what `publish` made."""
    key_length = data[7 + 7 + len(exchange)]
    return 7 + 9 + len(exchange) + key_length + 1 + 22 + 7


def size_of_body(data: bytes, exchange: bytes) -> int:
    """How long the body is in what `publish` made."""
    size: int = _TAG.unpack_from(data, start_of_body(data, exchange) - 7 - 22 + 7 + 4)[0]
    return size


__all__ = [
    "BEAT",
    "FRAME_MAX",
    "MAX_CONTENT",
    "PROTOCOL",
    "Confirmed",
    "Delivered",
    "Event",
    "FrameReader",
    "Method",
    "ProtocolError",
    "Returned",
    "ack",
    "commands",
    "method",
    "name_of",
    "publish",
    "size_of_body",
    "start_of_body",
]
