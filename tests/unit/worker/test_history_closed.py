"""A manager that is closed while clients catch up in rooms that remember."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import Joined, OutboxPolicy, RoomManager, RoomsError
from fastapi_rooms.core.position import Position
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.worker.replay import Replay
from fastapi_rooms.worker.resume import Resume

ROOM = "chat-tea"


def manager() -> RoomManager:
    rooms = RoomManager(outbox=OutboxPolicy(2_000), drain_window=0.0)
    rooms.history("chat-*", size=50)
    return rooms


async def test_a_long_replay_ends_without_an_error_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rooms = manager()
    await rooms.start()
    since = await rooms.position(ROOM)
    for number in range(20):
        await rooms.to(ROOM).send_text(f"{number} {'x' * 500}")
    ann = Member(rooms)
    await ann.open()
    ann.stall()
    joining = asyncio.ensure_future(ann.socket.join(ROOM, since=since))
    await eventually(lambda: rooms._here.recovery.logs.position(ROOM) is not None)
    assert not joining.done()
    stopping = asyncio.ensure_future(rooms.stop())
    ann.resume()
    await stopping
    (result,) = await asyncio.gather(joining, return_exceptions=True)
    assert isinstance(result, Joined | RoomsError), result
    await ann.close()
    assert "Traceback" not in caplog.text


async def test_what_is_caught_up_with_after_the_end_is_lost_and_no_error() -> None:
    rooms = manager()
    async with rooms, Member(rooms, ROOM) as ann:
        await rooms.to(ROOM).send_text("hello")
        assert await ann.receive() == "hello"
        recovery = rooms._here.recovery
        logs = recovery.logs
        start = Position.parse(await rooms.position(ROOM))
        assert start is not None
        replay = Replay(recovery, ROOM, ann.socket._transport, Resume(since=str(start)), set())
        assert logs.since(ROOM, start) == []
        await recovery.stop(1)
        assert logs.since(ROOM, start) is None
        assert logs.recent(ROOM, 5) == []
        replay.catch_up()
        assert replay.recovered is False
        assert replay.cost == 0
