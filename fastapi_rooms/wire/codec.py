"""Encodes and decodes envelopes.

Version 1, all numbers big-endian. Every envelope starts with the same header:

    offset  size
    0       1     version, 1
    1       1     kind: 1 a broadcast, 2 a request, 3 a reply, 4 a heartbeat
    2       1     flags, below
    3       8     origin, the sender's node id
    11      8     sequence
    19      1     n, the length of the namespace
    20      2     number of rooms
    22      2     number of rooms left out
    24      n     the namespace, UTF-8
            …     the rooms, then the rooms left out: a length byte and UTF-8 each
            …     the body, to the end

    kind       flags                                   body
    broadcast  1 binary, 2 volatile, 4 for everyone    the payload, as the client will get it
    request    4 for everyone in the namespace         id (8), then JSON: [verb, arguments]
    reply      1 last piece, 2 refused, 4 unsupported  id (8), piece (4), then a piece of JSON
    heartbeat  none                                    kind (1), interval in milliseconds (4)

A reply that is refused carries the reason, as text. One that is unsupported is refused, too: its
sender does not know the verb of the request. Replies and heartbeats have no namespace and name no
rooms.

Whoever may write to Redis can put anything on a channel, so `decode` believes nothing: every length
is checked against what is there, and text must be UTF-8, as a client would have to break the
connection over text that is not (RFC 6455, section 8.1).
"""

from __future__ import annotations

from struct import Struct
from typing import Any

import orjson

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import MalformedEnvelope, UsageError
from fastapi_rooms.types import NodeId, Room
from fastapi_rooms.wire.envelope import (
    Broadcast,
    Envelope,
    Heartbeat,
    HeartbeatKind,
    Reply,
    Request,
)

VERSION = 1
_BROADCAST, _REQUEST, _REPLY, _HEARTBEAT = 1, 2, 3, 4
_BINARY, _VOLATILE, _EVERYONE = 1, 2, 4
_LAST, _REFUSED, _UNSUPPORTED = 1, 2, 4
_KNOWN_FLAGS = {
    _BROADCAST: _BINARY | _VOLATILE | _EVERYONE,
    _REQUEST: _EVERYONE,
    _REPLY: _LAST | _REFUSED | _UNSUPPORTED,
    _HEARTBEAT: 0,
}
_HEADER = Struct(">BBB8sQBHH")
_ORIGIN = slice(3, 11)
_REQUEST_ID = Struct(">Q")
_PIECE = Struct(">QI")
_KIND_AND_INTERVAL = Struct(">BI")
MAX_NAMES = 0xFFFF
"""How many rooms one broadcast or request can name, and how many it can leave out."""


def encode(envelope: Envelope) -> bytes:
    """The bytes of an envelope.

    Raises `UsageError` for more than 65,535 names, `TypeError` for arguments that are not JSON.
    """
    origin, sequence = envelope.origin, envelope.sequence
    match envelope:
        case Broadcast(_, _, namespace, target, payload, volatile):
            flags = (_BINARY if payload.binary else 0) | (_VOLATILE if volatile else 0)
            return _join(_BROADCAST, flags, origin, sequence, namespace, target, payload.data)
        case Request(_, _, namespace, target, number, verb, arguments):
            body = _REQUEST_ID.pack(number) + orjson.dumps([verb, arguments])
            return _join(_REQUEST, 0, origin, sequence, namespace, target, body)
        case Reply(_, _, number, piece, last, refused, data, unsupported):
            flags = (_LAST if last else 0) | (_REFUSED if refused else 0)
            flags |= _UNSUPPORTED if unsupported else 0
            return _join(
                _REPLY, flags, origin, sequence, "", _NOBODY, _PIECE.pack(number, piece) + data
            )
        case Heartbeat(_, _, kind, interval):
            body = _KIND_AND_INTERVAL.pack(kind.value, round(interval * 1000))
            return _join(_HEARTBEAT, 0, origin, sequence, "", _NOBODY, body)


_NOBODY = Target(())


def _join(
    kind: int,
    flags: int,
    origin: NodeId,
    sequence: int,
    namespace: str,
    target: Target,
    body: bytes,
) -> bytes:
    rooms, except_ = target
    if rooms is None:
        flags |= _EVERYONE
        rooms = ()
    if len(rooms) > MAX_NAMES or len(except_) > MAX_NAMES:
        raise UsageError(f"One broadcast can name at most {MAX_NAMES} rooms.")
    name = namespace.encode()
    header = _HEADER.pack(
        VERSION,
        kind,
        flags,
        bytes.fromhex(origin),
        sequence,
        len(name),
        len(rooms),
        len(except_),
    )
    parts = [header, name]
    for room in rooms + except_:
        encoded = room.encode()
        parts.append(len(encoded).to_bytes())
        parts.append(encoded)
    parts.append(body)
    return b"".join(parts)


