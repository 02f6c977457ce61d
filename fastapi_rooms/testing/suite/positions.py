"""Positions in rooms that remember: what can be resumed from, and what is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms.adapters.history import MAX_BYTES, Position, Retention, RoomKey, after
from fastapi_rooms.testing.suite.backplane import Station
from fastapi_rooms.testing.suite.kept_messages import (
    HistoryBench,
    Pair,
    append,
    assert_successive,
    common_room,
    forgotten,
    heard_until,
    history_of,
    missed_since,
    new_room,
)

SOON = 0.2
"""Seconds until messages that a test waits to be forgotten are forgotten."""


@pytest.mark.asyncio
class PositionsSuite(HistoryBench):
    """What of a room can be had again."""

    # Positions.

    @pytest.mark.parametrize("size", [0, 1, 7])
    async def test_as_many_messages_can_be_missed_as_are_kept_and_not_one_more(
        self, pair: Pair, size: int
    ) -> None:
        one, two = pair
        room, retention = new_room(one), Retention(size, ttl=60)
        await append(one, room, b"long before", retention=retention)
        position = await append(one, room, b"before", retention=retention)
        sent = [b"%d" % number for number in range(size)]
        for data in sent:
            await append(one, room, data, retention=retention)
        assert await missed_since(two, room, position) == sent
        await append(one, room, b"one more", retention=retention)
        assert await missed_since(two, room, position) is None
        assert len((await history_of(two).read(room)).messages) == size + 1

    async def test_a_room_that_was_sent_nothing_has_a_position_to_resume_from(
        self, pair: Pair
    ) -> None:
        one, two = pair
        room, retention = new_room(one), Retention(size=3, ttl=60)
        read = await history_of(two).read(room)
        top = read.top
        assert (top.offset, top.tag, [*read.messages]) == (0, 0, [])
        assert await missed_since(one, room, top) == []
        sent = [b"first", b"second", b"third"]
        for data in sent:
            await append(one, room, data, retention=retention)
        assert await missed_since(two, room, top) == sent
        for data in sent:
            await append(one, room, data, retention=retention)
        assert await missed_since(two, room, top) is None

    async def test_after_each_position_comes_what_was_sent_after_it_and_nothing_before_is_read(
        self, pair: Pair
    ) -> None:
        one, two = pair
        room = new_room(one)
        sent = [b"%d" % number for number in range(10)]
        positions = [await append(one, room, data) for data in sent]
        for index, position in enumerate(positions):
            assert await missed_since(two, room, position) == sent[index + 1 :]
            read = await history_of(two).read_since(room, position)
            assert read.top == positions[-1]
            assert all(message.offset >= position.offset for message in read.messages)

    async def test_more_than_is_read_at_once_is_read_part_by_part(self, pair: Pair) -> None:
        one, two = pair
        room, length = new_room(one), MAX_BYTES // 4
        positions = [await append(one, room, bytes(length)) for _ in range(7)]
        offsets = [position.offset for position in positions]
        last = await history_of(two).read(room)
        assert_successive(last)
        assert 1 <= len(last.messages) <= 4
        found, parts = [offsets[0]], 0
        while found != offsets:
            position = positions[len(found) - 1]
            read = await history_of(two).read_since(room, position)
            missed = after(read, position)
            assert missed
            assert sum(len(message.item) for message in read.messages) <= MAX_BYTES + length
            found += [message.offset for message in missed]
            parts += 1
        assert parts > 1

    async def test_a_position_that_is_none_is_refused(self, pair: Pair) -> None:
        one, two = pair
        room, other = new_room(one), new_room(one)
        _, position, top = [await append(one, room, b"hello") for _ in range(3)]
        elsewhere = await append(one, other, b"hello")
        stranger = "f" * 16 if top.epoch != "f" * 16 else "e" * 16
        for forged in [
            position._replace(tag=position.tag + 1),
            position._replace(epoch=stranger),
            position._replace(offset=position.offset - 1),
            top._replace(tag=top.tag - 1),
            top._replace(offset=top.offset + 1),
            top._replace(offset=2**53),
            Position(stranger, 0, 0),
            elsewhere,
        ]:
            read = await history_of(two).read_since(room, forged)
            assert after(read, forged) is None
            assert read.top == top
            assert_successive(read)

    async def test_a_position_in_a_room_without_a_numbering_is_refused(self, pair: Pair) -> None:
        one, two = pair
        room = new_room(one)
        for forged in [Position("f" * 16, 0, 0), Position("f" * 16, 1, 1)]:
            read = await history_of(two).read_since(room, forged)
            assert after(read, forged) is None
            assert (read.top.offset, [*read.messages]) == (0, [])

    async def test_tops_are_told_for_many_rooms_at_once(self, pair: Pair) -> None:
        one, two = pair
        sent, unknown, read = ([new_room(one) for _ in range(100)] for _ in range(3))
        positions = await asyncio.gather(*(append(one, room, b"hello") for room in sent))
        starts = [(await history_of(one).read(room)).top for room in read]
        rooms = [room for three in zip(sent, unknown, read, strict=True) for room in three]
        tops = await history_of(two).tops(rooms)
        assert tops[0::3] == positions
        assert tops[1::3] == [None] * 100
        assert tops[2::3] == starts
        assert await history_of(two).tops([]) == []
        assert await history_of(two).tops(unknown) == [None] * 100, "asking makes no numbering"

    # Forgotten.

    async def test_what_is_forgotten_again_and_again_is_proven_by_what_follows(
        self, pair: Pair
    ) -> None:
        one, two = pair
        room = new_room(one)
        positions = [(await history_of(one).read(room)).top]
        for _ in range(3):
            positions.append(await append(one, room, b"hello"))
            assert await missed_since(two, room, positions[-2]) == [b"hello"]
            await history_of(two).forget(room)
            assert [await missed_since(one, room, position) for position in positions] == [
                *[None] * (len(positions) - 1),
                [],
            ]

    async def test_what_is_forgotten_is_gone_and_the_numbering_goes_on(self, pair: Pair) -> None:
        one, two = pair
        room, other = await common_room(pair), new_room(one)
        before, top = [await append(one, room, b"hello") for _ in range(2)]
        await append(one, other, b"not forgotten")
        await history_of(two).forget(room)
        await self._is_forgotten_and_goes_on(one, room, before, top)
        assert len((await history_of(one).read(other)).messages) == 1

    async def test_forgetting_what_never_was_is_harmless(self, pair: Pair) -> None:
        room = new_room(pair[0])
        await history_of(pair[0]).forget(room)
        assert (await append(pair[1], room, b"hello")).offset == 1

    async def test_messages_expire_and_the_numbering_goes_on(self, pair: Pair) -> None:
        one, _ = pair
        room, retention = await common_room(pair), Retention(size=10, ttl=SOON)
        before, top = [await append(one, room, b"hello", retention=retention) for _ in range(2)]
        await forgotten(one, room)
        await self._is_forgotten_and_goes_on(one, room, before, top)

    async def test_no_message_expires_before_the_last_one(self, pair: Pair) -> None:
        one, two = pair
        room, short = new_room(one), new_room(one)
        first = await append(one, room, b"first", retention=Retention(size=10, ttl=SOON))
        await append(one, room, b"second")
        await append(one, short, b"gone sooner", retention=Retention(size=10, ttl=SOON))
        await forgotten(two, short)
        assert await missed_since(two, room, first) == [b"second"]

    async def _is_forgotten_and_goes_on(
        self, worker: Station, room: RoomKey, before: Position, top: Position
    ) -> None:
        """Someone who was at `top` has provably missed nothing; someone at `before` may have."""
        read = await history_of(worker).read(room)
        assert (read.top, [*read.messages]) == (top, [])
        assert await missed_since(worker, room, top) == []
        assert await missed_since(worker, room, before) is None
        retention, sent, following = Retention(size=2, ttl=60), list[bytes](), top
        for number in (1, 2):
            sent.append(b"%d" % number)
            following = await append(worker, room, sent[-1], retention=retention)
            assert (following.epoch, following.offset) == (top.epoch, top.offset + number)
            assert await missed_since(worker, room, top) == sent, "these follow it"
            assert await missed_since(worker, room, before) is None
            assert await missed_since(worker, room, top._replace(tag=before.tag)) is None
        heard = await heard_until(worker, room, following)
        assert heard[-2].previous == top.tag
        for _ in range(2):
            await append(worker, room, b"more than are kept", retention=retention)
        assert await missed_since(worker, room, top) is None
