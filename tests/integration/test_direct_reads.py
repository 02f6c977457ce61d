"""What clients of uvicorn send, whichever way it reaches the endpoint."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms import RoomManager, Socket
from tests.integration.raw import RawClient, on_every_uvicorn, serving

pytestmark = on_every_uvicorn

PING, PONG = 9, 10


def frame(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
    return bytes([fin << 7 | opcode]) + length + bytes(4) + data


def test_messages_of_every_make_arrive_in_order(ws: str, loop: str) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        async for text in socket.iter_text():
            await socket.send_text(text)

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        client.send_all(frame(1, b"1"))
        assert client.read_frame().data == b"1"
        client.send_all(frame(1, b"2") + frame(1, b"3" * 300) + frame(1, b"4")[:3])
        assert [client.read_frame().data for _ in range(2)] == [b"2", b"3" * 300]
        client.send_all(frame(1, b"4")[3:] + frame(1, b"5"))
        assert [client.read_frame().data for _ in range(2)] == [b"4", b"5"]
        client.send_all(frame(1, b"6", fin=False) + frame(PING, b"?"))
        assert client.read_frame().data == b"?"
        client.send_all(frame(0, b"7"))
        assert client.read_frame().data == b"67"
        client.send_all(frame(1, b"8"))
        assert client.read_frame().data == b"8"


def test_the_sockets_ways_to_read_and_starlettes_own_take_turns(ws: str, loop: str) -> None:
    states: list[WebSocketState] = []

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        got: list[Any] = [await socket.receive_text(), await socket.websocket.receive_text()]
        async for text in socket.iter_text():
            got.append(text)
            break
        got.append(await socket.websocket.receive_text())
        got.append(await socket.receive_json())
        got.append(await socket.websocket.receive_bytes())
        await socket.send_json([*got[:-1], got[-1].decode()])
        with pytest.raises(WebSocketDisconnect) as gone:
            await socket.receive_text()
        assert gone.value.code == 4001
        states.append(socket.websocket.client_state)
        async for _ in socket.iter_text():
            raise AssertionError("there is nothing more")

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        client.send_all(b"".join(frame(1, n) for n in (b"1", b"2", b"3", b"4", b"5")))
        client.send_all(frame(2, b"6"))
        assert client.read_frame().data == b'["1","2","3","4",5,"6"]'
        client.send_all(frame(8, (4001).to_bytes(2)))
        client.read_to_close()
    assert states == [WebSocketState.DISCONNECTED]


def test_an_application_that_has_its_own_receive_sees_every_message(ws: str, loop: str) -> None:
    seen: list[str] = []

    def watch(app: Any) -> Any:
        async def watched(scope: Any, receive: Any, send: Any) -> None:
            async def watching() -> Any:
                event = await receive()
                seen.append(event["type"])
                return event

            await app(scope, watching if scope["type"] == "websocket" else receive, send)

        return watched

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        async for text in socket.iter_text():
            await socket.send_text(text)

    with serving(endpoint, wrap=watch, ws=ws, loop=loop) as port, RawClient(port) as client:
        client.send_all(frame(1, b"1"))
        assert client.read_frame().data == b"1"
    assert seen[:2] == ["websocket.connect", "websocket.receive"]


def test_a_task_that_began_to_read_before_goes_on_reading(ws: str, loop: str) -> None:
    rooms = RoomManager()

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        reading = asyncio.create_task(websocket.receive_text())
        await asyncio.sleep(0)  # it waits for a message now
        async with rooms.connect(websocket) as socket:
            await socket.send_text("welcome")
            await socket.send_text(await reading)

    def wrap(app: Any) -> Any:
        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await endpoint(WebSocket(scope, receive, send))
            else:
                await app(scope, receive, send)

        return wrapped

    async def none(rooms: RoomManager, socket: Socket) -> None: ...

    with serving(none, rooms, wrap=wrap, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert client.read_frame().data == b"welcome"
        client.send_all(frame(1, b"hello"))
        assert client.read_frame().data == b"hello"
