"""What is replayed to framed clients: to slow ones, to many, and when it is cut short."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from fastapi_rooms import OutboxPolicy, RoomManager, SocketClosed
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire import client_framing
from fastapi_rooms.worker import replay
from tests.conformance.framing.members import ROOM, SIZE, Make, Pair, at, heard, until_end
from tests.framed_client import FramedMember


@pytest.mark.parametrize("overflow", ["close", "drop_oldest", "drop_newest"])
@pytest.mark.parametrize("kind", [FramedMember, Member])
async def test_a_slow_client_is_closed_with_1013_whatever_its_policy(
    make: Make, overflow: Any, kind: type[FramedMember | Member]
) -> None:
    policy = OutboxPolicy(3_000, overflow, close_code=4000)
    async with make(outbox=policy) as one, make() as two, kind(one, ROOM) as ann:
        ann.stall()
        for n in range(SIZE):
            await two.to(ROOM).send_text(f"{n} {'x' * 300}")
        await eventually(lambda: ROOM not in one.rooms)
        ann.resume()
        assert await ann.wait_closed() == 1013


@pytest.mark.parametrize("overflow", ["close", "drop_oldest", "drop_newest"])
async def test_a_slow_client_is_closed_and_resumes_without_a_hole(
    make: Make, overflow: Any
) -> None:
    texts = [f"{n} {'x' * 300}" for n in range(SIZE)]
    policy = OutboxPolicy(6_000, overflow)
    async with make(outbox=policy) as one, make(outbox=policy) as two:
        async with FramedMember(one, ROOM) as ann:
            await at(ann, ROOM, await one.position(ROOM))
            framing, heard = ann.framing, list[str | bytes]()
            ann.stall()
            for text in texts:
                await two.to(ROOM).send_text(text)
            await eventually(lambda: ROOM not in one.rooms)
            ann.resume()
            await ann.wait_closed()
            heard += ann.take_in()
        assert len(heard) < SIZE
        async with FramedMember(two, ROOM, framing=framing) as ann:
            assert framing.joins[-1:] != [(ROOM, False)]
            while len(heard) < SIZE:
                heard.append(await ann.receive())
        assert heard == texts


async def test_a_long_replay_waits_for_its_reader_and_not_in_its_outbox(make: Make) -> None:
    """It is longer than what the outbox would take."""
    text = "x" * 500
    async with make(outbox=OutboxPolicy(SIZE * 400)) as one, make() as two:
        async with FramedMember(two, ROOM) as ann:
            await at(ann, ROOM, await two.position(ROOM))
        for n in range(SIZE - 5):
            await two.to(ROOM).send_text(f"{n} {text}")
        async with FramedMember(one, framing=ann.framing) as ann:
            await ann.socket.send_text("in")
            assert await ann.receive() == "in"
            ann.stall()
            joining = asyncio.create_task(ann.socket.join(ROOM))
            await eventually(lambda: ROOM in one._here.recovery.logs._entries)
            for n in range(SIZE - 5, SIZE):
                await two.to(ROOM).send_text(f"{n} {text}")
            await eventually(lambda: _is_at_top(one, two))
            assert ROOM not in ann.socket.rooms
            assert not joining.done()
            ann.resume()
            joined = await joining
            assert (joined.recovered, joined.replayed) == (True, SIZE)
            await two.to(ROOM).send_text("end")
            heard = [m async for m in until_end(ann)]
            assert heard == [f"{n} {text}" for n in range(SIZE)]


async def test_a_replay_that_is_outrun_is_told_and_the_client_is_in_all_the_same(
    make: Make,
) -> None:
    text = "x" * 500
    async with make(outbox=OutboxPolicy(SIZE * 400)) as one, make() as two:
        async with FramedMember(two, ROOM) as ann:
            await at(ann, ROOM, await two.position(ROOM))
        for n in range(SIZE):
            await two.to(ROOM).send_text(f"{n} {text}")
        async with FramedMember(one, framing=ann.framing) as ann:
            ann.stall()
            joining = asyncio.create_task(ann.socket.join(ROOM))
            await eventually(lambda: ROOM in one._here.recovery.logs._entries)
            await eventually(lambda: ann.socket.pending > 0)
            for n in range(2 * SIZE):
                await two.to(ROOM).send_text(f"later {n}")
            await eventually(lambda: _is_at_top(one, two))
            ann.resume()
            joined = await joining
            assert joined.recovered is False
            await two.to(ROOM).send_text("end")
            heard = [m async for m in until_end(ann)]
            assert heard == [f"{n} {text}" for n in range(SIZE)]
            assert ann.framing.joins[-2:] == [(ROOM, True), (ROOM, False)]


async def _is_at_top(one: RoomManager, two: RoomManager) -> bool:
    return str(one._here.recovery.logs.position(ROOM)) == await two.position(ROOM)


async def test_what_is_too_long_to_replay_is_refused_whole_without_closing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_REPLAY_BYTES", 5_000)
    one, two = pair
    async with FramedMember(two, ROOM) as ann:
        await at(ann, ROOM, await two.position(ROOM))
    for _ in range(SIZE):
        await two.to(ROOM).send_text("x" * 500)
    async with FramedMember(one, ROOM, framing=ann.framing) as ann:
        assert ann.joined is not None
        assert (ann.joined.recovered, ann.joined.replayed) == (False, 0)
        await two.to(ROOM).send_text("end")
        assert await ann.receive() == "end"


async def test_a_join_that_is_cancelled_in_its_replay_is_none(make: Make) -> None:
    text = "x" * 500
    async with make(outbox=OutboxPolicy(SIZE * 400)) as one, make() as two:
        async with FramedMember(two, ROOM) as ann:
            await at(ann, ROOM, await two.position(ROOM))
        for _ in range(SIZE):
            await two.to(ROOM).send_text(text)
        async with FramedMember(one, framing=ann.framing) as ann:
            ann.stall()
            joining = asyncio.create_task(ann.socket.join(ROOM))
            await eventually(lambda: ann.socket.pending > 0)
            joining.cancel()
            await asyncio.wait((joining,))
            ann.resume()
            await ann.socket.send_text("end")
            async for _ in until_end(ann):
                pass
            assert ROOM not in ann.socket.rooms
            assert ann.framing.positions == {}, "it was told that it has left"


async def test_who_joins_again_is_told_so_behind_what_waited(pair: Pair) -> None:
    """A crowd is written to in the next turn, and everything else waits in line behind it."""
    one, _ = pair
    async with AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(Member(one, "crowd"))
        ann = await stack.enter_async_context(FramedMember(one, ROOM))
        await stack.enter_async_context(Member(one, ROOM))
        await one.to(ROOM).send_text("before")
        assert await ann.receive() == "before"
        waiting = asyncio.create_task(one.local.to("crowd").send_text("hello"))
        await asyncio.sleep(0)  # so that it waits for the next turn
        await ann.socket.leave(ROOM)
        await ann.socket.join(ROOM)
        await waiting
        await ann.socket.send_text("end")
        assert await ann.receive() == "end"
        assert ann.framing.positions == {ROOM: await one.position(ROOM)}


async def test_a_message_is_framed_once_for_all_who_hear_it_and_who_resume(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    start = await one.position(ROOM)
    made: list[str] = []
    make_frame = client_framing.in_place

    def in_place(room: str, position: str, message: Payload) -> Payload:
        made.append(message.text)
        return make_frame(room, position, message)

    monkeypatch.setattr(client_framing, "in_place", in_place)
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(Member(one, ROOM))
        await two.to(ROOM).send_text("none is framed yet")
        assert await plain.receive() == "none is framed yet"
        members = [await stack.enter_async_context(FramedMember(one, ROOM)) for _ in range(20)]
        assert made == []
        await two.to(ROOM).send_text("to all")
        for _ in range(3):
            member = FramedMember(one)
            member.framing.positions = {ROOM: start}
            await stack.enter_async_context(member)
            await member.socket.join(ROOM)
            assert await heard(member, 2) == ["none is framed yet", "to all"]
        for member in members:
            assert await member.receive() == "to all"
    assert sorted(made) == ["none is framed yet", "to all"]


async def test_joins_of_one_room_at_once_replay_it_once(make: Make) -> None:
    text = "x" * 500
    async with make(outbox=OutboxPolicy(SIZE * 400)) as one, make() as two:
        async with FramedMember(two, ROOM) as ann:
            await at(ann, ROOM, await two.position(ROOM))
        for n in range(SIZE):
            await two.to(ROOM).send_text(f"{n} {text}")
        async with FramedMember(one, framing=ann.framing) as ann:
            ann.stall()
            joins = [asyncio.create_task(ann.socket.join(ROOM)) for _ in range(2)]
            await eventually(lambda: ann.socket.pending > 0)
            await two.to(ann.socket.sid).sockets_join(ROOM)
            ann.resume()
            first, second = await asyncio.gather(*joins)
            assert (first.recovered, second.recovered) == (True, None)
            await two.to(ROOM).send_text("end")
            assert [m async for m in until_end(ann)] == [f"{n} {text}" for n in range(SIZE)]
            assert ann.framing.joins == [(ROOM, None), (ROOM, True)]


async def test_who_is_disconnected_in_a_replay_gets_no_more_of_it(make: Make) -> None:
    async with make(outbox=OutboxPolicy(SIZE * 400)) as one, make() as two:
        async with FramedMember(two, ROOM) as ann:
            await at(ann, ROOM, await two.position(ROOM))
        for n in range(SIZE):
            await two.to(ROOM).send_text(f"{n} {'x' * 500}")
        async with FramedMember(one, framing=ann.framing) as ann:
            ann.stall()
            joining = asyncio.create_task(ann.socket.join(ROOM))
            await eventually(lambda: ann.socket.pending > 0)
            await ann.socket.disconnect(4000)
            ann.resume()
            with pytest.raises(SocketClosed):
                await joining
            assert await ann.wait_closed() == 4000
            assert len(ann.take_in()) < SIZE
