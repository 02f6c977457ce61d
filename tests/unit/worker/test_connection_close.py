"""What a client is told when its `rooms.connect` block ends."""

from __future__ import annotations

import asyncio
import logging

import pytest
from starlette.websockets import WebSocket, WebSocketState

from fastapi_rooms import AdapterUnavailable, ClientError, RoomManager
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker import connection as connection_module
from tests.unit.support import FakeAdapter, all_is_over, app_of
from tests.unit.worker.support import nothing_is_left, until_gone


@pytest.mark.parametrize(
    ("read", "message", "code"),
    [
        ("receive_text", b"bytes", 1003),
        ("receive_bytes", "text", 1003),
        ("receive_json", "{", 1007),
        ("receive_json", b"\xff", 1007),
    ],
)
async def test_a_client_that_sends_what_cannot_be_read_is_closed_with_the_reason(
    rooms: RoomManager,
    adapter: FakeAdapter,
    caplog: pytest.LogCaptureFixture,
    read: str,
    message: str | bytes,
    code: int,
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await getattr(socket, read)()

    async with WebSocketClient(app_of(endpoint)) as client:
        if isinstance(message, bytes):
            await client.send_bytes(message)
        else:
            await client.send_text(message)
        assert await client.wait_closed() == code
        assert client.close_reason.startswith("Expected")
        await client.wait_ended()
    assert not caplog.records, "a client must not be able to fill the log"
    await nothing_is_left(rooms, adapter)


async def test_a_reason_is_cut_to_what_a_close_frame_can_carry(rooms: RoomManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket):
            raise ClientError("é" * 100, code=4000)

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4000
        assert client.close_reason == "é" * 61


async def test_an_adapter_that_fails_in_the_block_closes_with_try_again_later(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            adapter.publish_error = AdapterUnavailable("Redis is away")
            await socket.to("lobby").send_text("hello?")

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 1013
        await client.wait_ended()
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert "Redis is away" in record.getMessage()
    assert record.exc_info is None
    await nothing_is_left(rooms, adapter)


async def test_an_error_after_the_connection_was_closed_is_not_closed_again(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await websocket.close(4000)
            assert websocket.application_state is WebSocketState.DISCONNECTED
            adapter.publish_error = AdapterUnavailable("after the close")
            await rooms.send_text("x")
        await until_gone(socket)

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4000
        await client.wait_ended()
    await nothing_is_left(rooms, adapter)


async def test_what_was_sent_before_the_end_of_the_block_still_arrives(rooms: RoomManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            for number in range(50):
                await rooms.to("lobby").send_text(str(number))

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 1000
        assert client.unread == [str(number) for number in range(50)]


async def test_a_block_that_ends_closes_what_it_accepted_and_nothing_else(
    rooms: RoomManager,
) -> None:
    async def accepted_by_the_block(websocket: WebSocket) -> None:
        async with rooms.connect(websocket):
            pass
        assert websocket.application_state is WebSocketState.DISCONNECTED

    async def accepted_before(websocket: WebSocket) -> None:
        await websocket.accept()
        async with rooms.connect(websocket):
            pass
        await websocket.send_text("still open")
        await websocket.close(4000)

    async def closed_by_the_endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket):
            await websocket.close(4001)

    async def left_by_the_client(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await until_gone(socket)
        assert websocket.application_state is WebSocketState.CONNECTED, "there is nobody to tell"

    for endpoint, code in (
        (accepted_by_the_block, 1000),
        (accepted_before, 4000),
        (closed_by_the_endpoint, 4001),
    ):
        async with WebSocketClient(app_of(endpoint)) as client:
            assert await client.wait_closed() == code
            await client.wait_ended()
    async with WebSocketClient(app_of(left_by_the_client)) as client:
        client.leave(1001)
        await client.wait_ended()


async def test_a_client_that_does_not_read_does_not_keep_an_endpoint_that_is_over(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)
    entered = asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            entered.set()
            await socket.receive_text()

    async with WebSocketClient(app_of(endpoint)) as client:
        await entered.wait()
        client.stall()
        await client.send_text("that is all")
        await client.wait_ended()
        await all_is_over(rooms)


async def test_a_client_with_unread_messages_does_not_keep_an_endpoint_that_is_over(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.receive_text()

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: rooms.sids)
        client.stall()
        for text in ("on its way", "waits"):
            await rooms.send_text(text)
        await client.send_text("that is all")
        await client.wait_ended()
        assert client.close_code is None
        assert client.unread == []
        await all_is_over(rooms)
