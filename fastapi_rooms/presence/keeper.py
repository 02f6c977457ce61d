"""Keeps the carrier to what is so here: which sockets of this worker are in which rooms, and whose.

What is to be is known here, room by room, and the carrier is told of what it does not know yet,
with one change a room under way. What happens in one turn of the event loop travels together. When
the carrier may have forgotten, or has declared this worker dead, all of it is put in again; and
once a minute the two are compared.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

from fastapi_rooms.adapters.base import SupportsShards
from fastapi_rooms.adapters.presence import (
    Changed,
    Entry,
    Lease,
    RoomKey,
    SupportsPresence,
    Terms,
)
from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.core.own_presence import OwnRoom
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.presence.failures import end_as, log, unavailable
from fastapi_rooms.presence.host import Name, PresenceHost
from fastapi_rooms.presence.lease import LeaseKeeper
from fastapi_rooms.presence.left import LeftRooms
from fastapi_rooms.types import Channel, NodeId, Room, Sid

CHECK_INTERVAL = 60.0
"""Seconds from one comparison with the carrier to the next."""

SYNC_INTERVAL = 6 * 3600.0
"""Seconds after which a room is told of as a whole again: what nobody touches for a day is gone."""

RETRY = 1.0
"""Seconds until a room is tried again that could not be told."""

BEGUN_AT_ONCE = 500
"""Rooms whose changes begin in one turn of the event loop: some 10 ms of work."""

SAME_TIME = 0.05
"""Seconds between two times that count as the same."""

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
        self._leaves: list[tuple[float, Name]] = []  # a heap: when a grace is over
        self._next_leave: dict[Name, float] = {}  # the first of them, by room
        self._leave_timer: asyncio.TimerHandle | None = None
        self._reaping: set[Lease] = set()
        self._checks = asyncio.Event()
        self._syncs = asyncio.Semaphore(SYNCED_AT_ONCE)
        self._tasks = Tasks()
        self._telling = Tasks()
        self._is_closed = False
        self._lease = LeaseKeeper(
            node,
            adapter,
            heartbeat,
            connection=connection,
            on_new=self._sync_all,
            on_renewed=self._doubt,
            on_overdue=self._reap_all,
        )

    def start(self) -> None:
        """Live, and take over from workers that do not."""
        self._tasks.start(self._lease.run(), "fastapi_rooms lease")
        self._tasks.start(self._check_repeatedly(), "fastapi_rooms presence check")

    # What is so here.

    def has(self, name: Name) -> bool:
        """Whether this worker has a socket in a room, or one that is about to come in."""
        room = self._rooms.get(name)
        return room is not None and room.has_sockets

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
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Begin a change of each room that has one, unless one is under way."""
        self._is_flush_scheduled = False
        names = list(islice(self._due, BEGUN_AT_ONCE))
        for name in names:
            del self._due[name]
        if self._due:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)
        for name in names:
            room = self._rooms.get(name)
            if room is None or room.is_busy:
                continue
            if room.is_due and not self._is_closed:
                room.is_busy = True
                self._telling.start(self._tell(name, room), "fastapi_rooms presence")
            elif not room:
                del self._rooms[name]
                if self._left is not None:
                    self._left.add(name, self._loop.time())

    async def _tell(self, name: Name, room: OwnRoom) -> None:
        """Tell the carrier of what has changed, or of everything."""
        if room.fences > 1:  # in no hurry, as with each lease all rooms are told
            await asyncio.sleep(min(RETRY * 2 ** min(room.fences, 10), CHECK_INTERVAL))
        await self._lease.wait_until_valid()
        waiting, is_sync = self._waiting.pop(name, None), room.needs_sync
        lease = self._lease.lease
        try:
            changed = await self._change(name, room)
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
            self._changed(name, changed)
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
        """What became of a room, by whatever was done to it."""
        if changed.next_leave is not None:
            self._expect_leave(name, changed.next_leave)
        if changed.events:
            self._host.made(name, changed.events)

    def _terms(self, name: Name) -> Terms:
        room = self._rooms.get(name)
        return Terms(self._host.grace_of(name), 0 if room is None else room.version)

    def _key(self, name: Name) -> RoomKey:
        return RoomKey(name.key, self._channel_of(*name))

    # Whose grace is over.

    def _expect_leave(self, name: Name, delay: float) -> None:
        when = self._loop.time() + delay
        first = self._next_leave.get(name)
        # After the first the carrier says when the next is. It counts in milliseconds.
        if first is None or when < first - SAME_TIME:
            self._next_leave[name] = when
            heapq.heappush(self._leaves, (when, name))
            self._set_leave_timer()

    def _set_leave_timer(self) -> None:
        if self._leave_timer is not None:
            self._leave_timer.cancel()
        self._leave_timer = None
        if self._leaves and not self._is_closed:
            self._leave_timer = self._loop.call_at(self._leaves[0][0], self._sweep_due)

    def _sweep_due(self) -> None:
        """Have the carrier look at those rooms: so it also forgets that this worker was there."""
        now = self._loop.time()
        while self._leaves and self._leaves[0][0] <= now:
            when, name = heapq.heappop(self._leaves)
            if self._next_leave.get(name) != when:
                continue  # another was earlier
            del self._next_leave[name]
            self._rooms.setdefault(name, OwnRoom()).needs_touch = True
            self._schedule(name)
        self._set_leave_timer()

    # What the carrier may have forgotten.

    def _doubt(self) -> None:
        """The carrier may have lost something: all that leads to rooms, where it has nodes."""
        if self._left is not None:
            self._sync_all()
        self._checks.set()

    def _sync_all(self) -> None:
        for name in self._left.names(self._loop.time()) if self._left is not None else ():
            self._rooms.setdefault(name, OwnRoom())
        for name in self._rooms:
            self._sync(name)

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
        names = iter([name for name, room in self._rooms.items() if room.is_told])
        while some := list(islice(names, COMPARED_AT_ONCE)):
            lease = self._lease.lease
            known, heard_of = self._rooms, self._host.heard
            before = {n: (it, it.sums, heard_of(n)) for n in some if (it := known.get(n))}
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
        own = {name.key: name for name, it in self._rooms.items() if it.is_told and it.has_sockets}
        found = {*await self._adapter.rooms_of(self._lease.lease)}
        names = [Name.of(key) for key in found if key not in own]
        for name in [name for name in names if name is not None and name not in self._rooms]:
            self._rooms[name] = OwnRoom()
            self._sync(name)
        for key in own.keys() - found:
            self._sync(own[key])

    def _sync(self, name: Name) -> None:
        if (room := self._rooms.get(name)) is not None:
            room.needs_sync = True
            self._schedule(name)

    # Those who have died.

    def _reap_all(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            if lease not in self._reaping:
                self._reaping.add(lease)
                self._tasks.start(self._reap(lease), "fastapi_rooms presence reaper")

    async def _reap(self, lease: Lease) -> None:
        """Take the sockets of a dead worker out of their rooms; others may do it, too."""
        is_done = True
        try:
            for key in await self._adapter.rooms_of(lease):
                name = Name.of(key)
                if name is not None:
                    changed = await self._adapter.reap(self._key(name), lease, self._terms(name))
                    self._changed(name, changed)
                    is_done &= changed.next_leave is None
            if is_done:  # else whoever is there then sees to those who are in their grace now
                await self._adapter.bury(lease)
        except Exception as error:  # noqa: BLE001 -- at the next beat it is tried again
            log(error, f"The sockets of worker {lease.node} could not be taken out")
        finally:
            self._reaping.discard(lease)

    # Its end.

    async def close(self, timeout: float) -> None:
        """Tell the carrier what is left to be told, for so many seconds at most, and be gone.

        If users are in their grace here, the lease ends by itself, and others see to them.
        """
        try:
            await self._tell_all(self._loop.time() + timeout)
        finally:  # also if that was cut short
            self._is_closed = True
            if self._leave_timer is not None:
                self._leave_timer.cancel()
            for waiting in self._waiting.values():
                waiting.cancel()
            await self._telling.cancel(timeout)
            await self._tasks.cancel(timeout)
        if self._lease.is_valid and not self._leaves and not any(self._rooms.values()):
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
