"""Messages of rooms that remember: how the suite sends, hears and reads them."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from typing import Protocol, TypeAlias

import pytest_asyncio

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters import SupportsShards
from fastapi_rooms.adapters.history import (
    Kept,
    Position,
    Retention,
    RoomKey,
    Stretch,
    SupportsHistory,
    after,
    kept,
)
from fastapi_rooms.testing.suite.backplane import Backplane, Station, stations
from fastapi_rooms.testing.waiting import eventually

RETENTION = Retention(size=5000, ttl=60.0)

Pair: TypeAlias = tuple[Station, Station]

_tags = itertools.count(2**64 - 2**32)  # as long in decimal digits as tags get


class HistoryBackplane(Backplane, Protocol):
    """What lies between workers whose adapters are `SupportsHistory`."""

    async def break_connections(self) -> None:
        """Break every connection of the workers now; where there are none, do nothing.

        Best so that answers are lost: a [Proxy][fastapi_rooms.testing.Proxy] before the server
        keeps them back, `stall(Direction.TO_CLIENT)`, while it carries out what has reached it, and
        is `cut()` and resumed then. Otherwise hardly a message has to be sent again.
        """


class HistoryBench:
    """Gives every test two workers, whose adapters keep messages."""

    @pytest_asyncio.fixture
    async def pair(self, backplane: Backplane) -> AsyncIterator[Pair]:
        """Two workers on one backplane."""
        async with stations(backplane, 2) as (one, two):
            yield one, two


def history_of(station: Station) -> SupportsHistory:
    """The adapter of a station, which has to keep messages."""
    adapter = station.adapter
    assert isinstance(adapter, SupportsHistory), f"{adapter!r} keeps no messages"
    return adapter


def room_named(station: Station, name: bytes) -> RoomKey:
    """A room of the namespace `/`."""
    adapter, name = station.adapter, b"/#" + name
    around = b"%b#{%b}#" if isinstance(adapter, SupportsShards) else b"%b#%b#"
    return RoomKey(name, around % (adapter.prefix.encode(), name))


def new_room(station: Station) -> RoomKey:
    """A room that there has never been."""
    return room_named(station, b"room " + secrets.token_hex(8).encode())


async def common_room(stations: Sequence[Station]) -> RoomKey:
    """A new room that all of them are subscribed to."""
    room = new_room(stations[0])
    for station in stations:
        await station.subscribe(room.channel)
    return room


def append(
    station: Station,
    room: RoomKey,
    data: bytes,
    *,
    retention: Retention = RETENTION,
) -> Awaitable[Position]:
    """Append a new message."""
    return history_of(station).append(room, data, next(_tags), retention)


async def heard_until(station: Station, room: RoomKey, position: Position) -> list[kept.InPlace]:
    """What a station has heard of a room when it has heard the message at `position`."""

    def heard() -> list[kept.InPlace]:
        return [kept.decode(data) for data in station.heard(room.channel)]

    await eventually(lambda: any(m.position == position for m in heard()), what=f"{position}")
    return heard()


async def heard_by(stations: Sequence[Station], room: RoomKey) -> list[list[kept.InPlace]]:
    """All that each station hears of a room to which nobody is sending any more.

    There is one order for all: when one more message has come, nothing before it will.
    """
    top = await append(stations[0], room, b"the end")
    return [await heard_until(station, room, top) for station in stations]


async def missed_since(station: Station, room: RoomKey, position: Position) -> list[bytes] | None:
    """What was sent after a position, if that can be known."""
    missed = after(await history_of(station).read_since(room, position), position)
    return None if missed is None else [message.item for message in missed]


async def forgotten(station: Station, room: RoomKey) -> None:
    """Wait until no message of a room is kept."""

    async def is_empty() -> bool:
        return not (await history_of(station).read(room)).messages

    await eventually(is_empty, what="its messages have expired")


def as_kept(message: kept.InPlace) -> Kept[bytes]:
    """A message that was received, as it is read."""
    return Kept(message.position.offset, message.position.tag, message.envelope)


def assert_chain(messages: Iterable[kept.InPlace]) -> None:
    """Fail unless these are a room's messages from the first on."""
    offset, tag, epochs = 0, 0, set()
    for message in messages:
        assert (message.position.offset, message.previous) == (offset + 1, tag)
        _, offset, tag = message.position
        epochs.add(message.position.epoch)
    assert len(epochs) == 1


def assert_successive(read: Stretch[bytes]) -> None:
    """Fail unless these are successive messages up to the top."""
    offsets = [message.offset for message in read.messages]
    assert offsets == [*range(read.top.offset - len(offsets) + 1, read.top.offset + 1)]
    assert not read.messages or read.messages[-1].tag == read.top.tag


def assert_confirmed_or_refused(
    sent: Sequence[bytes], results: Iterable[Position | BaseException], read: Stretch[bytes]
) -> None:
    """Fail unless each message is kept once where it was said to be, and not where it was refused.

    Of those that are uncertain it can be neither, but not twice, and not out of order.
    """
    at = {message.item: message.offset for message in read.messages}
    assert [*at.values()] == [*range(1, len(read.messages) + 1)], "none twice, none left out"
    assert [data for data in sent if data in at] == [*at], "in order"
    for data, result in zip(sent, results, strict=True):
        if isinstance(result, Position):
            assert at[data] == result.offset
        else:
            assert isinstance(result, AdapterUnavailable), result
            assert result.uncertain or data not in at
