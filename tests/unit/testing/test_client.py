"""The client without a network, against applications that do everything an application can."""

from __future__ import annotations

import asyncio
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import Rejected, WebSocketClient

app = FastAPI()


@app.websocket("/echo/{name}")
async def echo(websocket: WebSocket, name: str, greeting: str = "hello") -> None:
    await websocket.accept()
    await websocket.send_text(f"{greeting} {name}")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.websocket("/handshake")
async def handshake(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol=websocket.scope["subprotocols"][1], headers=[(b"x", b"y")])
    await websocket.send_json([websocket.headers["cookie"], websocket.state.secret])
    await websocket.send_bytes(await websocket.receive_bytes())
    await websocket.close(4001, "enough")


@app.websocket("/refused")
async def refused(websocket: WebSocket, how: str) -> None:
    if how == "closed":
        raise WebSocketException(1008)
    if how == "denied":
        raise HTTPException(401, "who are you?")
    raise ZeroDivisionError


@app.websocket("/broken")
async def broken(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    raise ZeroDivisionError


@app.websocket("/brief")
async def brief(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("bye")


@app.websocket("/stubborn")
async def stubborn(websocket: WebSocket) -> None:
    await websocket.accept()
    await asyncio.Event().wait()


rooms = RoomManager()


@app.websocket("/chat/{room}")
async def chat(
    websocket: WebSocket, room: str, rooms: Annotated[RoomManager, Depends(rooms)]
) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.join(room)
        await socket.send_text("you are in")
        async for text in socket.iter_text():
            await socket.to(room).send_text(text)


sends: list[str] = []


@app.websocket("/sender")
async def sender(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    for word in ("one", "two", "three"):
        try:
            await websocket.send_text(word)
        except WebSocketDisconnect as gone:
            sends.append(f"{word}: {gone.code}")
            raise
        sends.append(word)


@pytest.fixture(autouse=True)
def no_sends() -> None:
    sends.clear()


async def test_a_client_talks_with_an_endpoint() -> None:
    async with WebSocketClient(app, "/echo/ann?greeting=good+day") as client:
        assert await client.receive_text() == "good day ann"
        await client.send_text("one")
        await client.send_json({"two": 2})
        assert await client.receive_text() == "one"
        assert await client.receive_json() == {"two": 2}
    assert client.close_code == 1000


async def test_handshake_state_and_close_code_are_passed_on() -> None:
    client = WebSocketClient(
        app,
        "/handshake",
        headers={"Cookie": "a=b"},
        subprotocols=["v1", "v2"],
        state={"secret": 7},
    )
    async with client:
        assert client.subprotocol == "v2"
        assert (b"x", b"y") in client.headers
        assert await client.receive_json() == ["a=b", 7]
        await client.send_bytes(b"\x00\xff")
        assert await client.receive_bytes() == b"\x00\xff"
        assert await client.wait_closed() == 4001
        assert client.close_reason == "enough"
        with pytest.raises(WebSocketDisconnect) as closed:
            await client.receive()
        assert (closed.value.code, closed.value.reason) == (4001, "enough")


@pytest.mark.parametrize(("how", "status"), [("closed", 403), ("denied", 401)])
async def test_a_refusal_is_told(how: str, status: int) -> None:
    with pytest.raises(Rejected) as refusal:
        async with WebSocketClient(app, f"/refused?how={how}"):
            pytest.fail("it was let in")
    assert refusal.value.status == status
    assert (b"who are you?" in refusal.value.body) is (how == "denied")


async def test_an_endpoint_that_raises_before_it_accepts_raises_to_the_test() -> None:
    with pytest.raises(ZeroDivisionError):
        await WebSocketClient(app, "/refused?how=raising").open()


async def test_an_endpoint_that_raises_raises_to_whoever_waits_for_a_message() -> None:
    async with WebSocketClient(app, "/broken") as client:
        await client.send_text("go")
        with pytest.raises(ZeroDivisionError):
            await client.receive()


async def test_an_endpoint_that_raises_raises_at_the_end_to_one_who_did_not_wait() -> None:
    client = WebSocketClient(app, "/broken")
    await client.open()
    await client.send_text("go")
    with pytest.raises(ZeroDivisionError):
        await client.close()
    await client.close()  # once is enough


async def test_what_an_endpoint_sent_before_it_ended_can_be_read() -> None:
    async with WebSocketClient(app, "/brief") as client:
        await client.wait_ended()
        assert client.unread == ["bye"]
        assert await client.receive() == "bye"
        with pytest.raises(WebSocketDisconnect):
            await client.receive()


async def test_waiting_has_a_limit() -> None:
    async with WebSocketClient(app, "/echo/ann") as client:
        await client.receive()
        with pytest.raises(TimeoutError, match=r"waited 0\.01 s for a message"):
            await client.receive(timeout=0.01)
        with pytest.raises(TimeoutError, match="has not returned"):
            await client.wait_ended(timeout=0.01)


async def test_an_endpoint_that_ignores_its_client_s_going_is_found_out() -> None:
    client = WebSocketClient(app, "/stubborn")
    await client.open()
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError, match="after its client had gone"):
        await client.close(timeout=0.01)
    assert len(asyncio.all_tasks()) == len(before) - 1


async def test_a_stalled_client_holds_up_sends_until_it_reads_on() -> None:
    async with WebSocketClient(app, "/sender") as client:
        client.stall()
        await client.send_text("go")
        with pytest.raises(TimeoutError):
            await client.receive(timeout=0.01)
        assert sends == []
        client.resume()
        assert [await client.receive() for _ in range(3)] == ["one", "two", "three"]
        assert sends == ["one", "two", "three"]


async def test_a_send_to_a_client_that_has_gone_fails_as_on_a_server() -> None:
    client = WebSocketClient(app, "/sender")
    await client.open()
    client.stall()
    await client.send_text("go")
    with pytest.raises(TimeoutError):
        await client.receive(timeout=0.01)
    with pytest.raises(WebSocketDisconnect):
        await client.close(1006)
    assert sends == ["one: 1006"]


async def test_reading_up_to_a_last_message_gives_what_came_before() -> None:
    async with WebSocketClient(app, "/echo/ann") as client:
        for text in ("a", "b", "last", "after"):
            await client.send_text(text)
        assert await client.receive_until("last") == ["hello ann", "a", "b"]
        assert await client.receive() == "after"


async def test_a_chat_of_several_is_tested_in_one_event_loop() -> None:
    async with (
        rooms,
        WebSocketClient(app, "/chat/lobby") as ann,
        WebSocketClient(app, "/chat/lobby") as bob,
    ):
        assert await ann.receive() == await bob.receive() == "you are in"
        await ann.send_text("hello")
        assert await bob.receive() == "hello"
        assert ann.unread == []
    assert not rooms.rooms
