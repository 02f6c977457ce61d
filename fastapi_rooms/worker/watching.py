"""The rooms of a socket that an edge holds, whose comings and goings handlers here are to be told.

Its room is taken for one with a member here: this worker subscribes to it, and hears what any
worker hears that has one. That costs it the messages of the room, which it has no use for. So it is
done only where there are such handlers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.errors import NotStarted, ShuttingDown
from fastapi_rooms.types import Room

if TYPE_CHECKING:
    from fastapi_rooms.worker.local_namespace import LocalNamespace

logger = logging.getLogger("fastapi_rooms")


class Watching:
    """Those of one socket."""

    def __init__(self, here: LocalNamespace) -> None:
        self._here = here
        self._rooms: dict[Room, bool] = {}  # whether it is subscribed to
        self._tasks = Tasks()

    async def begin(self, rooms: Iterable[Room]) -> None:
        """The socket is about to be in rooms: return when all is heard from them.

        Raises `AdapterUnavailable`, `NotStarted` or `ShuttingDown`, and has not begun then.
        """
        presences = self._here.presences
        new = [room for room in rooms if room not in self._rooms and presences.tells(room)]
        if not new:
            return
        for room in new:
            self._rooms[room] = False
            presences.hear(room)
        runtime, channels = self._here.runtime, [self._channel_of(room) for room in new]
        try:
            await runtime.attribute(runtime.run.acquire(channels, surely=True))
        except BaseException:
            for room in new:
                self.end(room)
            raise
        for room, channel in zip(new, channels, strict=True):
            if room in self._rooms:
                self._rooms[room] = True
            else:
                runtime.release((channel,))

    def begin_soon(self, room: Room) -> None:
        """Others put the socket into a room: its edge tells so while it does."""
        self._tasks.start(self._begin(room), "fastapi_rooms presence")

    async def _begin(self, room: Room) -> None:
        try:
            await self.begin((room,))
        except (NotStarted, ShuttingDown):
            pass
        except Exception as error:  # noqa: BLE001 -- nobody waits for it
            logger.warning("Handlers are not told who comes and goes in %r: %s", room, error)

    def end(self, room: Room) -> None:
        """The socket is not in a room any more."""
        is_held = self._rooms.pop(room, None)
        if is_held is not None:
            self._here.presences.hear_no_more(room)
        if is_held:
            self._here.runtime.release((self._channel_of(room),))

    def end_all(self) -> None:
        """The socket is in no room any more."""
        for room in list(self._rooms):
            self.end(room)

    def _channel_of(self, room: Room) -> bytes:
        return self._here.runtime.channels.of_room(self._here.name, room)
