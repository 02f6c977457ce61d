"""Frames between an edge, which holds a client, and the backend that runs its endpoint.

They travel on the channels of single workers, and heartbeats on the channel of all. All numbers are
big-endian:

    offset  size
    0       1     version, 1
    1       1     9: it is a frame
    2       1     kind of frame, below
    3       8     origin: the node id of the sender
    11      8     connection: drawn by the edge, new each time that it opens an endpoint
    19      4     sequence number in this direction of this connection, from 1; 0 in a heartbeat
    23            the body

    kind          from     body
    1  open       edge     JSON: the ASGI scope, and what is known from earlier attempts
    2  accept     backend  JSON: subprotocol and headers
    3  deny       backend  status (2), length of the headers (4), the headers as JSON, the body
    4  text       both     the payload
    5  bytes      both     the payload
    6  close      both     code (2), reason
    7  credit     both     bytes (4) and frames (4) that were taken, of messages and parts
    8  call       backend  JSON: id, verb, arguments
    9  reply      edge     JSON: id, result, error
    10 event      edge     JSON: what was done to a socket by others
    11 release    backend  how many messages (4) of the client its endpoint took, of all
    12 beat       both     JSON: a backend's name, clients and capacity; or that it is an edge
    13 reset      both     none: the sender knows no such connection, or has missed something
    14 users      edge     JSON: the users who came to a room or left it, by what the edge has done
    15 local      backend  an envelope, for those whose endpoints are in this backend
    16 part       both     flags (1): 1 it begins a message, 2 it ends it, 4 that is a text; a piece
                           of the payload. Without flags: what was not ended will never be
    17 mark       both     how much (8) was sent to this worker, on all connections
    18 arrived    both     that mark (8); how much (4) may be on its way to this worker

Anyone who may publish on the carrier can send anything, so everything is validated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from fastapi_rooms.core.json_codec import WIRE_JSON
from fastapi_rooms.core.names import MAX_NAME_BYTES
from fastapi_rooms.core.parts import PART, Assembly, Part, parts_of
from fastapi_rooms.core.presence import MAX_VERSION, UserEvent
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.types import NodeId, Room
from fastapi_rooms.wire.codec import VERSION

KIND = 9
BEGINNING = bytes((VERSION, KIND))
"""What every frame begins with."""

MAX_JSON = 2 * 1024 * 1024
"""The longest body that is JSON, in bytes: a thousand names of rooms are in it, or the data of a
socket."""

MAX_CALL = MAX_JSON // 2
"""The longest that a backend asks for: what there is of `socket.data` comes back in an opening."""

_HEADER = struct.Struct(">BBB8s8sI")
_CLOSE = struct.Struct(">H")
_CREDIT = struct.Struct(">II")
_COUNT = struct.Struct(">I")
_DENY = struct.Struct(">HI")
_MARK = struct.Struct(">Q")
_ARRIVED = struct.Struct(">QI")

_BEGINS, _ENDS, _IS_TEXT = 1, 2, 4

Headers = list[tuple[bytes, bytes]]


class FrameKind(IntEnum):
    """What a frame is."""

    OPEN = 1
    ACCEPT = 2
    DENY = 3
    TEXT = 4
    BYTES = 5
    CLOSE = 6
    CREDIT = 7
    CALL = 8
    REPLY = 9
    EVENT = 10
    RELEASE = 11
    BEAT = 12
    RESET = 13
    USERS = 14
    LOCAL = 15
    PART = 16
    MARK = 17
    ARRIVED = 18


MESSAGES = (FrameKind.TEXT, FrameKind.BYTES, FrameKind.PART)
"""What flow control counts."""


class Frame(NamedTuple):
    """One frame, its body not yet read."""

    kind: FrameKind
    origin: NodeId
    connection: bytes
    sequence: int
    body: bytes


NO_CONNECTION = bytes(8)
"""What a heartbeat has instead of a connection."""


def is_frame(data: bytes) -> bool:
    """Whether `data` is meant to be a frame, well formed or not."""
    return data[:2] == BEGINNING


def encode(frame: Frame) -> bytes:
    """Encode a frame."""
    kind, origin, connection, sequence, body = frame
    return _HEADER.pack(VERSION, KIND, kind, bytes.fromhex(origin), connection, sequence) + body


def decode(data: bytes) -> Frame:
    """Decode a frame. Raises `MalformedEnvelope`, and nothing else, for what is none."""
    try:
        version, family, kind, origin, connection, sequence = _HEADER.unpack_from(data)
        if (version, family) != (VERSION, KIND):
            raise MalformedEnvelope("it is no frame of a gateway")
        return Frame(FrameKind(kind), origin.hex(), connection, sequence, data[_HEADER.size :])
    except (struct.error, ValueError) as error:
        raise MalformedEnvelope(f"it is no frame: {error}") from error


def to_json(value: Any) -> bytes:
    """A body that is JSON. Raises `TypeError` for what cannot be JSON."""
    return WIRE_JSON.dumps(value)


def read_json(body: bytes) -> dict[str, Any]:
    """Read a body that is a JSON object. Raises `MalformedEnvelope`."""
    if len(body) > MAX_JSON:
        raise MalformedEnvelope(f"a body of {len(body)} bytes is longer than {MAX_JSON}")
    try:
        value = WIRE_JSON.loads(body)
    except ValueError as error:
        raise MalformedEnvelope(f"a body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedEnvelope("a body is no JSON object")
    return value


def field(value: dict[str, Any], name: str, *kinds: type) -> Any:
    """A field of a JSON object, of one of these types exactly. Raises `MalformedEnvelope`."""
    found = value.get(name)
    if type(found) not in kinds:
        raise MalformedEnvelope(f"{name!r} is missing, or of another type")
    return found


def pack_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[list[str]]:
    """Headers as JSON, byte for byte."""
    return [[bytes(n).decode("latin-1"), bytes(v).decode("latin-1")] for n, v in headers]


def unpack_headers(value: Any) -> Headers:
    """Headers from JSON. Raises `MalformedEnvelope`."""
    try:
        return [(n.encode("latin-1"), v.encode("latin-1")) for n, v in value]
    except (TypeError, ValueError, AttributeError) as error:
        raise MalformedEnvelope("the headers are none") from error


class Users(NamedTuple):
    """Who came to a room or left it."""

    namespace: str
    room: Room
    events: list[UserEvent]
    once: frozenset[int]
    """The versions of those that are to be told here, and on no other worker of all."""


def pack_users(users: Users) -> bytes:
    """The body of what tells of users."""
    events = [[*event, event.version in users.once] for event in users.events]
    return to_json({"namespace": users.namespace, "room": users.room, "events": events})


def unpack_users(body: bytes) -> Users:
    """Who came or left. Raises `MalformedEnvelope`."""
    about = read_json(body)
    namespace, room = field(about, "namespace", str), field(about, "room", str)
    events, once = [], set()
    for each in field(about, "events", list):
        match each:
            case [("join" | "leave") as kind, str(user), int(version), bool(is_once)] if (
                0 < version <= MAX_VERSION and 0 < len(user) <= MAX_NAME_BYTES
            ):
                events.append(UserEvent(kind, user, version))
                once.update([version] * is_once)
            case _:
                raise MalformedEnvelope("nobody can come or leave like that")
    return Users(namespace, room, events, frozenset(once))


def pack_close(code: int, reason: str) -> bytes:
    """The body of a close."""
    return _CLOSE.pack(code) + reason.encode()


def unpack_close(body: bytes) -> tuple[int, str]:
    """Code and reason of a close. Raises `MalformedEnvelope`."""
    try:
        (code,) = _CLOSE.unpack_from(body)
        reason = body[_CLOSE.size :].decode()
    except (struct.error, ValueError) as error:
        raise MalformedEnvelope("a close has no code, or its reason is no text") from error
    if not 1000 <= code < 5000 or len(body) > _CLOSE.size + 123:
        raise MalformedEnvelope("a close cannot have such a code or reason")
    return code, reason


def pack_credit(size: int, messages: int) -> bytes:
    """The body of a credit."""
    return _CREDIT.pack(size, messages)


def unpack_credit(body: bytes) -> tuple[int, int]:
    """Bytes and messages of a credit. Raises `MalformedEnvelope`."""
    size, messages = _numbers(_CREDIT, body, "a credit is two numbers")
    return size, messages


def pack_release(taken: int) -> bytes:
    """The body of a release."""
    return _COUNT.pack(taken)


def unpack_release(body: bytes) -> int:
    """How many messages were taken. Raises `MalformedEnvelope`."""
    (taken,) = _numbers(_COUNT, body, "a release is a number")
    return taken


def pack_deny(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """The body of a deny. Raises `ValueError` for a status that is none, or what is too long."""
    if not 200 <= status < 600:
        raise ValueError(f"A handshake cannot be refused with status {status!r}: use 200 to 599.")
    if len(body) > MAX_CALL:
        raise ValueError(
            f"The answer to a handshake has {len(body):,} bytes; an edge takes {MAX_CALL:,}."
        )
    packed = to_json(pack_headers(headers))
    return _DENY.pack(status, len(packed)) + packed + body


def unpack_deny(body: bytes) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a deny. Raises `MalformedEnvelope`."""
    try:
        status, size = _DENY.unpack_from(body)
        end = _DENY.size + size
        if size > MAX_JSON or end > len(body) or not 200 <= status < 600:
            raise MalformedEnvelope("the status or the headers of a deny cannot be")
        headers = unpack_headers(WIRE_JSON.loads(body[_DENY.size : end]))
    except (struct.error, ValueError) as error:
        raise MalformedEnvelope("a deny is cut off, or its headers are no JSON") from error
    return status, headers, body[end:]


