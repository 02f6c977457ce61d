"""Sockets that are on their way into rooms that know who is present."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from fastapi_rooms.adapters.presence import Entry
from fastapi_rooms.types import Room, Sid

if TYPE_CHECKING:
    from fastapi_rooms.worker.presences import Presences


class Entering:
    """Sockets that are on their way into rooms, and present there from now on.

    Several may be on their way at once that are about the same socket and room. As long as one of
    them is, nothing but its end says that the socket is not present.
    """

    def __init__(
        self,
        presences: Presences,
        counts: dict[tuple[Room, Sid], int],
        entries: Sequence[tuple[Room, Sequence[Entry]]],
        told: list[asyncio.Future[None]],
        until: float,
    ) -> None:
        self._presences = presences
        self._counts = counts
        self._entries = entries
        self._told = told
        self._until = until
        for room, some in entries:
            for entry in some:
                counts[room, entry.sid] = counts.get((room, entry.sid), 0) + 1

    async def confirmed(self) -> None:
        """Return when the carrier knows. Raises `AdapterUnavailable`."""
        await self._presences.wait(self._told, self._until)

    def end(self, members: Callable[[Room], Collection[Sid]]) -> None:
        """Whoever has not come in after all, and is not about to, is not present."""
        counts = self._counts
        for room, some in self._entries:
            inside, absent = members(room), []
            for sid, _ in some:
                counts[room, sid] -= 1
                if not counts[room, sid]:
                    del counts[room, sid]
                    if sid not in inside:
                        absent.append(sid)
            if absent:
                self._presences.absent(room, absent)
