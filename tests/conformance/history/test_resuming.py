"""Clients and listeners that go on in a room that remembers, where they were."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import UsageError
from fastapi_rooms.testing import Member
from tests.conformance.history.scene import ROOM, SIZE, Pair, heard_by


async def test_a_client_goes_on_at_another_worker_where_it_was(
    pair: Pair,
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann:
        await one.to(ROOM).send_text("seen")
        assert await ann.receive() == "seen"
        position = ann.socket.position(ROOM)
    assert position is not None
    for n in range(3):
        await one.to(ROOM).send_text(f"missed {n}")
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, since=position, recent=50)
        assert (joined.recovered, joined.replayed) == (True, 3)
        await two.to(ROOM).send_text("new")
        assert await heard_by(ann, 4) == ["missed 0", "missed 1", "missed 2", "new"]
        assert ann.socket.position(ROOM) == await two.position(ROOM)


async def test_who_missed_nothing_or_has_seen_nothing_yet_is_recovered(
    pair: Pair,
) -> None:
    one, two = pair
    async with Member(one) as ann:
        start = (await ann.socket.join(ROOM)).positions[ROOM]
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, since=start)
        assert (joined.recovered, joined.replayed) == (True, 0)
    await one.to(ROOM).send_text("first")
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, since=start)
        assert (joined.recovered, joined.replayed) == (True, 1)
        assert await ann.receive() == "first"


async def test_exactly_as_many_as_are_kept_are_recovered_and_of_one_more_nothing(
    pair: Pair,
) -> None:
    one, two = pair
    position = await one.position(ROOM)
    await one.to(ROOM).send_text("0")
    later = await one.position(ROOM)
    for n in range(1, SIZE + 1):
        await one.to(ROOM).send_text(f"{n}")
    for since, recovered, replayed in ((later, True, SIZE), (position, False, 0)):
        async with Member(two) as ann:
            joined = await ann.socket.join(ROOM, since=since)
            assert (joined.recovered, joined.replayed) == (recovered, replayed)


@pytest.mark.parametrize("position", ["", "nonsense", "0" * 16 + ".1." + "f" * 16])
async def test_a_position_that_cannot_be_is_one_that_is_gone_and_recent_takes_its_place(
    pair: Pair, position: str
) -> None:
    one, two = pair
    await one.to(ROOM).send_text("said before")
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, since=position, recent=5)
        assert (joined.recovered, joined.replayed) == (False, 1)
        assert await ann.receive() == "said before"


async def test_what_is_sent_while_somebody_resumes_comes_once_and_behind_it(
    pair: Pair,
) -> None:
    one, two = pair
    position, sent, members = await one.position(ROOM), 0, list[Member]()
    for _ in range(SIZE // 5):
        member = Member(two)
        await member.open()
        numbers = range(sent, sent + 5)
        talking = [asyncio.create_task(one.to(ROOM).send_text(f"{n}")) for n in numbers]
        joined = await member.socket.join(ROOM, since=position)
        assert joined.recovered
        sent += 5
        await asyncio.gather(*talking)
        members.append(member)
    for member in members:
        heard = [int(text) for text in await heard_by(member, sent)]
        assert heard == list(range(sent)), "from the beginning, as nobody had more to resume from"
        await member.close()
    assert sent == SIZE


async def test_a_listener_resumes_by_the_position_of_a_message(
    pair: Pair,
) -> None:
    one, two = pair
    async with one.listen(ROOM) as messages:
        await two.to(ROOM).send_text("heard")
        first = await anext(messages)
        assert first.text == "heard"
        assert first.position is not None
        assert messages.recovered is None
    await one.to(ROOM).send_text("missed")
    async with two.listen(ROOM, since=first.position) as messages:
        assert messages.recovered is True
        await one.to(ROOM).send_text("new")
        heard = [await anext(messages) for _ in range(2)]
        assert [message.text for message in heard] == ["missed", "new"]
        assert heard[1].position == await one.position(ROOM)


async def test_resuming_in_a_room_one_is_in_is_refused(
    pair: Pair,
) -> None:
    one, _ = pair
    async with Member(one, ROOM) as ann:
        with pytest.raises(UsageError, match="already"):
            await ann.socket.join(ROOM, recent=5)
        assert (await ann.socket.join(ROOM)).positions == {ROOM: ann.socket.position(ROOM)}
