"""What the suites run on: a backplane to be tested, and workers that record what they receive."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import pytest_asyncio

from fastapi_rooms import Adapter, Outage
from fastapi_rooms.adapters import SupportsShards
from fastapi_rooms.testing.cluster import Cluster
from fastapi_rooms.testing.waiting import eventually

MARKS = b"marks"
"""A channel that every station subscribes to, for `settle`."""

MARK = b"\x00mark "
"""How a message of `settle` begins."""

_marks = itertools.count()


class Backplane(Protocol):
    """What lies between the workers of one test."""

    def adapter(self) -> Adapter:
        """One more worker's adapter, not started."""

    async def subscribers(self, channel: bytes) -> int:
        """How many workers are subscribed to a channel now."""


class Station:
    """One worker's adapter, and all it has received."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.received_messages: list[tuple[bytes, bytes]] = []
        self.gaps: list[Outage] = []
        self.marks: set[tuple[bytes, bytes]] = set()
        self.subscribed_to: set[bytes] = set()
        self.published_on: set[bytes] = set()

    async def start(self, *channels: bytes) -> None:
        """Start the adapter with this station as its receiver."""
        self.subscribed_to = {MARKS, *channels}
        await self.adapter.start(self, [MARKS, *channels])

    async def publish(self, channel: bytes, *messages: bytes) -> None:
        """Publish one message after the other."""
        self.published_on.add(channel)
        for data in messages:
            await self.adapter.publish(channel, data)

    def publish_volatile(self, channel: bytes, data: bytes) -> None:
        """Publish a message that may be dropped."""
        self.published_on.add(channel)
        self.adapter.publish_volatile(channel, data)

    async def subscribe(self, *channels: bytes) -> None:
        """Subscribe to some channels."""
        self.subscribed_to.update(channels)
        await self.adapter.subscribe(channels)

    def want(self, *channels: bytes) -> None:
        """Want some channels without waiting for them."""
        self.subscribed_to.update(channels)
        self.adapter.want(channels)

    def unsubscribe(self, *channels: bytes) -> None:
        """Take that back."""
        self.subscribed_to.difference_update(channels)
        self.adapter.unsubscribe(channels)

    def heard(self, channel: bytes) -> list[bytes]:
        """What has come on a channel."""
        return [data for received_on, data in self.received_messages if received_on == channel]

    def in_promised_order(
        self, messages: Iterable[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        """The messages, sorted by shard if order is promised within shards only."""
        adapter = self.adapter
        if isinstance(adapter, SupportsShards):
            return sorted(messages, key=lambda message: adapter.shard_of(message[0]))
        return list(messages)

    # What the adapter calls.

    def received(self, channel: bytes, data: bytes) -> None:
        """Note it."""
        if data.startswith(MARK):
            self.marks.add((channel, data))
        else:
            self.received_messages.append((channel, data))

    def gap(self, outage: Outage) -> None:
        """Note it."""
        self.gaps.append(outage)


@asynccontextmanager
async def stations(backplane: Backplane, count: int) -> AsyncIterator[list[Station]]:
    """Started stations, closed at the end; then no task of theirs may be left."""
    before = asyncio.all_tasks()
    made = [Station(backplane.adapter()) for _ in range(count)]
    try:
        for station in made:
            await station.start()
        yield made
    finally:
        for station in made:
            await station.adapter.close()
    await nothing_but(before)


async def settle(sender: Station, receivers: Iterable[Station]) -> None:
    """Wait until all that `sender` has published so far has arrived.

    What one worker publishes arrives in order: so when this mark has come, nothing before it will.
    Where order is promised within shards only, there is a mark on every channel that was used.
    """
    mark = MARK + str(next(_marks)).encode()
    marked = {MARKS}
    if isinstance(sender.adapter, SupportsShards):
        marked |= sender.published_on
    await asyncio.gather(*(sender.adapter.publish(channel, mark) for channel in marked))
    for station in receivers:
        for channel in marked & station.subscribed_to:
            has_come = partial(station.marks.__contains__, (channel, mark))
            await eventually(has_come, what=f"a mark on {channel!r}")


async def nothing_but(tasks: set[asyncio.Task[object]]) -> None:
    """Fail unless every task that was started since `tasks` has ended."""
    mine = asyncio.current_task()
    assert mine is not None
    for task in asyncio.all_tasks() - tasks - {mine}:
        await eventually(task.done, what=f"{task} ends")


LINGER = 0.03


class ManagerBench:
    """Gives every test of managers three workers, and sees that they leave nothing behind."""

    @pytest_asyncio.fixture
    async def cluster(self, backplane: Backplane) -> AsyncIterator[Cluster]:
        """Three workers that meet through the backplane."""
        before = asyncio.all_tasks()
        async with Cluster(3, adapter=backplane.adapter, linger=LINGER) as cluster:
            yield cluster
        await nothing_but(before)
        await subscribers_become(0, backplane, channel_of(backplane))


def channel_of(backplane: Backplane, room: str = "", namespace: str = "/") -> bytes:
    """The channel a room's messages travel on; without a room, that of the whole namespace."""
    adapter = backplane.adapter()
    name = f"{namespace}#{room}"
    if room:
        name = f"{{{name}}}#" if isinstance(adapter, SupportsShards) else f"{name}#"
    return f"{adapter.prefix}#{name}".encode()


async def subscribers_become(count: int, backplane: Backplane, channel: bytes) -> None:
    """Wait until so many workers are subscribed to a channel."""

    async def so_many() -> bool:
        return await backplane.subscribers(channel) == count

    await eventually(so_many, what=f"{count} on {channel!r}")
