"""That a user came or went, as the subscribers of a room are told.

    offset  size
    0       1     version, 1
    1       1     kind: 6
    2       …     join or leave, the version of the room, the length of the room's name, and that of
                  the user, in ASCII, with a space between each two and a newline at the end; the
                  numbers are decimal
            …     the room's name, which is `namespace#room`, and the user, in UTF-8, to the end

The carrier makes it in the step in which it changes the room: Redis does it in Lua, which has
decimal numbers at hand.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fastapi_rooms.core.names import MAX_NAME_BYTES
from fastapi_rooms.core.presence import MAX_VERSION, UserEvent
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.types import Room
from fastapi_rooms.wire.codec import VERSION

KIND = 6
BEGINNING = bytes((VERSION, KIND))
"""What every such message begins with."""

_HEADER = re.compile(rb"(join|leave) ([1-9][0-9]{0,15}) ([1-9][0-9]{0,2}) ([1-9][0-9]{0,2})\n")


class RoomEvent(NamedTuple):
    """A user came or went, and where."""

    namespace: str
    room: Room
    event: UserEvent


def encode(name: bytes, event: UserEvent) -> bytes:
    """What a carrier publishes; `name` is that of the room with its namespace."""
    kind, user, version = event.kind, event.user.encode(), event.version
    header = f"{kind} {version} {len(name)} {len(user)}\n".encode()
    return BEGINNING + header + name + user


def is_event(data: bytes) -> bool:
    """Whether `data` is meant to be such a message, well formed or not."""
    return data[:2] == BEGINNING


def decode(data: bytes) -> RoomEvent:
    """Decode a message. Raises `MalformedEnvelope`, and nothing else, for invalid data."""
    match = _HEADER.match(data, len(BEGINNING)) if is_event(data) else None
    if match is None:
        raise MalformedEnvelope("it tells of nobody")
    version, name_size, user_size = int(match[2]), int(match[3]), int(match[4])
    start = match.end()
    if version > MAX_VERSION or len(data) != start + name_size + user_size:
        raise MalformedEnvelope("its numbers cannot be")
    if user_size > MAX_NAME_BYTES:
        raise MalformedEnvelope("its user is too long")
    try:
        namespace, _, room = data[start : start + name_size].partition(b"#")
        if not 0 < len(room) <= MAX_NAME_BYTES >= len(namespace) or namespace[:1] != b"/":
            raise MalformedEnvelope("its room has no name")
        user = data[start + name_size :].decode()
        event = UserEvent("join" if match[1] == b"join" else "leave", user, version)
        return RoomEvent(namespace.decode(), room.decode(), event)
    except UnicodeDecodeError as error:
        raise MalformedEnvelope("its names are no UTF-8") from error
