"""A manager that is closed while clients catch up in rooms that remember."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import Joined, OutboxPolicy, RoomManager, RoomsError
from fastapi_rooms.core.position import Position
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire.envelope import Broadcast
from fastapi_rooms.wire.kept import InPlace
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


async def test_what_comes_when_the_namespace_is_closed_is_dropped_and_no_error() -> None:
    rooms = manager()
    async with rooms, Member(rooms, ROOM) as ann:
        received: list[tuple[InPlace, Broadcast]] = []
        recovery = rooms._here.recovery
        take = recovery.received

        def keep(placed: InPlace, message: Broadcast) -> bool:
            received.append((placed, message))
            return take(placed, message)

        recovery.received = keep  # type: ignore[method-assign]  # to have one once more
        await rooms.to(ROOM).send_text("hello")
        assert await ann.receive() == "hello"
    assert take(*received[0]), "it is as good as delivered"
    assert recovery._logs is None, "nothing is left for a later run"
