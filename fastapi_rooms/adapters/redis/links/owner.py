"""What every owner of a link to Redis has: where its links come from, and how they are opened."""

from __future__ import annotations

from typing import Any

from fastapi_rooms.adapters.redis.links.link import Link
from fastapi_rooms.adapters.redis.links.reasons import is_login_refused, reason_of
from fastapi_rooms.adapters.redis.links.source import Source


class Opening:
    """Opens links, for a `LinkOwner` that takes their replies."""

    _source: Source
    _connect_timeout: float

    async def open(self) -> Link:
        """Open a link whose replies go to `reply`."""
        return await self._source.open(self.reply, self._connect_timeout)

    def reply(self, reply: Any) -> None:
        """Something has arrived on the link."""
        raise NotImplementedError

    def why_not_open(self, error: Exception) -> tuple[str, bool]:
        """Why opening a link failed, and whether Redis rejects the login."""
        return reason_of(error), is_login_refused(error)
