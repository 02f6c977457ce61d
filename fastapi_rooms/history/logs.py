"""The recoverable rooms of a namespace that this worker has a part in: a log for each.

All that is sent to such a room goes through the carrier, which numbers it, and comes back to every
worker with a member, this one among them. What comes is compared with the log. Where something is
missing the carrier is read, once for all members, and they are given what they missed, in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Protocol

from fastapi_rooms import concurrency
from fastapi_rooms.adapters.history import Retention, RoomKey, SupportsHistory
from fastapi_rooms.concurrency import Tasks, in_slices
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.patterns import Patterns
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Kept
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.history.entry import Entry
from fastapi_rooms.history.messages import Placed, decoded
from fastapi_rooms.types import Channel, Room
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast
from fastapi_rooms.wire.kept import InPlace

logger = logging.getLogger("fastapi_rooms")

RETRY = 1.0
"""Seconds until a carrier that could not be read is read again."""

COMPARE = 30.0
"""Seconds between two comparisons of a room's position with the carrier's, in case that the last
message before a silence was lost."""

TRUSTED = 1.0
"""Seconds that what was read counts as what the carrier keeps, where it is not known when the last
message was sent, and so when it is forgotten."""


class HistoryHost(Protocol):
    """The namespace, as far as its logs need it."""

    name: str

    def is_heard(self, room: Room) -> bool:
        """Whether a room has a member or listener here."""

    def deliver(self, placed: Placed) -> bool:
        """Deliver a message to the members here; false if there is no room for it now."""

    async def written(self) -> None:
        """Return when what has been delivered before is with those it is for."""

    def healed(self) -> None:
        """Messages that were missed are there."""

    def lost(self, room: Room) -> None:
        """Messages to a room were lost for good, for its members here."""


class RoomLogs:
    """The logs of one namespace, for the time of a run.

    Args:
        host: the namespace.
        adapter: where the messages are kept.
        channels: the names of channels.
        patterns: which rooms remember, and how much.
    """

    def __init__(
        self,
        host: HistoryHost,
        adapter: SupportsHistory,
        channels: Channels,
        patterns: Patterns[Retention],
    ) -> None:
        self._host = host
        self._adapter = adapter
        self._channels = channels
        self._patterns = patterns
        self._entries: dict[Room, Entry] = {}
        self._unplaced: set[Room] = set()  # heard here since before they were known to remember
        self._doubts: list[frozenset[Channel]] = []
        self._tasks = Tasks()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._comparison: asyncio.Task[None] | None = None

    # Out.

    def append(self, message: Broadcast, tag: int) -> Awaitable[Position]:
        """Have the carrier number, keep and publish a message to one recoverable room."""
        assert message.target.rooms is not None
        (room,) = message.target.rooms
        retention = self._patterns.find(room)
        assert retention is not None
        return self._adapter.append(self._key(room), codec.encode(message), tag, retention)

    # In.

    def received(self, placed: InPlace, message: Broadcast) -> None:
        """A message came from the carrier."""
        rooms = message.target.rooms
        assert rooms is not None
        entry = self._entries.get(rooms[0])
        if entry is None:
            is_heard = self._host.is_heard(rooms[0])  # as the sid that a socket has chosen
            delivered = is_heard and self._host.deliver(Placed(placed.position, message))
            if delivered and rooms[0] in self._unplaced:
                entry = self._enter(rooms[0])
                entry.log.position = placed.position
                self._heal(entry)
            return
        position, log = placed.position, entry.log
        log.receive(position.epoch, placed.previous, Kept(position.offset, position.tag, message))
        if log.needs_read:
            self._heal(entry)
        elif self._deliver(entry):
            entry.fresh_until = self._loop.time() + entry.retention.ttl

    def doubt(self, channels: frozenset[Channel]) -> None:
        """Messages on these channels may have been missed."""
        entries = list(self._entries.values())
        if len(entries) <= concurrency.SLICE:
            self._doubt_some(entries, channels)
        else:
            self._doubts.append(channels)  # before anybody joins a room whose turn comes later
            self._tasks.start(self._doubt(entries, channels), "fastapi_rooms history doubt")

    async def _doubt(self, entries: list[Entry], channels: frozenset[Channel]) -> None:
        async for some in in_slices(entries):
            self._doubt_some(some, channels)
        self._doubts.remove(channels)

    def _doubt_some(self, entries: Sequence[Entry], channels: frozenset[Channel]) -> None:
        for entry in entries:
            if entry.is_used and entry.key.channel in channels:
                entry.log.needs_read = True
                self._heal(entry)

    # Joins.

    async def open(self, room: Room, since: Position | None = None) -> None:
        """Know a room up to its end, and to a position that somebody has; `close` is to follow.

        The channel must be confirmed. Raises `AdapterUnavailable`; then it is closed.
        """
        entry = self._entries.get(room)
        if entry is None:
            entry = self._enter(room)
        is_doubted = any(entry.key.channel in channels for channels in self._doubts)
        if is_doubted or not (entry.holds or self._host.is_heard(room)):
            entry.log.needs_read = True  # nothing has come while nobody was here
        entry.holds += 1
        try:
            if self._loop.time() > entry.fresh_until and not entry.log.is_all_being_read():
                entry.log.refresh()
            await self._catch_up(entry)
            own = entry.log.position
            if since is not None and _is_behind(own, since):  # what they have has not come yet
                entry.log.needs_read = True
                await self._catch_up(entry)
                while _is_behind(entry.log.position, since) and entry.log.next() is not None:
                    await self._host.written()
                    self._deliver(entry)
        except BaseException:
            self.close(room)
            raise

    def _enter(self, room: Room) -> Entry:
        retention = self._patterns.find(room)
        assert retention is not None
        entry = self._entries[room] = Entry(self._key(room), retention)
        self._unplaced.discard(room)
        self._watch()
        return entry

    def close(self, room: Room) -> None:
        """Who was about to join has joined, or given up."""
        entry = self._entries.get(room)
        if entry is not None:
            entry.holds -= 1
            self._drop_if_unused(room, entry)

    def position(self, room: Room) -> Position | None:
        """Up to where the members here have everything; `None` if nobody is here."""
        entry = self._entries.get(room)
        return None if entry is None else entry.log.position

    def since(self, room: Room, position: Position) -> list[Placed] | None:
        """What was sent after a position; `None` if that is no place in the room any more."""
        entry = self._entries.get(room)  # none if the manager was closed meanwhile
        if entry is None:
            return None
        found = entry.log.since(position)
        return None if found is None else list(self._placed(entry, found))

    def recent(self, room: Room, limit: int) -> list[Placed]:
        """The last messages, oldest first."""
        entry = self._entries.get(room)
        return [] if entry is None else list(self._placed(entry, entry.log.recent(limit)))

    # For those without a part in the room.

    async def read(self, room: Room) -> list[Placed]:
        """All that is kept of a room, oldest first. Raises `AdapterUnavailable`."""
        stretch = decoded(await self._adapter.read(self._key(room)))
        epoch = stretch.top.epoch
        return [
            Placed(Position(epoch, kept.offset, kept.tag), kept.item)
            for kept in stretch.messages
            if kept.item is not None
        ]

    async def top(self, room: Room) -> Position:
        """The carrier's position in a room. Raises `AdapterUnavailable`."""
        (top,) = await self._adapter.tops([self._key(room)])
        if top is None:
            top = (await self._adapter.read(self._key(room))).top
        return top

    async def forget(self, room: Room) -> None:
        """Have the carrier forget the messages of a room. Raises `AdapterUnavailable`."""
        await self._adapter.forget(self._key(room))
        self.forgotten(room)

    def forgotten(self, room: Room) -> None:
        """The carrier has forgotten the messages of a room."""
        entry = self._entries.get(room)
        if entry is not None:
            entry.log.forget()

    # Its life.

    def adopt(self, patterns: Patterns[Retention], unplaced: Iterable[Room]) -> None:
        """Go by other patterns, by which rooms remember that somebody here is in already.

        From the next message on it is known how far these have got.
        """
        self._patterns = patterns
        self._unplaced.update(unplaced)

    async def stop(self, timeout: float) -> None:
        """Read no more."""
        if self._timer is not None:
            self._timer.cancel()
        for entry in self._entries.values():
            entry.is_used = False
        self._entries.clear()
        await self._tasks.cancel(timeout)

    def _key(self, room: Room) -> RoomKey:
        name = f"{self._host.name}#{room}".encode()
        return RoomKey(name, self._channels.of_room(self._host.name, room))

    def _drop_if_unused(self, room: Room, entry: Entry) -> bool:
        unused = not entry.holds and not self._host.is_heard(room)
        if unused and self._entries.get(room) is entry:
            entry.is_used = False
            del self._entries[room]
        return unused

    def _placed(self, entry: Entry, messages: Sequence[Kept[Broadcast | None]]) -> Iterator[Placed]:
        position = entry.log.position
        assert position is not None
        for kept in messages:
            if kept.item is not None:
                yield Placed(Position(position.epoch, kept.offset, kept.tag), kept.item)

    def _deliver(self, entry: Entry) -> bool:
        """Deliver what comes next, and say whether anything was; what has no room waits for it."""
        log, delivered = entry.log, False
        while (kept := log.next()) is not None:
            if kept.item is not None:
                assert log.position is not None
                own = Position(log.position.epoch, kept.offset, kept.tag)
                if not self._host.deliver(Placed(own, kept.item)):
                    self._heal(entry)
                    break
            log.advance()
            delivered = True
        return delivered

    # Reading.

    def _heal(self, entry: Entry) -> None:
        """Read what is missing, and deliver what waits, in the background."""
        if not entry.is_healing:
            entry.is_healing = True
            self._tasks.start(self._heal_until_done(entry), "fastapi_rooms history")

    async def _heal_until_done(self, entry: Entry) -> None:
        try:
            while entry.is_used and (entry.log.needs_read or entry.log.next() is not None):
                await self._host.written()
                self._deliver(entry)  # else it would be read again
                try:
                    await self._catch_up(entry)
                except AdapterUnavailable as error:
                    logger.debug("The history of %r cannot be read: %s", entry.key.name, error)
                    await asyncio.sleep(RETRY)
                else:
                    self._deliver(entry)
        finally:
            entry.is_healing = False

    async def _catch_up(self, entry: Entry) -> None:
        """Read what is missing, together with all others who wait for it."""
        if not entry.log.needs_read and entry.reading is None:
            return
        if entry.reading is None:
            entry.reading = self._tasks.create(self._read(entry), "fastapi_rooms history read")
        reading = entry.reading
        await asyncio.wait((reading,))
        if reading.cancelled():
            raise AdapterUnavailable("The manager was closed.")
        if (error := reading.exception()) is not None:
            raise error

    async def _read(self, entry: Entry) -> None:
        log = entry.log
        try:
            for again in range(3):  # what comes while it is read may show another hole
                if not log.needs_read or (again and log.next() is not None):
                    break
                await self._read_once(entry)
        finally:
            entry.reading = None
        if log.needs_read:
            self._heal(entry)

    async def _read_once(self, entry: Entry) -> None:
        log, is_first = entry.log, entry.log.position is None
        since = log.begin_read()
        try:
            if since is None:
                read = await self._adapter.read(entry.key)
            else:
                read = await self._adapter.read_since(entry.key, since)
        except BaseException:
            log.fail_read()
            raise
        is_whole = log.finish_read(decoded(read))
        entry.fresh_until = max(entry.fresh_until, self._loop.time() + TRUSTED)
        if not is_whole:
            self._host.lost(_room_of(entry))
        elif not is_first and log.next() is not None:
            self._host.healed()
        self._deliver(entry)

    # Comparing.

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(COMPARE, self._compare_soon)

    def _compare_soon(self) -> None:
        self._timer = None
        if self._entries:
            self._watch()
            if self._comparison is None or self._comparison.done():
                work = self._compare(list(self._entries.items()))
                self._comparison = self._tasks.create(work, "fastapi_rooms history comparison")

    async def _compare(self, entries: list[tuple[Room, Entry]]) -> None:
        """Compare every position with the carrier's, in rooms that anybody still is in."""
        async for some in in_slices(entries):
            for room, entry in some:
                self._drop_if_unused(room, entry)
            compared = [e for _, e in some if e.is_used and not e.log.needs_read]
            try:
                tops = await self._adapter.tops([entry.key for entry in compared])
            except AdapterUnavailable:
                return  # an outage, after which everything is doubted
            for entry, top in zip(compared, tops, strict=True):
                if entry.is_used and top != entry.log.position:
                    entry.log.needs_read = True
                    self._heal(entry)


def _is_behind(own: Position | None, other: Position) -> bool:
    """Whether a worker has not got as far as somebody else in the same numbering."""
    return own is not None and own.epoch == other.epoch and own.offset < other.offset


def _room_of(entry: Entry) -> Room:
    return entry.key.name.decode().partition("#")[2]
