"""What every owner of a supervised link has: the present link, and why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from fastapi_rooms.adapters.supervisor import Link


class OwnedLink(Link, Protocol):
    """A link, as far as its owner has to know it."""

    @property
    def last_received(self) -> float:
        """When anything last came, in seconds since the epoch."""

    def abort(self, reason: str) -> None:
        """Abort the connection, without waiting for what is buffered; `reason` says why."""


L = TypeVar("L", bound=OwnedLink)


class LinkOwner(Generic[L]):
    """Has one link at a time, which `supervise` opens. Subclasses say what to do with it.

    Args:
        changed: called when a link came or went.
        connect_timeout: seconds that opening a link may take.
    """

    def __init__(self, changed: Callable[[], None], connect_timeout: float) -> None:
        self._changed = changed
        self._connect_timeout = connect_timeout
        self._loop = asyncio.get_running_loop()
        self._link: L | None = None
        self.why_down = ""
        """Why the last link was lost, could not be opened, or cannot do what it is for."""
        self.refused = False
        """Whether the carrier rejects the login, or forbids what is required."""
        self._is_flush_scheduled = False

    @property
    def link(self) -> L | None:
        """The present link."""
        return self._link

    def abort(self, reason: str) -> None:
        """Abort the present link; the supervisor opens another."""
        if self._link is not None:
            self._link.abort(reason)

    def open_failed(self, error: Exception) -> None:
        """Note why there is no link."""
        self.why_down, self.refused = self.why_not_open(error)
        self._changed()

    def _schedule_flush(self) -> None:
        """Have `_flush` called once at the end of this turn of the event loop."""
        if self._link is not None and not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._is_flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        """Write what waits, if there is a link."""
        raise NotImplementedError

    def why_not_open(self, error: Exception) -> tuple[str, bool]:
        """Why opening a link failed, in words without a password; whether the login is refused."""
        raise NotImplementedError
