"""What `SupportsHistory` asks for, by the lanes of a cluster's nodes: every room at its slot's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import hiredis

from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.history.reader import ROOMS_PER_QUESTION, RoomReader
from fastapi_rooms.adapters.redis.history.script import Message
from fastapi_rooms.adapters.redis.sharded.slot_lanes import NodeLane, SlotLanes
from fastapi_rooms.adapters.redis.sharded.slots import is_redirection, slot_of
from fastapi_rooms.core.position import Position
from fastapi_rooms.errors import AdapterUnavailable

T = TypeVar("T")


class ClusterHistory(RoomReader):
    """The messages that the masters of a cluster keep.

    Args:
        lanes: the connections to them.
        prefix: the first part of every key.
    """

    def __init__(self, lanes: SlotLanes, prefix: str) -> None:
        super().__init__(prefix)
        self._lanes = lanes

    def append(
        self, room: RoomKey, data: bytes, tag: int, retention: Retention
    ) -> asyncio.Future[Position]:
        """Number, keep and publish a message."""
        return self._lanes.append(Message(room, tag, retention, data))

    async def tops(self, rooms: Sequence[RoomKey]) -> list[Position | None]:
        """Where the rooms end. To ask about none connects, and tells whether it may be used."""
        if not rooms:
            await self._connect()
            return []
        found: dict[RoomKey, Position | None] = {}
        async with self._in_time(rooms[0]):
            pending = list(rooms)
            while pending:
                for lane, some in self._by_lane(pending):
                    await self._find_tops(lane, some, found)
                pending = [room for room in rooms if room not in found]
                if pending:  # they are moving, or their node is not known
                    await self._lanes.updated()
        return [found[room] for room in rooms]

    async def _connect(self) -> None:
        """Connect to every master. Raises `AdapterUnavailable`."""
        async with self._in_time(None):
            while not self._lanes.lanes:
                await self._lanes.updated()
            for lane in self._lanes.lanes:
                await self._unless_gone(lane, lane.ensure_master())

    def _by_lane(self, rooms: Sequence[RoomKey]) -> Iterator[tuple[NodeLane, list[RoomKey]]]:
        """The rooms whose node is known, in parts that it can be asked about at once."""
        by_lane: dict[NodeLane, list[RoomKey]] = {}
        for room in rooms:
            lane = self._lanes.lane_of(slot_of(room.channel))
            if lane is not None:
                by_lane.setdefault(lane, []).append(room)
        for lane, some in by_lane.items():
            for start in range(0, len(some), ROOMS_PER_QUESTION):
                yield lane, some[start : start + ROOMS_PER_QUESTION]

    async def _find_tops(
        self, lane: NodeLane, rooms: list[RoomKey], found: dict[RoomKey, Position | None]
    ) -> None:
        """Ask one node where rooms end, and note it for those that it serves."""
        asked = lane.ask(self._ask_for_tops(rooms), len(rooms))
        replies = await self._unless_gone(lane, asked) or ()
        for room, reply in zip(rooms, replies, strict=False):
            if not _is_elsewhere((reply,)):
                found[room] = self._top_in(reply)

    async def _ask(self, room: RoomKey, encode: Callable[[], bytes], count: int) -> list[Any]:
        """The replies of the master that serves the room's slot, wherever that moves meanwhile."""
        slot = slot_of(room.channel)
        async with self._in_time(room):
            while True:
                lane = self._lanes.lane_of(slot)
                if lane is not None:
                    replies = await self._unless_gone(lane, lane.ask(encode, count))
                    if replies is not None and not _is_elsewhere(replies):
                        return replies
                await self._lanes.updated()

    async def _unless_gone(self, lane: NodeLane, asked: Awaitable[T]) -> T | None:
        """What a node answers; `None` if it has ceased to be a master meanwhile."""
        try:
            return await asked
        except AdapterUnavailable:
            if self._lanes.is_serving(lane):
                raise
            return None

    @asynccontextmanager
    async def _in_time(self, room: RoomKey | None) -> AsyncIterator[None]:
        """Raise `AdapterUnavailable` for a room if it takes too long."""
        timeout = self._lanes.timeout
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            slot = -1 if room is None else slot_of(room.channel)
            raise AdapterUnavailable(
                f"Redis did not answer in {timeout} s ({self._lanes.why_waiting(slot)})."
            ) from None


def _is_elsewhere(replies: Sequence[Any]) -> bool:
    """Whether a node says that it does not serve the slot, or not now."""
    return any(isinstance(r, hiredis.ReplyError) and is_redirection(str(r)) for r in replies)