def is_from(origin: bytes, data: bytes) -> bool:
    """Whether an envelope, if it is one, comes from the worker with these eight bytes for its id.

    A worker gets its own messages back where it is a subscriber too: not worth decoding.
    """
    return data[_ORIGIN] == origin


def decode(data: bytes) -> Envelope:
    """The envelope that `data` is. Raises `MalformedEnvelope` for anything else."""
    try:
        version, kind, flags, origin, sequence, name_size, rooms, except_ = _HEADER.unpack_from(
            data
        )
    except Exception as error:
        raise MalformedEnvelope("shorter than a header") from error
    if version != VERSION:
        raise MalformedEnvelope(f"version {version} is not {VERSION}")
    if kind not in _KNOWN_FLAGS:
        raise MalformedEnvelope(f"kind {kind} is unknown")
    if flags & ~_KNOWN_FLAGS[kind] or (kind <= _REQUEST and flags & _EVERYONE and rooms):
        raise MalformedEnvelope(f"flags {flags:#x} make no sense")
    try:
        return _read(data, kind, flags, origin.hex(), sequence, name_size, rooms, except_)
    except MalformedEnvelope:
        raise
    except Exception as error:
        raise MalformedEnvelope(str(error)) from error


def _read(
    data: bytes,
    kind: int,
    flags: int,
    origin: NodeId,
    sequence: int,
    name_size: int,
    rooms: int,
    except_: int,
) -> Envelope:
    """What follows the header. May raise anything, for data that is not what it says."""
    at = _HEADER.size + name_size
    if at > len(data):
        raise MalformedEnvelope("the namespace is cut off")
    namespace = data[_HEADER.size : at].decode()
    names, at = _read_names(data, at, rooms)
    left_out, at = _read_names(data, at, except_)
    target = Target(None if flags & _EVERYONE else names, left_out)
    if kind == _BROADCAST:
        payload = Payload(data[at:], binary=bool(flags & _BINARY))
        if not payload.binary:
            payload.text  # noqa: B018 -- decodes it: text that is no UTF-8 stops here
        return Broadcast(origin, sequence, namespace, target, payload, bool(flags & _VOLATILE))
    if kind == _REQUEST:
        return Request(origin, sequence, namespace, target, *_read_request(data, at))
    if at != _HEADER.size:
        raise MalformedEnvelope("a reply or a heartbeat has no namespace and no rooms")
    if kind == _REPLY:
        number, piece = _PIECE.unpack_from(data, at)
        rest = data[at + _PIECE.size :]
        last, refused = bool(flags & _LAST), bool(flags & _REFUSED)
        unsupported = bool(flags & _UNSUPPORTED)
        if unsupported and not refused:
            raise MalformedEnvelope("what is unsupported is refused")
        return Reply(origin, sequence, number, piece, last, refused, rest, unsupported)
    return _read_heartbeat(origin, sequence, data[at:])


def _read_names(data: bytes, at: int, count: int) -> tuple[tuple[Room, ...], int]:
    names = []
    for _ in range(count):
        end = at + 1 + data[at]
        if end > len(data) or end == at + 1:
            raise MalformedEnvelope("a name is cut off or empty")
        names.append(data[at + 1 : end].decode())
        at = end
    return tuple(names), at


def _read_request(data: bytes, at: int) -> tuple[int, str, dict[str, Any]]:
    (number,) = _REQUEST_ID.unpack_from(data, at)
    match orjson.loads(data[at + _REQUEST_ID.size :]):
        case [str(verb), dict(arguments)]:
            return number, verb, arguments
        case _:
            raise MalformedEnvelope("a request is a verb and its arguments")


def _read_heartbeat(origin: NodeId, sequence: int, body: bytes) -> Heartbeat:
    kind, milliseconds = _KIND_AND_INTERVAL.unpack(body)
    if not milliseconds:
        raise MalformedEnvelope("a heartbeat needs an interval")
    return Heartbeat(origin, sequence, HeartbeatKind(kind), milliseconds / 1000)
