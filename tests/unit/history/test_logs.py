"""The logs of rooms that remember, on a carrier in a test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.history import Retention, RoomKey, SupportsHistory
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.patterns import Patterns
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Kept, Stretch
from fastapi_rooms.core.target import Target
from fastapi_rooms.history import logs as module
from fastapi_rooms.history.logs import RoomLogs
from fastapi_rooms.history.messages import Placed
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.kept import InPlace
from tests.unit.support import broadcast, channel_of

TEA = "chat-tea"
EPOCH = "0" * 16


def at(offset: int) -> Position:
    return Position(EPOCH, offset, offset)


class Carrier:
    """Keeps messages, and is the namespace as well: it writes down what is delivered."""

    name = "/"

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.delivered: list[str] = []
        self.heard = {TEA}
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.error: Exception | None = None
        self.healed_count = 0
        self.lost_rooms: list[str] = []
        self.has_room = True
        self.writing = 0
        self.writes = asyncio.Event()
        self.writes.set()
        patterns: Patterns[Retention] = Patterns()
        patterns.declare("chat-*", Retention(50, 60.0))
        history = cast("SupportsHistory", self)
        self.logs = RoomLogs(self, history, Channels("rooms"), patterns)

    # The carrier.

    def keeps(self, *texts: str | bytes) -> None:
        """Messages are sent, of which nothing comes."""
        for text in texts:
            if isinstance(text, str):
                message = broadcast(len(self.kept) + 1, Target((TEA,)), text)
                self.kept.append(codec.encode(message))
            else:
                self.kept.append(text)

    def comes(self, offset: int) -> None:
        """One of them comes."""
        data = self.kept[offset - 1]
        placed = InPlace(at(offset), offset - 1, data)
        self.logs.received(placed, codec.decode_broadcast(data))

    async def read(self, room: RoomKey) -> Stretch[bytes]:
        return await self._since(0)

    async def read_since(self, room: RoomKey, position: Position) -> Stretch[bytes]:
        return await self._since(position.offset)

    async def _since(self, offset: int) -> Stretch[bytes]:
        self.reads += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        messages = [Kept(n, n, data) for n, data in enumerate(self.kept, 1) if n > offset]
        return Stretch(at(len(self.kept)), messages, offset)

    async def tops(self, rooms: Sequence[RoomKey]) -> list[Position | None]:
        if self.error is not None:
            raise self.error
        return [at(len(self.kept)) for _ in rooms]

    # The namespace.

    def is_heard(self, room: str) -> bool:
        return room in self.heard

    def deliver(self, placed: Placed) -> bool:
        if self.has_room:
            self.delivered.append(placed.message.payload.text)
        return self.has_room

    async def written(self) -> None:
        self.writing += 1
        await self.writes.wait()

    def healed(self) -> None:
        self.healed_count += 1

    def lost(self, room: str) -> None:
        self.lost_rooms.append(room)


@pytest.fixture
async def carrier(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Carrier]:
    monkeypatch.setattr(module, "RETRY", 0.001)
    carrier = Carrier()
    yield carrier
    await carrier.logs.stop(1)


async def test_who_has_got_further_than_this_worker_has_what_comes_between_read(
    carrier: Carrier,
) -> None:
    carrier.keeps("1")
    await carrier.logs.open(TEA)
    carrier.keeps("2", "3")
    carrier.has_room = False
    carrier.writes.clear()
    opening = asyncio.create_task(carrier.logs.open(TEA, at(3)))
    await eventually(lambda: carrier.writing == 2)  # and so does what heals
    assert not opening.done()
    carrier.has_room = True
    carrier.writes.set()
    await opening
    assert carrier.logs.position(TEA) == at(3)
    assert carrier.delivered == ["2", "3"]
    carrier.logs.close(TEA)
    carrier.logs.close(TEA)


async def test_a_position_of_another_numbering_is_not_waited_for(carrier: Carrier) -> None:
    carrier.keeps("1")
    await carrier.logs.open(TEA)
    reads = carrier.reads
    await carrier.logs.open(TEA, Position("1" * 16, 99, 99))
    assert carrier.logs.position(TEA) == at(1)
    assert carrier.reads == reads


async def test_what_is_no_message_has_a_place_and_is_given_to_nobody(carrier: Carrier) -> None:
    """Whoever may write to the carrier can put anything there."""
    carrier.keeps("1", b"\xff", "3")
    await carrier.logs.open(TEA)
    carrier.keeps(b"\xff", "5", "6")
    carrier.comes(6)
    await eventually(lambda: carrier.delivered == ["5", "6"])
    assert carrier.logs.position(TEA) == at(6)
    assert [one.message.payload.text for one in carrier.logs.recent(TEA, 9)] == ["1", "3", "5", "6"]
    assert [one.position.offset for one in carrier.logs.since(TEA, at(3)) or ()] == [5, 6]
    assert len(await carrier.logs.read(TEA)) == 4
    assert carrier.lost_rooms == []


async def test_who_waits_for_what_is_read_is_told_when_the_worker_ends(carrier: Carrier) -> None:
    carrier.answers.clear()
    opening = [asyncio.create_task(carrier.logs.open(TEA)) for _ in range(2)]
    await eventually(lambda: carrier.reads)
    await carrier.logs.stop(1)
    for each in opening:
        with pytest.raises(AdapterUnavailable, match="closed"):
            await each
    assert carrier.logs.position(TEA) is None


async def test_only_rooms_of_which_something_may_be_missed_are_read_again(
    carrier: Carrier,
) -> None:
    carrier.keeps("1")
    await carrier.logs.open(TEA)
    reads = carrier.reads
    carrier.keeps("2")
    carrier.logs.doubt(frozenset({channel_of("chat-other")}))
    assert not carrier.logs._entries[TEA].is_healing
    assert carrier.reads == reads
    carrier.logs.doubt(frozenset({channel_of(TEA)}))
    await eventually(lambda: carrier.delivered == ["2"])
    assert carrier.healed_count == 1


async def test_the_last_message_before_a_silence_is_found_by_comparing(carrier: Carrier) -> None:
    carrier.keeps("1")
    await carrier.logs.open(TEA)
    carrier.keeps("2")
    carrier.error = AdapterUnavailable("away")
    carrier.logs._compare_soon()
    comparison: Any = carrier.logs._comparison
    await comparison
    assert carrier.delivered == []
    carrier.error = None
    carrier.logs._compare_soon()
    await eventually(lambda: carrier.delivered == ["2"])
    assert carrier.logs.position(TEA) == at(2)


async def test_rooms_that_nobody_is_in_are_forgotten_and_compared_no_more(
    carrier: Carrier,
) -> None:
    await carrier.logs.open(TEA)
    carrier.heard.clear()
    carrier.logs.close(TEA)
    carrier.logs.close(TEA)  # as there may have been a stop between
    assert carrier.logs.position(TEA) is None
    carrier.logs._compare_soon()
    assert carrier.logs._timer is None
    assert carrier.logs._comparison is None
