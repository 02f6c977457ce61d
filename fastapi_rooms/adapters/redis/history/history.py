"""What `SupportsHistory` asks for, by scripts and questions over a lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.history import reading
from fastapi_rooms.adapters.redis.history.lane import Lane
from fastapi_rooms.adapters.redis.history.reader import ROOMS_PER_QUESTION, RoomReader
from fastapi_rooms.adapters.redis.history.refusals import code_of
from fastapi_rooms.adapters.redis.history.rights import HISTORY, Needs
from fastapi_rooms.adapters.redis.history.script import Message
from fastapi_rooms.core.position import Position


class History(RoomReader):
    """The messages that one Redis keeps.

    Args:
        lane: the connection to it.
        prefix: the first part of every key.
    """

    def __init__(self, lane: Lane, prefix: str) -> None:
        super().__init__(prefix)
        self.lane = lane

    def append(
        self, room: RoomKey, data: bytes, tag: int, retention: Retention
    ) -> asyncio.Future[Position]:
        """Number, keep and publish a message."""
        return self.lane.append(Message(room, tag, retention, data))

    async def tops(self, rooms: Sequence[RoomKey]) -> list[Position | None]:
        """Where the rooms end. To ask about none connects, and tells whether it may be used."""
        await self.lane.ensure_master()
        found: list[Position | None] = []
        for start in range(0, len(rooms), ROOMS_PER_QUESTION):
            some = rooms[start : start + ROOMS_PER_QUESTION]
            replies = await self._ask(some[0], self._ask_for_tops(some), len(some))
            found += map(self._top_in, replies)
        return found

    async def _ask(
        self,
        room: RoomKey,  # noqa: ARG002 -- all are at one Redis
        encode: Callable[[], bytes],
        count: int,
        needs: Needs = HISTORY,
    ) -> list[Any]:
        """The replies of a master: a node that says it is a replica is left, and the next asked."""
        replies = await self.lane.ask(encode, count, needs)
        if code_of(reading.refusal_in(replies)) == "READONLY":
            self.lane.leave()
            replies = await self.lane.ask(encode, count, needs)
        return replies
