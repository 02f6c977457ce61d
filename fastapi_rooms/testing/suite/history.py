"""The contract of `fastapi_rooms.adapters.history`, checked on adapters without a manager."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from fastapi_rooms.adapters.history import Position, Stretch, kept
from fastapi_rooms.testing.suite.backplane import Backplane, Station, stations
from fastapi_rooms.testing.suite.kept_messages import (
    HistoryBackplane,
    Pair,
    append,
    as_kept,
    assert_chain,
    assert_confirmed_or_refused,
    common_room,
    heard_by,
    heard_until,
    history_of,
    missed_since,
    new_room,
    room_named,
)
from fastapi_rooms.testing.suite.positions import PositionsSuite

ODD_NAMES = [
    b"a",
    b"A",
    b"a#",
    b"#",
    b"a b",
    b" ",
    b"{a}",
    b"{a",
    b"a}",
    b"{}",
    b"}{",
    b"{a}{b}",
    b"*",
    b"[a]",
    b"\x00",
    b"a\x00",
    b"a\r\nb",
    b"%s",
    b"1-1",
    "Grüße 🎉".encode(),
    b"x" * 250,
]
EVERY_BYTE = bytes(range(256))
ODD_MESSAGES = [
    b"",
    b"\x00",
    b"\n",
    b"\r\n$-1\r\n",
    EVERY_BYTE,
    kept.encode(Position("0" * 16, 1, 1), 0, b"in a message"),
    b"x" * 1024 * 1024,
]


@pytest.mark.asyncio
class HistorySuite(PositionsSuite):
    """Subclass it where a fixture `backplane` is, whose adapters are `SupportsHistory`."""

    # One order, one step.

    async def test_all_subscribers_hear_one_order_the_senders_among_them(
        self, backplane: Backplane
    ) -> None:
        async with stations(backplane, 3) as workers:
            room = await common_room(workers)
            sent = [[f"{w} {number}".encode() for number in range(200)] for w in range(2)]
            for ones, twos in zip(*sent, strict=True):
                await asyncio.gather(append(workers[0], room, ones), append(workers[1], room, twos))
            heard = await heard_by(workers, room)
            assert heard[0] == heard[1] == heard[2]
            for w, own in enumerate(sent):
                data = [m.envelope for m in heard[0]]
                assert [d for d in data if d.startswith(b"%d " % w)] == own
            assert_chain(heard[0])

    async def test_two_workers_that_append_at_once_are_counted_without_a_hole(
        self, pair: Pair
    ) -> None:
        one, two = pair
        room = new_room(one)
        positions = await asyncio.gather(
            *(append(worker, room, b"hello") for _ in range(300) for worker in pair)
        )
        assert sorted(p.offset for p in positions) == [*range(1, 601)]
        assert len({p.epoch for p in positions}) == 1
        assert (await history_of(two).read(room)).top == max(positions, key=lambda p: p.offset)

    async def test_what_is_received_can_be_read_as_it_was_given(self, pair: Pair) -> None:
        one, two = pair
        room = await common_room([two])
        for number in range(20):
            position = await append(one, room, b"%d" % number)
            heard = await heard_until(two, room, position)
            read = await history_of(two).read(room)
            assert read.top == position
            assert [*read.messages] == [as_kept(message) for message in heard]
        assert not one.heard(room.channel), "it is not subscribed"

    async def test_what_is_read_was_received_or_is_about_to_be(self, pair: Pair) -> None:
        one, two = pair
        room = await common_room([two])
        sending = asyncio.gather(*(append(one, room, b"%d" % n) for n in range(500)))
        reads: list[Stretch[bytes]] = []
        while not sending.done():
            reads.append(await history_of(two).read(room))
            await asyncio.sleep(0)
        positions = await sending
        heard = [as_kept(m) for m in await heard_until(two, room, positions[-1])]
        for read in reads:
            assert [*read.messages] == heard[: read.top.offset]
            if read.messages:
                assert read.messages[-1].tag == read.top.tag

    async def test_what_is_appended_in_one_turn_keeps_its_order(self, pair: Pair) -> None:
        one, two = pair
        rooms = [await common_room([two]) for _ in range(3)]
        appending = [
            (room, append(one, room, b"%d" % number)) for number in range(2000) for room in rooms
        ]
        positions = await asyncio.gather(*(position for _, position in appending))
        expected = [b"%d" % number for number in range(2000)]
        for number, room in enumerate(rooms):
            own = positions[number::3]
            assert [p.offset for p in own] == [*range(1, 2001)]
            heard = await heard_until(two, room, own[-1])
            assert [m.envelope for m in heard] == expected
            assert [m.item for m in (await history_of(one).read(room)).messages] == expected

    async def test_messages_are_kept_whether_or_not_anybody_hears_them(self, pair: Pair) -> None:
        one, two = pair
        room = new_room(one)
        position = await append(one, room, b"into the void")
        read = await history_of(two).read(room)
        assert read.top == position
        assert [m.item for m in read.messages] == [b"into the void"]

    async def test_messages_are_any_bytes(self, pair: Pair) -> None:
        one, two = pair
        room = await common_room(pair)
        for data in ODD_MESSAGES:
            await append(one, room, data)
        for heard in await heard_by(pair, room):
            assert [m.envelope for m in heard[: len(ODD_MESSAGES)]] == ODD_MESSAGES
        read = await history_of(two).read(room)
        assert [m.item for m in read.messages[: len(ODD_MESSAGES)]] == ODD_MESSAGES

    async def test_rooms_have_any_names_and_are_told_apart_byte_by_byte(self, pair: Pair) -> None:
        one, two = pair
        rooms = [room_named(one, name + secrets.token_hex(2).encode()) for name in ODD_NAMES]
        rooms += [room_named(one, secrets.token_hex(2).encode() + name) for name in ODD_NAMES]
        await two.subscribe(*(room.channel for room in rooms))
        positions = [await append(one, room, room.name) for room in rooms]
        assert {p.offset for p in positions} == {1}
        assert await history_of(two).tops(rooms) == positions
        for room, position in zip(rooms, positions, strict=True):
            (message,) = await heard_until(two, room, position)
            assert message.envelope == room.name
            read = await history_of(two).read(room)
            assert read.top == position
            assert [m.item for m in read.messages] == [room.name]

    # Once, whatever happens.

    async def test_what_is_under_way_when_connections_break_is_kept_once_or_refused(
        self, backplane: HistoryBackplane, pair: Pair
    ) -> None:
        one, two = pair
        room = new_room(one)
        sent = [b"%d" % number for number in range(600)]
        results: list[Position | BaseException] = []
        for turns in range(6):
            batch = sent[len(results) :][:100]
            appending = [asyncio.ensure_future(append(one, room, data)) for data in batch]
            for _ in range(turns):
                await asyncio.sleep(0)
            await backplane.break_connections()
            results += await asyncio.gather(*appending, return_exceptions=True)
        await append(one, room, b"the end")
        read = await history_of(two).read(room)
        assert_confirmed_or_refused(sent, results, read._replace(messages=read.messages[:-1]))

    async def test_an_append_that_is_cancelled_is_taken_back_or_kept_whole(
        self, pair: Pair
    ) -> None:
        one, two = pair
        room = await common_room([two])
        confirmed: dict[bytes, Position] = {}
        for number in range(30):
            data = b"%d" % number
            appending = asyncio.ensure_future(append(one, room, data))
            for _ in range(number % 6):
                await asyncio.sleep(0)
            appending.cancel()
            (result,) = await asyncio.gather(appending, return_exceptions=True)
            if isinstance(result, Position):
                confirmed[data] = result
        (heard,) = await heard_by([two], room)
        assert_chain(heard)
        at = {m.envelope: m.position for m in heard}
        assert len(at) == len(heard), "none twice"
        assert confirmed.items() <= at.items()
        read = await history_of(one).read(room)
        assert [*read.messages] == [as_kept(message) for message in heard]

    @pytest.mark.parametrize("turns", [0, 1, 3])
    async def test_what_is_under_way_at_the_close_is_confirmed_or_refused(
        self, backplane: Backplane, pair: Pair, turns: int
    ) -> None:
        _, two = pair
        room = new_room(two)
        one = Station(backplane.adapter())
        await one.start()
        sent = [b"%d" % number for number in range(300)]
        appending = [asyncio.ensure_future(append(one, room, data)) for data in sent]
        for _ in range(turns):
            await asyncio.sleep(0)
        await one.adapter.close()
        results = await asyncio.gather(*appending, return_exceptions=True)
        assert_confirmed_or_refused(sent, results, await history_of(two).read(room))

    async def test_a_worker_that_starts_again_finds_the_same_numbering(self, pair: Pair) -> None:
        one, two = pair
        room = new_room(one)
        first = await append(one, room, b"before")
        for worker in pair:
            await worker.adapter.close()
        for worker in pair:
            await worker.start(room.channel)
        second = await append(one, room, b"after")
        assert (second.epoch, second.offset) == (first.epoch, 2)
        assert await missed_since(two, room, first) == [b"after"]
        assert [m.position for m in await heard_until(two, room, second)] == [second]
