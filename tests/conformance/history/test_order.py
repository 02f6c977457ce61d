"""Rooms that remember: one order for everyone, and the last messages for newcomers and readers."""

from __future__ import annotations

import asyncio

from fastapi_rooms.testing import Member
from tests.conformance.history.scene import ROOM, SIZE, Pair, heard_by


async def test_everyone_hears_one_order_whoever_sends(
    pair: Pair,
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann, Member(two, ROOM) as bob, Member(two, ROOM) as cem:
        sending = [rooms.to(ROOM).send_text(f"{n}") for n in range(50) for rooms in pair]
        await asyncio.gather(*sending)
        heard = [await heard_by(member, 100) for member in (ann, bob, cem)]
        assert heard[0] == heard[1] == heard[2]
        for sender in (0, 1):
            assert len(heard[0][sender::2]) == 50


async def test_the_sender_is_left_out_as_elsewhere(pair: Pair) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann, Member(two, ROOM) as bob:
        await ann.socket.to(ROOM).send_text("from ann")
        await bob.socket.to(ROOM).send_text("from bob")
        await one.to(ROOM).send_text("to both")
        assert await heard_by(ann, 2) == ["from bob", "to both"]
        assert await heard_by(bob, 2) == ["from ann", "to both"]


async def test_a_newcomer_gets_the_last_messages_and_then_what_follows(
    pair: Pair,
) -> None:
    one, two = pair
    for n in range(10):
        await one.to(ROOM).send_text(f"{n}")
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, recent=3)
        assert (joined.recovered, joined.replayed) == (None, 3)
        assert joined.positions == {ROOM: await one.position(ROOM)}
        await one.to(ROOM).send_text("next")
        assert await heard_by(ann, 4) == ["7", "8", "9", "next"]


async def test_recent_messages_are_read_without_joining(
    pair: Pair,
) -> None:
    one, two = pair
    assert await one.recent(ROOM) == []
    for n in range(SIZE + 5):
        await one.to(ROOM).send_json({"n": n})
    recent = await two.recent(ROOM, limit=3)
    assert [message.json()["n"] for message in recent] == [SIZE + 2, SIZE + 3, SIZE + 4]
    assert recent[-1].position == await two.position(ROOM)
    assert [message.room for message in recent] == [ROOM] * 3


async def test_who_was_left_out_is_left_out_of_the_replay(
    pair: Pair,
) -> None:
    one, two = pair
    await one.to(ROOM).except_("quiet").send_text("not for the quiet")
    await one.to(ROOM).send_text("for all")
    async with Member(two, "quiet") as ann:
        joined = await ann.socket.join(ROOM, recent=10)
        assert joined.replayed == 1
        assert await ann.receive() == "for all"


async def test_local_and_volatile_messages_pass_without_a_place(
    pair: Pair,
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann, Member(two, ROOM) as bob:
        await one.to(ROOM).send_text("kept")
        assert await ann.receive() == await bob.receive() == "kept"
        await one.local.to(ROOM).send_text("local")
        await one.to(ROOM).volatile.send_text("volatile")
        assert await heard_by(ann, 2) == ["local", "volatile"]
        assert await bob.receive() == "volatile"
        assert [message.text for message in await two.recent(ROOM)] == ["kept"]


async def test_sockets_join_brings_into_such_rooms_as_well(
    pair: Pair,
) -> None:
    one, two = pair
    async with Member(one) as ann:
        await two.to(ann.socket.sid).sockets_join(ROOM)
        await two.to(ROOM).send_text("hello")
        assert await ann.receive() == "hello"
