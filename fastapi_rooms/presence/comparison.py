"""Compares what the carrier has of this worker with what is so here, and has it put right.

The carrier may have lost some of it, or have more: its memory was full, its last writes went with a
node, a change was made that nobody was told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from fastapi_rooms.adapters.presence import RoomKey, SupportsPresence
from fastapi_rooms.concurrency import in_slices
from fastapi_rooms.core.own_presence import OwnRoom
from fastapi_rooms.presence.failures import log
from fastapi_rooms.presence.host import Name, PresenceHost
from fastapi_rooms.presence.lease import LeaseKeeper

CHECK_INTERVAL = 60.0
"""Seconds from one comparison to the next."""

SYNC_INTERVAL = 6 * 3600.0
"""Seconds after which a room is told of as a whole again: what nobody touches for a day is gone."""

COMPARED_AT_ONCE = 500


class Comparison:
    """Compares the rooms of a worker.

    Args:
        adapter: knows who is present.
        lease: that of the worker.
        host: has heard of events, and is told of the version that a room has.
        rooms: those of the worker.
        key_of: a room, as the adapter knows it.
        sync: has the carrier told of a room as a whole, also of one that is none of `rooms`.
        look_at: has the carrier look at a room: a count that has fallen is raised by that.
    """

    def __init__(
        self,
        adapter: SupportsPresence,
        lease: LeaseKeeper,
        host: PresenceHost,
        rooms: Mapping[Name, OwnRoom],
        key_of: Callable[[Name], RoomKey],
        sync: Callable[[Name], None],
        look_at: Callable[[Name], None],
    ) -> None:
        self._adapter = adapter
        self._lease = lease
        self._host = host
        self._rooms = rooms
        self._key_of = key_of
        self._sync, self._look_at = sync, look_at
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()

    def hurry(self) -> None:
        """Compare now, or once more after the comparison that is under way."""
        self._wanted.set()

    async def run(self) -> None:
        """Compare once in a while."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._lease.wait_until_valid()
                await self._compare_names()
                await self._compare_sums()
            except Exception as error:  # noqa: BLE001 -- the next may do better
                log(error, "Who is present could not be compared with the carrier")

    async def _compare_names(self) -> None:
        """See to rooms that only the carrier has of this worker, or it alone: it may not reap them.

        It has left the former, and the carrier does not know, or no more.
        """
        own: dict[bytes, Name] = {}
        async for some in in_slices(list(self._rooms.items()), COMPARED_AT_ONCE):
            own.update((name.key, name) for name, it in some if it.is_told and it.has_sockets)
        async for keys in in_slices(await self._adapter.rooms_of(self._lease.lease)):
            for key in keys:
                if own.pop(key, None) is not None:
                    continue
                name = Name.of(key)
                if name is not None and name not in self._rooms:
                    self._sync(name)
        async for missing in in_slices(list(own.values())):
            for name in missing:
                if name in self._rooms:
                    self._sync(name)

    async def _compare_sums(self) -> None:
        """Have those rooms put right that the carrier should know all of, and does not."""
        async for some in in_slices(list(self._rooms), COMPARED_AT_ONCE):
            lease = self._lease.lease
            known, heard_of = self._rooms, self._host.heard
            before = {
                name: (room, room.sums, room.version, heard_of(name))
                for name in some
                if (room := known.get(name)) is not None and room.is_told
            }
            if not before:
                continue
            found = await self._adapter.sums(lease, [self._key_of(name) for name in before])
            for (name, (room, own, version, heard)), sums in zip(
                before.items(), found, strict=True
            ):
                if 0 < sums.version < max(version, heard) and known.get(name) is room:
                    self._look_at(name)
                room.version = max(room.version, sums.version)
                if room.is_behind(heard, sums.version, self._loop.time()):
                    self._host.compared(name, sums.version)
                is_same = (sums.sockets, sums.checksum) == own and sums.is_whole
                is_ours = sums.lease == lease.number or not own[0]
                is_old = self._loop.time() - room.synced > SYNC_INTERVAL
                if (is_old or not (is_same and is_ours)) and room.is_told and room.sums == own:
                    room.synced = self._loop.time()
                    if known.get(name) is room:
                        self._sync(name)
