"""A message of a recoverable room, as subscribers receive it: an envelope in its place.

    offset  size
    0       1     version, 1
    1       1     kind: 5
    2       …     epoch, offset, tag, and the tag of the message before, in ASCII, with a space
                  between each two and a newline at the end; the numbers are decimal
            …     the envelope, as its sender encoded it

The carrier puts the beginning before what it was given when it numbers a message: Redis does it in
Lua, which has decimal numbers at hand. What is kept is the envelope alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fastapi_rooms.core.position import MAX_OFFSET, Position
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.wire.codec import VERSION

KIND = 5
BEGINNING = bytes((VERSION, KIND))
"""What every such message begins with."""

_NUMBER = rb"(0|[1-9][0-9]{0,19})"
_PLACE = re.compile(rb"([0-9a-f]{16}) " + _NUMBER + rb" " + _NUMBER + rb" " + _NUMBER + rb"\n")
_MAX_TAG = 2**64 - 1


class InPlace(NamedTuple):
    """An envelope, and where it is in its room."""

    position: Position
    """Its own: the one after it."""
    previous: int
    """The tag of the message before; 0 for the first."""
    envelope: bytes


def encode(position: Position, previous: int, envelope: bytes) -> bytes:
    """What a carrier publishes."""
    epoch, offset, tag = position
    return BEGINNING + f"{epoch} {offset} {tag} {previous}\n".encode() + envelope


def is_kept(data: bytes) -> bool:
    """Whether `data` is meant to be such a message, well formed or not."""
    return data[:2] == BEGINNING


def decode(data: bytes) -> InPlace:
    """Decode a message. Raises `MalformedEnvelope`, and nothing else, for invalid data."""
    match = _PLACE.match(data, len(BEGINNING)) if is_kept(data) else None
    if match is None:
        raise MalformedEnvelope("it has no place in a room")
    offset, tag, previous = int(match[2]), int(match[3]), int(match[4])
    if not 0 < offset <= MAX_OFFSET or not 0 < tag <= _MAX_TAG or previous > _MAX_TAG:
        raise MalformedEnvelope("its place is none that a message can have")
    position = Position(match[1].decode(), offset, tag)
    return InPlace(position, previous, data[match.end() :])
