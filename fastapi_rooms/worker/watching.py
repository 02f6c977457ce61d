"""The rooms of a socket that an edge holds, whose comings and goings handlers here are to be told.

Its room is taken for one with a member here: this worker subscribes to it, and hears what any
worker hears that has one. That costs it the messages of the room, which it has no use for. So it is
done only where there are such handlers.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.errors import NotStarted, ShuttingDown
from fastapi_rooms.types import Room

if TYPE_CHECKING:
    from fastapi_rooms.worker.local_namespace import LocalNamespace

logger = logging.getLogger("fastapi_rooms")


class _Watch:
    """One room: who is about to subscribe for it, and whether that was done."""

    __slots__ = ("is_held", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self.is_held = False


class Watching:
    """Those of one socket."""

    def __init__(self, here: LocalNamespace) -> None:
        self._here = here
        self._rooms: dict[Room, _Watch] = {}
        self._tasks = Tasks()
        self._is_over = False

    async def begin(self, rooms: Iterable[Room]) -> None:
        """The socket is about to be in rooms: return when all is heard from them.

        Raises `AdapterUnavailable`, `NotStarted` or `ShuttingDown`, and has not begun then.
        """
        watches = {} if self._is_over else dict(self._begun(rooms))
        if not watches:
            return
        runtime, channels = self._here.runtime, [self._channel_of(room) for room in watches]
        try:
            await runtime.attribute(runtime.run.acquire(channels, surely=True))
        except BaseException:
            for room, watch in watches.items():
                watch.under_way -= 1
                is_wanted = watch.under_way or watch.is_held
                if self._rooms.get(room) is watch and not is_wanted:
                    self.end(room)
            raise
        for (room, watch), channel in zip(watches.items(), channels, strict=True):
            watch.under_way -= 1
            if self._rooms.get(room) is watch and not watch.is_held:
                watch.is_held = True
            else:  # it has ended, or another has subscribed meanwhile
                runtime.release((channel,))

    def _begun(self, rooms: Iterable[Room]) -> Iterator[tuple[Room, _Watch]]:
        presences = self._here.presences
        for room in rooms:
            watch = self._rooms.get(room)
            if (watch is not None and watch.is_held) or not presences.tells(room):
                continue
            if watch is None:
                watch = self._rooms[room] = _Watch()
                presences.hear(room)
            watch.under_way += 1
            yield room, watch

    def begin_soon(self, room: Room) -> None:
        """Others put the socket into a room: its edge tells so while it does."""
        if self._here.presences.tells(room):
            self._tasks.start(self.begin_if_possible((room,)), "fastapi_rooms presence")

    async def begin_if_possible(self, rooms: Collection[Room]) -> None:
        """The socket is in rooms already, or will be: as `begin`, but what it raises is logged."""
        try:
            await self.begin(rooms)
        except (NotStarted, ShuttingDown):
            pass
        except Exception as error:  # noqa: BLE001 -- nobody can do anything about it
            names = ", ".join(map(repr, rooms))
            logger.warning("Handlers are not told who comes and goes in %s: %s", names, error)

    def end(self, room: Room) -> None:
        """The socket is not in a room any more."""
        watch = self._rooms.pop(room, None)
        if watch is not None:
            self._here.presences.hear_no_more(room)
            if watch.is_held:
                self._here.runtime.release((self._channel_of(room),))

    def end_all(self) -> None:
        """The socket is in no room any more, and will be in none."""
        self._is_over = True
        for room in list(self._rooms):
            self.end(room)

    def _channel_of(self, room: Room) -> bytes:
        return self._here.runtime.channels.of_room(self._here.name, room)
