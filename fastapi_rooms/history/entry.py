"""The log of a room on this worker, and what is going on with it."""

from __future__ import annotations

import asyncio

from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.core.room_log import RoomLog
from fastapi_rooms.history.messages import cost_of
from fastapi_rooms.wire.envelope import Broadcast


class Entry:
    """One room's."""

    __slots__ = (
        "fresh_until",
        "holds",
        "is_healing",
        "is_used",
        "key",
        "log",
        "reading",
        "retention",
    )

    def __init__(self, key: RoomKey, retention: Retention) -> None:
        self.key = key
        self.retention = retention
        self.log: RoomLog[Broadcast | None] = RoomLog(retention.size, cost_of)
        self.is_used = True
        self.is_healing = False
        self.holds = 0  # by those who are about to join
        self.reading: asyncio.Task[None] | None = None
        self.fresh_until = 0.0  # by the event loop's clock
