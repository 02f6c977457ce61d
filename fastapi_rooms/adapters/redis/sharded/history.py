"""What `SupportsHistory` asks for, by the lanes of a cluster's nodes: every room at its slot's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.history.reader import ROOMS_PER_QUESTION, RoomReader
from fastapi_rooms.adapters.redis.history.rights import HISTORY, Needs
from fastapi_rooms.adapters.redis.history.script import Message
from fastapi_rooms.adapters.redis.sharded.slot_lanes import NodeLane, SlotLanes
from fastapi_rooms.adapters.redis.sharded.slot_questions import SlotQuestions, is_elsewhere
from fastapi_rooms.adapters.redis.sharded.slots import slot_of
from fastapi_rooms.core.position import Position


class ClusterHistory(RoomReader):
    """The messages that the masters of a cluster keep.

    Args:
        lanes: the connections to them.
        prefix: the first part of every key.
    """

    def __init__(self, lanes: SlotLanes, prefix: str) -> None:
        super().__init__(prefix)
        self._lanes = lanes
        self._questions = SlotQuestions(lanes)

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
        async with self._questions.in_time(slot_of(rooms[0].channel)):
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
        async with self._questions.in_time(-1):
            while not self._lanes.lanes:
                await self._lanes.updated()
            for lane in self._lanes.lanes:
                await self._questions.unless_gone(lane, lane.ensure_master())

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
        replies = await self._questions.unless_gone(lane, asked) or ()
        for room, reply in zip(rooms, replies, strict=False):
            if not is_elsewhere((reply,)):
                found[room] = self._top_in(reply)

    async def _ask(
        self, room: RoomKey, encode: Callable[[], bytes], count: int, needs: Needs = HISTORY
    ) -> list[Any]:
        """The replies of the master that serves the room's slot, wherever that moves meanwhile."""
        return await self._questions.ask(slot_of(room.channel), encode, count, needs)
