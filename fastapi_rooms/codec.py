"""Envelopes as bytes, and back.

Version 1, all numbers big-endian:

    offset  size
    0       1     version, 1
    1       1     kind, 1: a broadcast
    2       1     flags: 1 the payload is binary, 2 volatile, 4 for everyone in the namespace
    3       8     origin, the sender's node id
    11      8     sequence
    19      1     n, the length of the namespace
    20      2     number of rooms
    22      2     number of rooms left out
    24      n     the namespace, UTF-8
            …     the rooms, then the rooms left out: a length byte and UTF-8 each
            …     the payload, to the end, as the client will get it

Whoever may write to Redis can put anything on a channel, so `decode` believes nothing: every length
is checked against what is there, and text must be UTF-8, as a client would have to break the
connection over text that is not (RFC 6455, section 8.1).
"""

from __future__ import annotations

from struct import Struct

from fastapi_rooms.envelope import Broadcast, Target
from fastapi_rooms.errors import MalformedEnvelope, UsageError
from fastapi_rooms.frames import Payload
from fastapi_rooms.types import Room

VERSION = 1
_BROADCAST = 1
_BINARY, _VOLATILE, _EVERYONE = 1, 2, 4
_KNOWN_FLAGS = _BINARY | _VOLATILE | _EVERYONE
_HEADER = Struct(">BBB8sQBHH")
_ORIGIN = slice(3, 11)
MAX_NAMES = 0xFFFF
"""How many rooms one broadcast can name, and how many it can leave out."""


def encode(broadcast: Broadcast) -> bytes:
    """The bytes of a broadcast. Raises `UsageError` for more than 65,535 names."""
    origin, sequence, namespace, target, payload, volatile = broadcast
    rooms, except_ = target
    flags = _BINARY if payload.binary else 0
    if volatile:
        flags |= _VOLATILE
    if rooms is None:
        flags |= _EVERYONE
        rooms = ()
    if len(rooms) > MAX_NAMES or len(except_) > MAX_NAMES:
        raise UsageError(f"One broadcast can name at most {MAX_NAMES} rooms.")
    name = namespace.encode()
    header = _HEADER.pack(
        VERSION,
        _BROADCAST,
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
    parts.append(payload.data)
    return b"".join(parts)


def is_from(origin: bytes, data: bytes) -> bool:
    """Whether an envelope, if it is one, comes from the worker with these eight bytes for its id.

    A worker gets its own messages back where it is a subscriber too: not worth decoding.
    """
    return data[_ORIGIN] == origin


def decode(data: bytes) -> Broadcast:
    """The broadcast that `data` is. Raises `MalformedEnvelope` for anything else."""
    try:
        version, kind, flags, origin, sequence, name_size, rooms, except_ = _HEADER.unpack_from(
            data
        )
    except Exception as error:
        raise MalformedEnvelope("shorter than a header") from error
    if version != VERSION:
        raise MalformedEnvelope(f"version {version} is not {VERSION}")
    if kind != _BROADCAST:
        raise MalformedEnvelope(f"kind {kind} is unknown")
    if flags & ~_KNOWN_FLAGS or (flags & _EVERYONE and rooms):
        raise MalformedEnvelope(f"flags {flags:#x} make no sense")
    at = _HEADER.size + name_size
    try:
        if at > len(data):
            raise MalformedEnvelope("the namespace is cut off")
        namespace = data[_HEADER.size : at].decode()
        names, at = _read_names(data, at, rooms)
        left_out, at = _read_names(data, at, except_)
        payload = Payload(data[at:], binary=bool(flags & _BINARY))
        if not payload.binary:
            payload.text  # noqa: B018 -- decodes it: text that is no UTF-8 stops here
    except (UnicodeDecodeError, IndexError) as error:
        raise MalformedEnvelope(str(error)) from error
    return Broadcast(
        origin.hex(),
        sequence,
        namespace,
        Target(None if flags & _EVERYONE else names, left_out),
        payload,
        bool(flags & _VOLATILE),
    )


def _read_names(data: bytes, at: int, count: int) -> tuple[tuple[Room, ...], int]:
    names = []
    for _ in range(count):
        end = at + 1 + data[at]
        if end > len(data) or end == at + 1:
            raise MalformedEnvelope("a name is cut off or empty")
        names.append(data[at + 1 : end].decode())
        at = end
    return tuple(names), at
