"""Encodes and decodes envelopes. The format is part of the contract between versions.

Version 1; all numbers are big-endian. Every envelope starts with the same header:

    offset  size
    0       1     version, 1
    1       1     kind: 1 broadcast, 2 request, 3 reply, 4 heartbeat
    2       1     flags, below
    3       8     origin: the node id of the sender
    11      8     sequence number
    19      1     n: the length of the namespace
    20      2     number of rooms
    22      2     number of excluded rooms
    24      n     the namespace, UTF-8
            …     the rooms, then the excluded rooms: for each a length byte, then UTF-8
            …     the body, to the end

    kind       flags                                   body
    broadcast  1 binary, 2 volatile, 4 everyone        the payload, as clients receive it
    request    4 everyone                              id (8), then JSON: [verb, arguments]
    reply      1 last piece, 2 refused, 4 unsupported  id (8), piece (4), then a piece of JSON
    heartbeat  none                                    kind (1), interval in milliseconds (4)

"Everyone" addresses the whole namespace; the envelope then names no rooms. A reply with "refused"
carries the reason, as text. "Unsupported" is set together with "refused": its sender does not know
the verb of the request. Replies and heartbeats have no namespace and name no rooms.

Anyone who may publish to Redis can put anything on a channel, so `decode` validates everything:
lengths must match the data, no room may be named twice, and text must be UTF-8, because clients
have to fail the connection over text that is not (RFC 6455, section 8.1).
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from fastapi_rooms.core.json_codec import WIRE_JSON
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
"""How many rooms an envelope can name, and how many it can exclude: both counts have 16 bits."""


def encode(envelope: Envelope) -> bytes:
    """Encode an envelope.

    Raises `UsageError` for more than 65,535 rooms, and `TypeError` for arguments that orjson cannot
    encode.
    """
    origin, sequence = envelope.origin, envelope.sequence
    match envelope:
        case Broadcast(_, _, namespace, target, payload, volatile):
            flags = (_BINARY if payload.binary else 0) | (_VOLATILE if volatile else 0)
            return _assemble(_BROADCAST, flags, origin, sequence, namespace, target, payload.data)
        case Request(_, _, namespace, target, number, verb, arguments):
            body = _REQUEST_ID.pack(number) + WIRE_JSON.dumps([verb, arguments])
            return _assemble(_REQUEST, 0, origin, sequence, namespace, target, body)
        case Reply(_, _, number, piece, last, refused, data, unsupported):
            flags = (_LAST if last else 0) | (_REFUSED if refused else 0)
            flags |= _UNSUPPORTED if unsupported else 0
            return _assemble(
                _REPLY, flags, origin, sequence, "", _NO_TARGET, _PIECE.pack(number, piece) + data
            )
        case Heartbeat(_, _, kind, interval):
            body = _KIND_AND_INTERVAL.pack(kind.value, round(interval * 1000))
            return _assemble(_HEARTBEAT, 0, origin, sequence, "", _NO_TARGET, body)


_NO_TARGET = Target(())


def _assemble(
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
        raise UsageError(f"One broadcast or command can name at most {MAX_NAMES} rooms.")
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
    """Whether `data`, if it is an envelope, was sent by `origin`, a node id as eight bytes.

    A worker that subscribes to a channel receives its own messages too; this recognizes them
    without decoding them.
    """
    return data[_ORIGIN] == origin


def decode(data: bytes) -> Envelope:
    """Decode an envelope. Raises `MalformedEnvelope`, and nothing else, for invalid data."""
    try:
        version, kind, flags, origin, sequence, name_size, rooms, except_ = _HEADER.unpack_from(
            data
        )
    except Exception as error:
        raise MalformedEnvelope("it is shorter than a header") from error
    if version != VERSION:
        raise MalformedEnvelope(f"version {version} is not {VERSION}")
    if kind not in _KNOWN_FLAGS:
        raise MalformedEnvelope(f"kind {kind} is unknown")
    if flags & ~_KNOWN_FLAGS[kind] or (kind <= _REQUEST and flags & _EVERYONE and rooms):
        raise MalformedEnvelope(f"flags {flags:#x} are invalid for kind {kind}")
    try:
        return _decode_rest(data, kind, flags, origin.hex(), sequence, name_size, rooms, except_)
    except MalformedEnvelope:
        raise
    except Exception as error:
        raise MalformedEnvelope(str(error)) from error


def decode_broadcast(data: bytes) -> Broadcast:
    """Decode a broadcast. Raises `MalformedEnvelope` for everything else."""
    envelope = decode(data)
    if not isinstance(envelope, Broadcast):
        raise MalformedEnvelope("it is not a message to sockets")
    return envelope


def _decode_rest(
    data: bytes,
    kind: int,
    flags: int,
    origin: NodeId,
    sequence: int,
    name_size: int,
    rooms: int,
    except_: int,
) -> Envelope:
    """Decode what follows the header. Invalid data may raise any exception here."""
    offset = _HEADER.size + name_size
    if offset > len(data):
        raise MalformedEnvelope("the namespace is cut off")
    namespace = data[_HEADER.size : offset].decode()
    names, offset = _decode_names(data, offset, rooms)
    excluded, offset = _decode_names(data, offset, except_)
    target = Target(None if flags & _EVERYONE else names, excluded)
    if kind == _BROADCAST:
        payload = Payload(data[offset:], binary=bool(flags & _BINARY))
        if not payload.binary:
            payload.text  # noqa: B018 -- decodes it: raises if the text is not UTF-8
        return Broadcast(origin, sequence, namespace, target, payload, bool(flags & _VOLATILE))
    if kind == _REQUEST:
        return Request(origin, sequence, namespace, target, *_decode_request(data, offset))
    if offset != _HEADER.size:
        raise MalformedEnvelope("a reply or heartbeat must have no namespace and no rooms")
    if kind == _REPLY:
        number, piece = _PIECE.unpack_from(data, offset)
        rest = data[offset + _PIECE.size :]
        last, refused = bool(flags & _LAST), bool(flags & _REFUSED)
        unsupported = bool(flags & _UNSUPPORTED)
        if unsupported and not refused:
            raise MalformedEnvelope("an unsupported reply must be refused")
        return Reply(origin, sequence, number, piece, last, refused, rest, unsupported)
    return _decode_heartbeat(origin, sequence, data[offset:])


def _decode_names(data: bytes, offset: int, count: int) -> tuple[tuple[Room, ...], int]:
    names = []
    for _ in range(count):
        end = offset + 1 + data[offset]
        if end > len(data) or end == offset + 1:
            raise MalformedEnvelope("a name is cut off or empty")
        names.append(data[offset + 1 : end].decode())
        offset = end
    if count > 1 and len(set(names)) < count:  # each member would be counted once for each
        raise MalformedEnvelope("a name is given twice")
    return tuple(names), offset


def _decode_request(data: bytes, offset: int) -> tuple[int, str, dict[str, Any]]:
    (number,) = _REQUEST_ID.unpack_from(data, offset)
    match WIRE_JSON.loads(data[offset + _REQUEST_ID.size :]):
        case [str(verb), dict(arguments)]:
            return number, verb, arguments
        case _:
            raise MalformedEnvelope("a request must be a verb and its arguments")


def _decode_heartbeat(origin: NodeId, sequence: int, body: bytes) -> Heartbeat:
    kind, milliseconds = _KIND_AND_INTERVAL.unpack(body)
    if not milliseconds:
        raise MalformedEnvelope("a heartbeat must have an interval")
    return Heartbeat(origin, sequence, HeartbeatKind(kind), milliseconds / 1000)
