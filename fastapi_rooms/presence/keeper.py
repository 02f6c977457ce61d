"""Keeps the carrier to what is so here: which sockets of this worker are in which rooms, and whose.

What is to be is known here, room by room, and the carrier is told of what it does not know yet,
with one change a room under way. What happens in one turn of the event loop travels together. When
the carrier may have forgotten, or has declared this worker dead, all of it is put in again; and
once a minute the two are compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import chain, islice

from fastapi_rooms.adapters.base import SupportsShards
from fastapi_rooms.adapters.presence import (
    Changed,
    Entry,
    RoomKey,
    SupportsPresence,
    Terms,
)
from fastapi_rooms.concurrency import Tasks, in_slices
from fastapi_rooms.core.own_presence import OwnRoom
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.presence.failures import end_as, log, unavailable
from fastapi_rooms.presence.graces import Graces
from fastapi_rooms.presence.host import Name, PresenceHost
from fastapi_rooms.presence.lease import LeaseKeeper
from fastapi_rooms.presence.left import LeftRooms
from fastapi_rooms.presence.reaper import Reaper
from fastapi_rooms.types import Channel, NodeId, Room, Sid

CHECK_INTERVAL = 60.0
"""Seconds from one comparison with the carrier to the next."""

SYNC_INTERVAL = 6 * 3600.0
"""Seconds after which a room is told of as a whole again: what nobody touches for a day is gone."""

RETRY = 1.0
"""Seconds until a room is tried again that could not be told."""

BEGUN_AT_ONCE = 250
"""Rooms whose changes begin in one turn of the event loop: some 10 ms of work."""

TOLD_AT_ONCE = 2000
"""Rooms whose changes are under way: more would wait for so long that they count as unanswered."""

COMPARED_AT_ONCE = 500
SYNCED_AT_ONCE = 32


class PresenceKeeper:
    """All rooms of one run in which this worker has sockets, or users in their grace."""

    def __init__(
        self,
        node: NodeId,
        adapter: SupportsPresence,
        channel_of: Callable[[str, Room], Channel],
        host: PresenceHost,
        heartbeat: float,
        connection: Callable[[], object],
    ) -> None:
        self._adapter = adapter
        self._channel_of = channel_of
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._rooms: dict[Name, OwnRoom] = {}
        self._left = LeftRooms() if isinstance(adapter, SupportsShards) else None
        self._waiting: dict[Name, asyncio.Future[None]] = {}  # for the next change of a room
        self._due: dict[Name, None] = {}
        self._is_flush_scheduled = False
        self._unsynced: dict[Name, bool] = {}  # to be told as a whole, which they do not know yet
        self._awaits_lease = False
        self._under_way = 0
        self._graces = Graces(self._grace_over)
        self._checks = asyncio.Event()
        self._syncs = asyncio.Semaphore(SYNCED_AT_ONCE)
        self._tasks = Tasks()
        self._telling = Tasks()
        reaper = Reaper(adapter, self._tasks, self._key, self._terms, self._changed, self._see_to)
        self._is_closed = False
        self._lease = LeaseKeeper(
            node,
            adapter,
            heartbeat,
            connection=connection,
            on_new=self._sync_all,
            on_renewed=self._doubt,
            on_overdue=reaper.reap_all,
        )

    def start(self) -> None:
        """Live, and take over from workers that do not."""
        self._tasks.start(self._lease.run(), "fastapi_rooms lease")
        self._tasks.start(self._check_repeatedly(), "fastapi_rooms presence check")

    # What is so here.

    def has(self, name: Name, entry: Entry | None = None) -> bool:
        """Whether this worker has a socket in a room, or about to come in; or exactly this one."""
        room = self._rooms.get(name)
        return room is not None and (room.has_sockets if entry is None else room.holds(entry))

    def enter(self, name: Name, entries: Iterable[Entry]) -> asyncio.Future[None]:
        """Sockets enter a room; the future is done when the carrier has been told.

        It fails with `AdapterUnavailable` if that could not be done. Then they are still to be in,
        unless they `leave`. Others wait for the same one: it must not be cancelled. It is
        cancelled itself if this is closed first.
        """
        if self._is_closed:
            over = self._loop.create_future()
            over.cancel()
            return over
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = OwnRoom()
            room.synced = self._loop.time()
        for entry in entries:
            room.enter(entry)
        self._schedule(name)
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = self._loop.create_future()
        return waiting

    def leave(self, name: Name, sids: Iterable[Sid]) -> None:
        """Sockets leave a room, if they are in it."""
        room = self._rooms.get(name)
        if room is not None:
            for sid in sids:
                room.leave(sid)
            self._schedule(name)

    # What the carrier is told.

    def _schedule(self, name: Name) -> None:
        self._due[name] = None
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Begin a change of each room that has one, unless one is under way."""
        self._is_flush_scheduled = False
        if not self._lease.is_valid:  # else all that wait for it would go on in one turn
            if not (self._awaits_lease or self._is_closed):
                self._awaits_lease = True
                self._tasks.start(self._flush_when_valid(), "fastapi_rooms presence")
            return
        count = min(BEGUN_AT_ONCE, TOLD_AT_ONCE - self._under_way)
        if count <= 0:
            return  # it goes on when one of them is done
        for name in list(islice(chain(self._due, self._unsynced), count)):
            self._due.pop(name, None)
            self._begin(name)
        if self._due or self._unsynced:
            self._schedule_flush()

    async def _flush_when_valid(self) -> None:
        await self._lease.wait_until_valid()
        self._awaits_lease = False
        self._flush()

    def _begin(self, name: Name) -> None:
        room = self._rooms.get(name)
        if room is None or self._is_closed:
            return
        self._learn(name, room)
        if room.is_due:
            room.is_busy = True
            self._telling.start(self._tell(name, room), "fastapi_rooms presence")
        if room.is_busy:
            return
        if (waiting := self._waiting.pop(name, None)) is not None:
            waiting.set_result(None)  # whoever entered has left again
        if not room:
            del self._rooms[name]
            if self._left is not None:
                self._left.add(name, self._loop.time())

    def _learn(self, name: Name, room: OwnRoom) -> None:
        """Before anything is done: a room that is to be told of as a whole learns so."""
        room.needs_sync |= self._unsynced.pop(name, False)

    async def _tell(self, name: Name, room: OwnRoom) -> None:
        """Tell the carrier of what has changed, or of everything."""
        if room.fences > 1:  # in no hurry, as with each lease all rooms are told
            await asyncio.sleep(min(RETRY * 2 ** min(room.fences, 10), CHECK_INTERVAL))
        await self._lease.wait_until_valid()
        self._learn(name, room)  # it may be another lease
        self._under_way += 1
        try:
            await self._tell_now(name, room)
        finally:
            self._under_way -= 1
            self._schedule_flush()

    async def _tell_now(self, name: Name, room: OwnRoom) -> None:
        waiting, is_sync = self._waiting.pop(name, None), room.needs_sync
        lease = self._lease.lease
        try:
            changed = await self._change(name, room)
            self._changed(name, changed)
        except asyncio.CancelledError:
            room.fail(is_sync=is_sync)
            if waiting is not None:
                waiting.cancel()
            raise
        except Exception as error:  # noqa: BLE001 -- whoever waits has it; it is tried again
            room.fail(is_sync=is_sync)
            self._retry(name)
            if waiting is not None:
                waiting.set_exception(unavailable(error))
                waiting.exception()  # nobody may wait any more
            return
        if changed.fenced:  # with a new lease all of it is put in
            room.fail(is_sync=True)
            room.fences += 1
            self._lease.doubt(lease)
            self._retry(name)
            if waiting is not None:
                self._wait_on(name, waiting)
        else:
            room.succeed(changed.version)
            if waiting is not None and room.is_partial:
                self._wait_on(name, waiting)
            elif waiting is not None:
                waiting.set_result(None)
            self._schedule(name)

    def _retry(self, name: Name) -> None:
        """Try again, though not at once: what is in the way may stay there."""
        self._loop.call_later(RETRY, self._schedule, name)

    async def _change(self, name: Name, room: OwnRoom) -> Changed:
        lease, terms, key = self._lease.lease, self._terms(name), self._key(name)
        if room.needs_sync and not room.has_news:
            entries = room.begin_sync()
            # Who is too much may be on another worker, which is about to put them in again.
            terms = terms._replace(grace=max(terms.grace, self._lease.ttl))
            async with self._syncs:
                return await self._adapter.sync(key, lease, terms, entries)
        change = room.begin_change(only_news=room.needs_sync)
        return await self._adapter.change(key, lease, terms, enter=change.enter, leave=change.leave)

    def _wait_on(self, name: Name, waiting: asyncio.Future[None]) -> None:
        """Those who waited for a change wait for the next one."""
        later = self._waiting.setdefault(name, waiting)
        if later is not waiting:
            later.add_done_callback(partial(end_as, waiting))

    def _changed(self, name: Name, changed: Changed) -> None:
        """What became of a room, by whatever was done to it. Raises why not all of that was."""
        if changed.next_leave is not None:
            self._graces.expect(name, changed.next_leave)
        if changed.events:
            self._host.made(name, changed.events)
        if changed.failure is not None:
            raise changed.failure

    def _terms(self, name: Name) -> Terms:
        room = self._rooms.get(name)
        return Terms(self._host.grace_of(name), 0 if room is None else room.version)

    def _key(self, name: Name) -> RoomKey:
        return RoomKey(name.key, self._channel_of(*name))

    def _grace_over(self, name: Name) -> None:
        """Have the carrier look at a room: so it also forgets that this worker was there."""
        self._touch(name)
        self._schedule(name)

    def _see_to(self, name: Name) -> asyncio.Future[None]:
        """Have the carrier know that this worker sees to the users who are in their grace."""
        self._touch(name)
        return self.enter(name, ())

    def _touch(self, name: Name) -> None:
        self._rooms.setdefault(name, OwnRoom()).needs_touch = True

    # What the carrier may have forgotten.

    def _doubt(self) -> None:
        """The carrier may have lost something: all that leads to rooms, where it has nodes."""
        if self._left is not None:
            self._sync_all()
        self._checks.set()

    def _sync_all(self) -> None:
        """Tell the carrier of every room as a whole: each learns so before anything is begun there.

        Of very many, few are touched here.
        """
        for name in self._left.names(self._loop.time()) if self._left is not None else ():
            self._rooms.setdefault(name, OwnRoom())
        self._unsynced = dict.fromkeys(self._rooms, True)
        self._schedule_flush()

    async def _check_repeatedly(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._checks.wait()
            self._checks.clear()
            try:
                await self._check()
            except Exception as error:  # noqa: BLE001 -- it goes on
                log(error, "Who is present could not be compared with the carrier")

    async def _check(self) -> None:
        """Compare the rooms that the carrier should know all of with what it has."""
        await self._lease.wait_until_valid()
        await self._find_left()
        async for some in in_slices(list(self._rooms), COMPARED_AT_ONCE):
            lease = self._lease.lease
            known, heard_of = self._rooms, self._host.heard
            before = {
                name: (room, room.sums, heard_of(name))
                for name in some
                if (room := known.get(name)) is not None and room.is_told
            }
            if not before:
                continue
            found = await self._adapter.sums(lease, [self._key(name) for name in before])
            for (name, (room, own, heard)), sums in zip(before.items(), found, strict=True):
                room.version = max(room.version, sums.version)
                if room.is_behind(heard, sums.version, self._loop.time()):
                    self._host.compared(name, sums.version)
                is_same = (sums.sockets, sums.checksum) == own and sums.is_whole
                is_ours = sums.lease == lease.number or not own[0]
                is_old = self._loop.time() - room.synced > SYNC_INTERVAL
                if (is_old or not (is_same and is_ours)) and room.is_told and room.sums == own:
                    room.synced = self._loop.time()
                    self._sync(name)

    async def _find_left(self) -> None:
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
                    self._rooms[name] = OwnRoom()
                    self._sync(name)
        async for missing in in_slices(list(own.values())):
            for name in missing:
                self._sync(name)

    def _sync(self, name: Name) -> None:
        if (room := self._rooms.get(name)) is not None:
            room.needs_sync = True
            self._schedule(name)

    # Its end.

    async def close(self, timeout: float) -> None:
        """Tell the carrier what is left to be told, for so many seconds at most, and be gone.

        If users are in their grace here, the lease ends by itself, and others see to them.
        """
        try:
            await self._tell_all(self._loop.time() + timeout)
        finally:  # also if that was cut short
            self._is_closed = True
            self._graces.close()
            for waiting in self._waiting.values():
                waiting.cancel()
            await self._telling.cancel(timeout)
            await self._tasks.cancel(timeout)
        is_over = not (self._graces or self._unsynced or any(self._rooms.values()))
        if self._lease.is_valid and is_over:
            with suppress(TimeoutError, AdapterUnavailable):
                async with asyncio.timeout(timeout):
                    await self._adapter.bury(self._lease.lease)

    async def _tell_all(self, until: float) -> None:
        while self._telling or not all(room.is_told for room in self._rooms.values()):
            left = until - self._loop.time()
            if left <= 0:
                return
            self._flush()
            if self._telling:
                await self._telling.wait(left)
            else:  # what could not be told is tried again
                await asyncio.sleep(min(RETRY, left))
