"""What an adapter can do for rooms that remember: number messages, keep them, and read them again.

The guarantees, which `fastapi_rooms.testing.suite.HistorySuite` checks against any implementation:

* **One step.** A message is numbered, kept and published at once. Whoever receives it can read it,
  and whoever reads it either receives it or was not subscribed.
* **One order.** All subscribers, the sender among them, receive a room's messages in the order of
  their offsets, framed as `fastapi_rooms/wire/kept.py` has it.
* **Once.** A message that is sent again after a broken connection is kept and numbered once.
* **Honest.** An epoch never comes back. Where the carrier has lost count, or the messages of a
  numbering without it, there is a new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from fastapi_rooms.core.patterns import Patterns
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import MAX_BYTES, Kept, Stretch, after
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import UsageError
from fastapi_rooms.types import Channel
from fastapi_rooms.wire import kept

__all__ = [
    "MAX_BYTES",
    "Kept",
    "Position",
    "Retention",
    "RoomKey",
    "Stretch",
    "SupportsHistory",
    "after",
    "kept",
    "retention_of",
]


class Retention(NamedTuple):
    """How much of a room is kept."""

    size: int
    """How many messages somebody who was away can have missed."""
    ttl: float
    """Seconds after its last message that all of them are forgotten. The numbering goes on."""


def retention_of(patterns: Patterns[Retention], target: Target) -> Retention | None:
    """How much is kept of the one room that a message goes to; `None` if it goes elsewhere.

    Raises `UsageError` if there is a room that remembers among several.
    """
    rooms = target.rooms
    if rooms is None:
        return None
    if len(rooms) == 1:
        return patterns.find(rooms[0])
    for room in rooms:
        if patterns.find(room) is not None:
            raise UsageError(
                f"{room!r} has a history, in which each message has its place: such a room is "
                f"addressed alone. Send to {room!r} by itself, and to the others by themselves."
            )
    return None


class RoomKey(NamedTuple):
    """A room as carriers know it."""

    name: bytes
    """Its namespace and name: unique, and any bytes."""
    channel: Channel
    """The channel that carries its messages."""


@runtime_checkable
class SupportsHistory(Protocol):
    """An adapter whose carrier keeps messages."""

    def append(
        self, room: RoomKey, data: bytes, tag: int, retention: Retention
    ) -> Awaitable[Position]:
        """Start to number, keep and publish a message; await the result to know its position.

        `size` and one more message are kept, so that a position `size` messages ago is one. What
        is appended in one turn of the event loop keeps its order. Raises `AdapterUnavailable` if
        the carrier does not do it in time, or refuses: `uncertain` is true if it may have done it
        all the same. A caller that is cancelled before it was written takes it back.
        """

    async def read(self, room: RoomKey) -> Stretch[bytes]:
        """What is kept of a room, up to the top; the data as it was given to `append`.

        Of more than `MAX_BYTES` it may be the last that cost as much. A room that was never sent
        anything has a numbering from then on, so that its position is one to resume from. Raises
        `AdapterUnavailable`.
        """

    async def read_since(self, room: RoomKey, position: Position) -> Stretch[bytes]:
        """The top, and the kept messages from that of `position` on.

        Nothing before it is read where it is a place in the chain. Of more than `MAX_BYTES` it may
        be the first that cost as much, and one more, from whose end it can be read on. The end at
        which all messages were forgotten stays a place in the chain, as long as what follows it
        is kept. Raises `AdapterUnavailable`.
        """

    async def tops(self, rooms: Sequence[RoomKey]) -> list[Position | None]:
        """The top of each room; `None` for one without a numbering. Raises `AdapterUnavailable`."""

    async def forget(self, room: RoomKey) -> None:
        """Forget the messages of a room, and go on counting. Raises `AdapterUnavailable`."""