def frames_of(kind: FrameKind, message: bytes) -> Iterator[tuple[FrameKind, bytes]]:
    """Kind and body of the frames in which a message travels: one, or several if it is long."""
    if len(message) <= PART:
        yield kind, message
        return
    is_text = _IS_TEXT if kind is FrameKind.TEXT else 0
    for begins, ends, data in parts_of(message):
        flags = is_text | (_BEGINS if begins else 0) | (_ENDS if ends else 0)
        yield FrameKind.PART, bytes((flags,)) + data


def ends_message(kind: FrameKind, body: bytes) -> bool:
    """Whether a frame of a message that is sent is the last one of it."""
    return kind is not FrameKind.PART or bool(body[0] & _ENDS)


def unpack_part(body: bytes) -> tuple[FrameKind, Part]:
    """A part, and what its message is. Raises `MalformedEnvelope`."""
    if not body or body[0] > _BEGINS | _ENDS | _IS_TEXT:
        raise MalformedEnvelope("a part has no flags, or unknown ones")
    flags = body[0]
    kind = FrameKind.TEXT if flags & _IS_TEXT else FrameKind.BYTES
    return kind, Part(bool(flags & _BEGINS), bool(flags & _ENDS), body[1:])


def put_together(assembly: Assembly, part: Part) -> bytes | None:
    """The message, if this was its last part. Raises `MalformedEnvelope`."""
    try:
        return assembly.add(part)
    except ValueError as error:
        raise MalformedEnvelope(str(error)) from error


def pack_mark(mark: int) -> bytes:
    """The body of a mark."""
    return _MARK.pack(mark)


def unpack_mark(body: bytes) -> int:
    """How much was sent. Raises `MalformedEnvelope`."""
    (mark,) = _numbers(_MARK, body, "a mark is a number")
    return mark


def pack_arrived(mark: int, limit: int) -> bytes:
    """The body of what answers a mark."""
    return _ARRIVED.pack(mark, limit)


def unpack_arrived(body: bytes) -> tuple[int, int]:
    """A mark that has arrived, and the limit. Raises `MalformedEnvelope`."""
    mark, limit = _numbers(_ARRIVED, body, "a mark that has arrived is two numbers")
    return mark, limit


def _numbers(form: struct.Struct, body: bytes, what: str) -> tuple[int, ...]:
    """A body that is whole numbers. Raises `MalformedEnvelope`, which says `what` it should be."""
    try:
        return form.unpack(body)
    except struct.error as error:
        raise MalformedEnvelope(what) from error
