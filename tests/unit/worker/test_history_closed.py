"""A manager that is closed while clients catch up in rooms that remember."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import Joined, OutboxPolicy, RoomManager, RoomsError, Socket, UsageError
from fastapi_rooms.core.position import Position
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from fastapi_rooms.wire.envelope import Broadcast
from fastapi_rooms.wire.kept import InPlace
from fastapi_rooms.worker.replay import Replay
from fastapi_rooms.worker.resume import Resume
from tests.unit.support import app_of

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


@asynccontextmanager
async def catching_up(rooms: RoomManager) -> AsyncIterator[tuple[WebSocketClient, list[Socket]]]:
    """A client that does not read, whose endpoint joins a room of which it has missed much."""
    since, go = await rooms.position(ROOM), asyncio.Event()
    for number in range(20):
        await rooms.to(ROOM).send_text(f"{number} {'x' * 500}")
    sockets: list[Socket] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sockets.append(socket)
            await go.wait()
            joined = await socket.join(ROOM, since=since)
            await socket.send_text(f"{joined.replayed} {ROOM in socket.rooms}")

    async with WebSocketClient(app_of(endpoint)) as client:
        client.stall()
        go.set()
        await eventually(lambda: rooms._here.recovery.logs.position(ROOM) is not None)
        yield client, sockets


async def test_a_client_that_goes_while_it_catches_up_joins_nothing_and_nothing_is_raised() -> None:
    rooms = manager()
    async with rooms:
        async with catching_up(rooms) as (client, _):
            client.leave(1006)
            await client.wait_ended()
        assert rooms.rooms == {}


async def test_a_room_that_is_left_while_it_is_caught_up_with_is_not_joined() -> None:
    rooms = manager()
    async with rooms, catching_up(rooms) as (client, (socket,)):
        await socket.leave(ROOM)
        client.resume()
        assert len(await client.receive_until("20 False")) == 20
        assert ROOM not in rooms.rooms


@pytest.mark.parametrize("number", [-1, 1.5, "all", True])
async def test_a_number_of_messages_that_is_none_is_an_error_that_says_so(number: Any) -> None:
    rooms = manager()
    async with rooms, Member(rooms) as ann:
        with pytest.raises(UsageError, match="number of messages"):
            await ann.socket.join(ROOM, recent=number)
        with pytest.raises(UsageError, match="number of messages"):
            await rooms.recent(ROOM, limit=number)
