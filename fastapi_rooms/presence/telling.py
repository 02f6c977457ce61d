"""What the carrier is being told of one room."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from fastapi_rooms.adapters.presence import Lease
from fastapi_rooms.core.own_presence import Change, OwnRoom
from fastapi_rooms.presence.failures import unavailable
from fastapi_rooms.presence.host import Name


class Telling(NamedTuple):
    """One change, or all of a room."""

    name: Name
    room: OwnRoom
    change: Change
    is_sync: bool
    """Whether the room is to be told of as a whole, now or after this."""
    lease: Lease
    waiting: asyncio.Future[None] | None
    """Who waits for it."""

    def fail(self, error: BaseException) -> None:
        """It may not have been told: it is to be told again. Whoever waits has the error."""
        self.room.fail(is_sync=self.is_sync)
        if self.waiting is None:
            return
        if isinstance(error, Exception):
            self.waiting.set_exception(unavailable(error))
            self.waiting.exception()  # nobody may wait any more
        else:
            self.waiting.cancel()
