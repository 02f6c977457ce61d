"""What every owner of a supervised link has: the present link, and why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi_rooms.adapters.redis.links.link import Link
from fastapi_rooms.adapters.redis.links.reasons import is_login_refused, reason_of
from fastapi_rooms.adapters.redis.links.source import Source


class LinkOwner:
    """Has one link at a time, which `supervise` opens. Subclasses say what to do with it.

    Args:
        source: opens the links.
        changed: called when a link came or went.
        connect_timeout: seconds that opening a link may take.
    """

    def __init__(self, source: Source, changed: Callable[[], None], connect_timeout: float) -> None:
        self._source = source
        self._changed = changed
        self._connect_timeout = connect_timeout
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self.why_down = ""
        """Why the last link was lost, could not be opened, or cannot do what it is for."""
        self.refused = False
        """Whether Redis rejects the login, or forbids what is required."""

    @property
    def link(self) -> Link | None:
        """The present link."""
        return self._link

    def abort(self, reason: str) -> None:
        """Abort the present link; the supervisor opens another."""
        if self._link is not None:
            self._link.abort(reason)

    async def open(self) -> Link:
        """Open a link whose replies go to `reply`."""
        return await self._source.open(self.reply, self._connect_timeout)

    def open_failed(self, error: Exception) -> None:
        """Note why there is no link."""
        self.why_down, self.refused = reason_of(error), is_login_refused(error)
        self._changed()

    def reply(self, reply: Any) -> None:
        """Something has arrived on the link."""
        raise NotImplementedError
