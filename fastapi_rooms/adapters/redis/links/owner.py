"""What every owner of a link to Redis has: where its links come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi_rooms.adapters import link_owner
from fastapi_rooms.adapters.redis.links.link import Link
from fastapi_rooms.adapters.redis.links.reasons import is_login_refused, reason_of
from fastapi_rooms.adapters.redis.links.source import Source


class LinkOwner(link_owner.LinkOwner[Link]):
    """Has one link at a time, which `supervise` opens. Subclasses say what to do with it.

    Args:
        source: opens the links.
        changed: called when a link came or went.
        connect_timeout: seconds that opening a link may take.
    """

    def __init__(self, source: Source, changed: Callable[[], None], connect_timeout: float) -> None:
        super().__init__(changed, connect_timeout)
        self._source = source

    async def open(self) -> Link:
        """Open a link whose replies go to `reply`."""
        return await self._source.open(self.reply, self._connect_timeout)

    def why_not_open(self, error: Exception) -> tuple[str, bool]:
        """Why opening a link failed, and whether Redis rejects the login."""
        return reason_of(error), is_login_refused(error)

    def reply(self, reply: Any) -> None:
        """Something has arrived on the link."""
        raise NotImplementedError
