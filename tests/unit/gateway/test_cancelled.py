"""What an endpoint is cancelled in, or gives up on: it costs no more than at a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import AdapterUnavailable, MemoryAdapter, RoomManager, Socket
from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.servers.gateway.posting import post
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.types import Channel
from fastapi_rooms.wire.gateway import Frame
from fastapi_rooms.worker.frames import Frames
from tests.unit.gateway.support import Site

TURNS = pytest.mark.parametrize("turns", [1, 2, 3, 5, 8])


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published goes out in the next turn, unless it is taken back: as at a carrier."""
    publish = Frames.publish

    def publish_soon(self: Frames, to: str | None, frame: Frame) -> Awaitable[Any]:
        loop = asyncio.get_running_loop()
        accepted = loop.create_future()

        def write() -> None:
            if not accepted.cancelled():
                post(publish(self, to, frame))
                accepted.set_result(1)

        loop.call_soon(write)
        return accepted

    monkeypatch.setattr(Frames, "publish", publish_soon)


async def cancel(doing: Awaitable[object], turns: int = 1) -> None:
    """Begin something, and cancel it some turns of the event loop later."""
    task = asyncio.ensure_future(doing)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("text", ["said", "x" * 300_000], ids=["short", "in parts"])
async def test_a_send_that_is_cancelled_is_sent_whole_or_not_and_the_endpoint_goes_on(
    site: Site, text: str
) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await cancel(socket.send_text(text))
            await socket.send_text(f"{await socket.receive_text()}, attempt {socket.attempt}")
            await socket.wait_closed()

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        await client.send_text("heard")
        heard = [await client.receive()]
        if heard == [text]:
            heard.append(await client.receive())
        assert heard[-1] == "heard, attempt 0"


@TURNS
async def test_an_accept_that_is_cancelled_is_not_done_again(site: Site, turns: int) -> None:
    begun: list[WebSocket] = []

    async def endpoint(_: RoomManager, websocket: WebSocket) -> None:
        begun.append(websocket)
        await cancel(websocket.accept(), turns)
        await websocket.send_text(f"{len(begun)}")
        await websocket.receive()
        await websocket.receive()

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "1"
    assert len(begun) == 1


@TURNS
async def test_a_close_that_is_cancelled_is_done_once(site: Site, turns: int) -> None:
    begun: list[WebSocket] = []

    async def endpoint(_: RoomManager, websocket: WebSocket) -> None:
        begun.append(websocket)
        await websocket.accept()
        await cancel(websocket.close(4000, "enough"), turns)

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.wait_closed() == 4000
    assert len(begun) == 1


def joining(join: Callable[[Socket], Awaitable[object]]) -> Any:
    """An endpoint that joins as it is told, and says so."""

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await join(socket)
            is_in = "tea" in socket.rooms
            await socket.join("sugar")  # the edge has done by then what it was told before
            await socket.send_text(f"attempt {socket.attempt}, {is_in}")
            await socket.wait_closed()

    return endpoint


@TURNS
async def test_a_join_that_is_cancelled_leaves_nobody_in_the_room(site: Site, turns: int) -> None:
    edge = await site.edge()
    await site.backend(joining(lambda socket: cancel(socket.join("tea"), turns)))
    async with WebSocketClient(edge, "/") as client:
        said = await client.receive()
        is_in = said == "attempt 0, True"  # if it was too late to cancel it
        assert is_in or said == "attempt 0, False"
        assert ("tea" in edge.manager.rooms) is is_in


@TURNS
async def test_a_join_that_is_cancelled_takes_another_of_the_room_out_of_nothing(
    site: Site, turns: int
) -> None:
    async def join(socket: Socket) -> None:
        other = asyncio.ensure_future(socket.join("tea"))
        await cancel(socket.join("tea"), turns)
        await other

    edge = await site.edge()
    await site.backend(joining(join))
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "attempt 0, True"
        assert len(edge.manager.rooms["tea"]) == 1


@pytest.mark.parametrize("end", ["cancel", "leave"])
async def test_a_join_that_waits_for_another_and_is_given_up_leaves_nobody_in_the_room(
    site: Site, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    may_read = asyncio.Event()
    read = MemoryAdapter.read

    async def late(self: MemoryAdapter, room: RoomKey) -> Any:
        await may_read.wait()
        return await read(self, room)

    async def join(socket: Socket) -> None:
        first = asyncio.ensure_future(socket.join("chat-first", recent=1))
        tea = asyncio.ensure_future(socket.join("chat-tea", recent=1))
        for _ in range(50):  # the edge has heard of both
            await asyncio.sleep(0)
        assert {first.done(), tea.done()} == {False}
        if end == "cancel":
            await cancel(tea)
        else:
            await socket.leave("chat-tea")
        await socket.join("sugar")
        may_read.set()
        await first
        await socket.join("chat-last", recent=1)  # behind the other, had that gone on
        if end == "leave":
            await tea
        assert "chat-tea" not in socket.rooms

    edge = await site.edge()
    await site.backend(joining(join))
    monkeypatch.setattr(MemoryAdapter, "read", late)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "attempt 0, False"
        assert "chat-first" in edge.manager.rooms
        assert "chat-tea" not in edge.manager.rooms


async def test_a_join_that_is_not_answered_in_time_leaves_nobody_in_the_room(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_failed = asyncio.Event()
    subscribe = MemoryAdapter.subscribe

    async def late(self: MemoryAdapter, channels: Iterable[Channel]) -> None:
        await has_failed.wait()
        await subscribe(self, channels)

    async def join(socket: Socket) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(MemoryAdapter, "subscribe", late)
            with pytest.raises(AdapterUnavailable):
                await socket.join("tea")
        has_failed.set()

    edge = await site.edge()
    await site.backend(joining(join), site.manager(join_timeout=0.01))
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "attempt 0, False"
        assert "tea" not in edge.manager.rooms


@TURNS
async def test_a_connect_that_is_cancelled_leaves_no_socket(site: Site, turns: int) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async def enter() -> None:
            async with rooms.connect(websocket):
                raise AssertionError("it was not cancelled")

        await websocket.accept()
        await cancel(enter(), turns)
        await websocket.send_text("cancelled")
        await websocket.receive()
        await websocket.receive()

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "cancelled"
        await eventually(lambda: not edge.manager.sids)
