"""Keeps the carrier to what is so here: which sockets of this worker are in which rooms, and whose.

What is to be is known here, room by room, and the carrier is told of what it does not know yet,
with one change a room under way. What happens in some turns of the event loop travels together.
When the carrier may have forgotten, or has declared this worker dead, all of it is put in again;
and once a minute the two are compared, by `comparison`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, islice

from fastapi_rooms.adapters.base import SupportsShards
from fastapi_rooms.adapters.presence import (
    Changed,
    Entry,
    RoomChange,
    RoomKey,
    SupportsPresence,
    Terms,
)
from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.core.own_presence import Change, OwnRoom
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.presence.comparison import Comparison
from fastapi_rooms.presence.failures import end_as, log
from fastapi_rooms.presence.graces import Graces
from fastapi_rooms.presence.host import Name, PresenceHost
from fastapi_rooms.presence.lease import LeaseKeeper
from fastapi_rooms.presence.reaper import Reaper
from fastapi_rooms.presence.telling import Telling
from fastapi_rooms.presence.turns import CallInTurns
from fastapi_rooms.types import Channel, NodeId, Room, Sid

RETRY = 1.0
"""Seconds until a room is tried again that could not be told."""

MAX_RETRY = 60.0
"""Seconds until one is tried again that refuses every lease."""

BEGUN_AT_ONCE = 250
"""Rooms whose changes begin in one turn of the event loop: some 10 ms of work."""

TOLD_AT_ONCE = 2000
"""Rooms whose changes are under way: more would wait for so long that they count as unanswered."""

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
        self._has_nodes = isinstance(adapter, SupportsShards)
        self._waiting: dict[Name, asyncio.Future[None]] = {}  # for the next change of a room
        self._due: dict[Name, None] = {}
        self._flushes = CallInTurns(self._flush)
        self._unsynced: dict[Name, bool] = {}  # to be told as a whole, which they do not know yet
        self._awaits_lease = False
        self._under_way = 0
        self._graces = Graces(self._look_at)
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
        self._comparison = Comparison(
            adapter, self._lease, host, self._rooms, self._key, self._sync, self._look_at
        )

    def start(self) -> None:
        """Live, and take over from workers that do not."""
        self._tasks.start(self._lease.run(), "fastapi_rooms lease")
        self._tasks.start(self._comparison.run(), "fastapi_rooms presence comparison")

    # What is so here.

    def has(self, name: Name, entry: Entry | None = None) -> bool:
        """Whether this worker has a socket in a room, or about to come in; or exactly this one."""
        room = self._rooms.get(name)
        return room is not None and (room.has_sockets if entry is None else room.holds(entry))

    def awaits_answer(self, name: Name) -> bool:
        """Whether the carrier is being told of a room, and has not answered yet."""
        return (room := self._rooms.get(name)) is not None and room.is_busy

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
        self._flushes.schedule()

    def _flush(self) -> None:
        """Begin a change of each room that has one, unless one is under way."""
        if self._is_closed:
            return
        if not self._lease.is_valid:  # else all that wait for it would go on in one turn
            if not self._awaits_lease:
                self._awaits_lease = True
                self._tasks.start(self._flush_when_valid(), "fastapi_rooms presence")
            return
        count = min(BEGUN_AT_ONCE, TOLD_AT_ONCE - self._under_way)
        if count <= 0:
            return  # it goes on when some of them are done
        batch, sockets = list[Telling](), 0
        for name in list(islice(chain(self._due, self._unsynced), count)):
            self._due.pop(name, None)
            if (telling := self._begin(name)) is not None:
                batch.append(telling)
                sockets += telling.change.weight
                if sockets >= BEGUN_AT_ONCE:
                    break
        if batch:
            self._under_way += len(batch)
            self._telling.start(self._tell_together(batch), "fastapi_rooms presence")
        if self._due or self._unsynced:
            self._flushes.schedule()

    async def _flush_when_valid(self) -> None:
        await self._lease.wait_until_valid()
        self._awaits_lease = False
        self._flush()

    def _begin(self, name: Name) -> Telling | None:
        """Begin what is due in a room; returns a change that is to be made beside those of others.

        A room is told of by itself as a whole, and where it has refused more than one lease.
        """
        room = self._rooms.get(name)
        if room is None:
            return None
        self._learn(name, room)
        if room.is_due:
            if room.fences > 1 or room.is_to_be_synced:
                room.is_busy = True
                self._telling.start(self._tell_alone(name, room), "fastapi_rooms presence")
                return None
            return self._begin_change(name, room)
        self._settle(name, room)
        return None

    def _settle(self, name: Name, room: OwnRoom) -> None:
        """Forget a room with which there is nothing to do."""
        if room.is_busy:
            return
        if (waiting := self._waiting.pop(name, None)) is not None:
            waiting.set_result(None)  # whoever entered has left again
        if not room:
            del self._rooms[name]

    def _learn(self, name: Name, room: OwnRoom) -> None:
        """Before anything is done: a room that is to be told of as a whole learns so."""
        if self._unsynced:
            room.needs_sync |= self._unsynced.pop(name, False)

    def _begin_change(self, name: Name, room: OwnRoom) -> Telling:
        is_sync = room.needs_sync
        change = room.begin_change(only_news=is_sync)
        return Telling(
            name, room, change, is_sync, self._lease.lease, self._waiting.pop(name, None)
        )

    async def _tell_together(self, batch: Sequence[Telling]) -> None:
        """Tell the carrier what has changed in rooms: each goes on as soon as that is done."""
        left = dict(enumerate(batch))

        def done(at: int, outcome: Changed | AdapterUnavailable) -> None:
            self._told(left.pop(at), outcome)

        try:
            changes = [
                RoomChange(self._key(it.name), self._terms(it.name), *it.change) for it in batch
            ]
            await self._adapter.change_rooms(batch[0].lease, changes, done)
        except BaseException as error:
            for telling in left.values():
                self._told(telling, error)
            if not isinstance(error, Exception):
                raise
            log(error, "Not all that leads to rooms could be written")
        finally:
            self._under_way -= len(batch)
            self._flushes.schedule()

    async def _tell_alone(self, name: Name, room: OwnRoom) -> None:
        """Tell the carrier of everything, or of what has changed in a room that refuses leases."""
        if room.fences > 1:  # in no hurry, as with each lease all rooms are told
            await asyncio.sleep(min(RETRY * 2 ** min(room.fences, 10), MAX_RETRY))
        await self._lease.wait_until_valid()
        self._learn(name, room)  # it may be another lease
        if not room.is_to_be_synced:
            self._under_way += 1
            await self._tell_together([self._begin_change(name, room)])
            return
        waiting, lease = self._waiting.pop(name, None), self._lease.lease
        entries = room.begin_sync()
        telling = Telling(name, room, Change((), ()), True, lease, waiting)
        # Who is too much may be on another worker, which is about to put them in again.
        terms = self._terms(name)
        terms = terms._replace(grace=max(terms.grace, self._lease.ttl))
        self._under_way += 1
        try:
            async with self._syncs:
                changed = await self._adapter.sync(self._key(name), lease, terms, entries)
        except BaseException as error:
            self._told(telling, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._told(telling, changed)
        finally:
            self._under_way -= 1
            self._flushes.schedule()

    def _told(self, telling: Telling, outcome: Changed | BaseException) -> None:
        """The carrier was told, or not: go on with the room, and with those who wait for it."""
        name, room, waiting = telling.name, telling.room, telling.waiting
        if isinstance(outcome, Changed):
            try:
                self._changed(name, outcome)
            except Exception as error:  # noqa: BLE001 -- whoever waits has it; it is tried again
                outcome = error
        if not isinstance(outcome, Changed):
            telling.fail(outcome)
            if isinstance(outcome, Exception):  # else it ends
                self._retry(name)
        elif outcome.fenced:  # with a new lease all of it is put in
            room.fail(is_sync=True)
            room.fences += 1
            self._lease.doubt(telling.lease)
            self._retry(name)
            if waiting is not None:
                self._wait_on(name, waiting)
        else:
            room.succeed(outcome.version, is_whole=outcome.is_whole or telling.is_sync)
            self._learn(name, room)  # before it is forgotten
            if waiting is not None and room.is_partial:
                self._wait_on(name, waiting)
            elif waiting is not None:
                waiting.set_result(None)
            if room.is_due:
                self._schedule(name)
            else:
                self._settle(name, room)

    def _retry(self, name: Name) -> None:
        """Try again, though not at once: what is in the way may stay there."""
        self._loop.call_later(RETRY, self._schedule, name)

    def _wait_on(self, name: Name, waiting: asyncio.Future[None]) -> None:
        """Those who waited for a change wait for the next one."""
        later = self._waiting.setdefault(name, waiting)
        if later is not waiting:
            later.add_done_callback(partial(end_as, waiting))

    def _changed(self, name: Name, changed: Changed) -> None:
        """What became of a room, by whatever was done to it. Raises why not all of that was."""
        if (room := self._rooms.get(name)) is not None:
            room.version = max(room.version, changed.version)
        if changed.next_leave is not None:
            self._graces.expect(name, changed.next_leave)
        if changed.events:
            self._host.made(name, changed.events)
        if changed.failure is not None:
            raise changed.failure

    def _terms(self, name: Name) -> Terms:
        room = self._rooms.get(name)
        floor = 0 if room is None else room.version
        return Terms(self._host.grace_of(name), floor, self._host.heard(name), self._lease.ttl)

    def _key(self, name: Name) -> RoomKey:
        return RoomKey(name.key, self._channel_of(*name))

    def _look_at(self, name: Name) -> None:
        """Have the carrier look at a room: whose grace is over, whether this worker has left."""
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
        if self._has_nodes:
            self._sync_all()
        self._comparison.hurry()

    def _sync_all(self) -> None:
        """Tell the carrier of every room as a whole: each learns so before anything is begun there.

        Of very many, few are touched here.
        """
        self._unsynced = dict.fromkeys(self._rooms, True)
        self._flushes.schedule()

    def _sync(self, name: Name) -> None:
        """Tell the carrier of a room as a whole."""
        self._rooms.setdefault(name, OwnRoom()).needs_sync = True
        self._schedule(name)

    # Its end.

    async def close(self, timeout: float) -> None:
        """Tell the carrier what is left to be told, for so many seconds at most, and be gone.

        If users are in their grace here, others see to them from now on.
        """
        until = self._loop.time() + timeout
        try:
            await self._tell_all(until)
            await self._lease.end(until - self._loop.time())
        finally:  # also if that was cut short
            self._is_closed = True
            self._graces.close()
            for waiting in self._waiting.values():
                waiting.cancel()
            await self._telling.cancel(timeout)
            await self._tasks.cancel(timeout)
        is_told = not (self._unsynced or any(self._rooms.values()))
        # A carrier that is away, or refuses something, has been waited for long enough.
        left = timeout if is_told else max(until - self._loop.time(), 0)
        await self._lease.give_back(left, is_over=is_told and not self._graces)

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
