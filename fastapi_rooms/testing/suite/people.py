"""Who is present: how the suite has users come and go, hears of it, and asks."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Protocol, TypeAlias

import pytest_asyncio

from fastapi_rooms.adapters.presence import (
    Changed,
    Entry,
    Lease,
    RoomKey,
    SupportsPresence,
    Terms,
    UserEvent,
    event,
)
from fastapi_rooms.testing.suite.backplane import Backplane, Station, stations
from fastapi_rooms.testing.suite.kept_messages import new_room
from fastapi_rooms.testing.waiting import eventually

AT_ONCE = Terms(grace=0.0)
"""Who leaves has left."""

SOON = Terms(grace=0.02)
"""A grace that ends while one waits."""

LATER = Terms(grace=600.0)
"""One that does not."""

TTL = 600.0
"""Seconds that the lease of a worker lasts that lives."""

_sids = itertools.count()


class PresenceBackplane(Backplane, Protocol):
    """What lies between workers whose adapters are `SupportsPresence`."""

    async def kept(self) -> Collection[object]:
        """What is kept of who is present, of whatever kind; for people.

        Except what is kept for a while after workers were declared dead.
        """


class Worker:
    """A worker that lives by a lease, and hears of its rooms."""

    def __init__(self, station: Station) -> None:
        self.station = station
        adapter = station.adapter
        assert isinstance(adapter, SupportsPresence), f"{adapter!r} does not know who is present"
        self.adapter: SupportsPresence = adapter
        self.lease = Lease(secrets.token_hex(8), 0)

    def new_socket(self, user: str) -> Entry:
        """A socket that this worker has just accepted."""
        return Entry(f"{self.lease.node}.{next(_sids):016}", user)

    async def beat(self, ttl: float = TTL, *, reaps: bool = False) -> list[Lease]:
        """Take the lease that is given, and return those that are overdue."""
        lease, overdue, _ = await self.adapter.beat(self.lease, ttl, reaps=reaps)
        self.lease = lease
        return [*overdue]

    async def enter(
        self, room: RoomKey, *entries: Entry, terms: Terms = AT_ONCE, quiet: bool = False
    ) -> Changed:
        """Have sockets enter."""
        return await self.adapter.change(room, self.lease, terms, enter=entries, quiet=quiet)

    async def leave(self, room: RoomKey, *entries: Entry, terms: Terms = AT_ONCE) -> Changed:
        """Have sockets leave."""
        sids = [entry.sid for entry in entries]
        return await self.adapter.change(room, self.lease, terms, leave=sids)

    def heard(self, room: RoomKey) -> list[UserEvent]:
        """What it has heard of a room that it is subscribed to."""
        return [event.decode(data).event for data in self.station.heard(room.channel)]

    async def heard_until(self, room: RoomKey, version: int) -> list[UserEvent]:
        """What it has heard of a room when it has heard of this version."""
        await eventually(
            lambda: any(each.version == version for each in self.heard(room)),
            what=f"version {version}",
        )
        return self.heard(room)

    async def snapshot(self, room: RoomKey) -> tuple[int, set[str], set[Entry]]:
        """The version, the users and the sockets of a room, from all of its pages."""
        first = await self.adapter.present(room)
        users, entries, cursor = {*first.users}, {*first.entries}, first.cursor
        while cursor:
            page = await self.adapter.present(room, cursor)
            users.update(page.users)
            entries.update(page.entries)
            cursor = page.cursor
        return first.version, users, entries

    async def swept(self, room: RoomKey) -> list[UserEvent]:
        """Sweep a room until nobody is in their grace; what this has made."""
        made: list[UserEvent] = []

        async def is_over() -> bool:
            changed = await self.adapter.sweep(room, AT_ONCE)
            made.extend(changed.events)
            return changed.next_leave is None

        await eventually(is_over, what="every grace is over")
        return made


Three: TypeAlias = tuple[Worker, Worker, Worker]


class PresenceBench:
    """Gives every test three workers, which see to it that nothing is kept in the end."""

    @pytest_asyncio.fixture
    async def three(self, backplane: PresenceBackplane) -> AsyncIterator[Three]:
        """Three workers that live, and who look after what they leave behind."""
        async with stations(backplane, 3) as (one, two, three):
            workers = Worker(one), Worker(two), Worker(three)
            for worker in workers:
                await worker.beat()
            yield workers
            for worker in workers:
                await worker.adapter.bury(worker.lease)
        assert not await backplane.kept(), "everyone has left"


async def common_room(workers: Iterable[Worker]) -> RoomKey:
    """A new room that all of them are subscribed to."""
    stations = [worker.station for worker in workers]
    room = new_room(stations[0])
    for station in stations:
        await station.subscribe(room.channel)
    return room


def joins(*users: str) -> list[tuple[str, str]]:
    """What is told of users who come."""
    return [("join", user) for user in users]


def leaves(*users: str) -> list[tuple[str, str]]:
    """What is told of users who go."""
    return [("leave", user) for user in users]


def told(events: Iterable[UserEvent]) -> list[tuple[str, str]]:
    """Events, without their versions."""
    return [(each.kind, each.user) for each in events]


def present_after(events: Iterable[UserEvent], present: Iterable[str] = ()) -> set[str]:
    """Who is present, as events have it. Fails unless they are successive, and alternate."""
    now, last = {*present}, 0
    for each in events:
        assert not last or each.version == last + 1, "numbered without a hole"
        last = each.version
        assert (each.kind == "join") is (each.user not in now), each
        (now.add if each.kind == "join" else now.remove)(each.user)
    return now


async def declared_dead(worker: Worker, by: Worker) -> Lease:
    """Have a worker's lease end, and another declare it dead."""
    lease = worker.lease
    await worker.beat(0.001)
    assert worker.lease == lease

    async def is_dead() -> bool:
        return lease in await by.beat(reaps=True)

    await eventually(is_dead, what=f"{lease} is overdue")
    return lease
