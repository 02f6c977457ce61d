"""What carriers keep, read as messages, and what these cost in a log."""

from __future__ import annotations

from typing import NamedTuple

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Kept, Stretch
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast


class Placed(NamedTuple):
    """A message, and the position after it."""

    position: Position
    message: Broadcast


def decoded(read: Stretch[bytes]) -> Stretch[Broadcast | None]:
    """What a carrier keeps, as messages; of what is none, as others may write, the place alone."""
    messages = [Kept(kept.offset, kept.tag, _broadcast(kept.item)) for kept in read.messages]
    return Stretch(read.top, messages, read.before)


def cost_of(message: Broadcast | None) -> int:
    """What a message costs in a log, in bytes."""
    return ENTRY_BYTES if message is None else len(message.payload.data) + ENTRY_BYTES


def _broadcast(data: bytes) -> Broadcast | None:
    try:
        return codec.decode_broadcast(data)
    except MalformedEnvelope:
        return None
