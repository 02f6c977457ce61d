"""How a connection begins with a client that asks for the framing, whatever it says then."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import RoomManager, Socket
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.wire.client_framing import MAX_RESUME_BYTES
from fastapi_rooms.worker import hello
from tests.unit.support import app_of

ASKING = "/?fastapi_rooms=1"
RESUME = '\0r{"positions":{"chat-tea":"x"}}'


class Endpoint:
    """Says back what it hears, and keeps what happened to it."""

    def __init__(self, rooms: RoomManager) -> None:
        self._rooms = rooms
        self.ended = 0
        self.sockets: list[Socket] = []

    async def run(self, websocket: WebSocket) -> None:
        async with self._rooms.connect(websocket) as socket:
            self.sockets.append(socket)
            async for text in socket.iter_text():
                await socket.send_text(f"{text}!")
        self.ended += 1


@pytest.fixture
def rooms() -> RoomManager:
    rooms = RoomManager()
    rooms.history("chat-*")
    return rooms


@pytest.fixture
def endpoint(rooms: RoomManager) -> Endpoint:
    return Endpoint(rooms)


def _positions(endpoint: Endpoint) -> dict[str, str]:
    (socket,) = endpoint.sockets
    positions: dict[str, str] = socket._transport.positions  # type: ignore[attr-defined]
    return positions


async def test_hello_comes_first_and_the_endpoint_begins_when_it_is_answered(
    rooms: RoomManager, endpoint: Endpoint
) -> None:
    async with rooms, WebSocketClient(app_of(endpoint.run), ASKING) as ann:
        first = await ann.receive_text()
        assert first.startswith("\0h")
        said = json.loads(first[2:])
        assert len(said.pop("token")) == 32
        assert said == {"version": 1, "heartbeat": 25, "answers": False, "window": 5.0}
        assert endpoint.sockets == []
        await ann.send_text(RESUME)
        await ann.send_text("hi")
        assert await ann.receive_text() == "hi!"
        assert _positions(endpoint) == {"chat-tea": "x"}
        assert endpoint.sockets[0].transport == "asgi"


async def test_a_client_that_does_not_ask_gets_none(rooms: RoomManager, endpoint: Endpoint) -> None:
    for path in ("/", "/?fastapi_rooms=0", "/?since=1"):
        async with rooms, WebSocketClient(app_of(endpoint.run), path) as ann:
            await ann.send_text(RESUME)
            assert await ann.receive_text() == f"{RESUME}!"


async def test_there_is_none_where_the_application_has_accepted(rooms: RoomManager) -> None:
    endpoint = Endpoint(rooms)

    async def accepts(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("first")
        await endpoint.run(websocket)

    async with rooms, WebSocketClient(app_of(accepts), ASKING) as ann:
        await ann.send_text("hi")
        assert await ann.receive_text() == "first"
        assert await ann.receive_text() == "hi!"


@pytest.mark.parametrize(
    "answer",
    ["\0r", "\0r{", '\0r{"positions":{"":"x"}}', f'\0r{{"x":"{"x" * MAX_RESUME_BYTES}"}}'],
    ids=["empty", "no JSON", "no room", "too long"],
)
async def test_a_resume_frame_that_cannot_be_read_is_none(
    rooms: RoomManager, endpoint: Endpoint, answer: str
) -> None:
    async with rooms, WebSocketClient(app_of(endpoint.run), ASKING) as ann:
        await ann.receive_text()
        await ann.send_text(answer)
        await ann.send_text("hi")
        assert await ann.receive_text() == "hi!"
        assert _positions(endpoint) == {}


async def test_a_client_that_forgets_to_answer_is_heard(
    rooms: RoomManager, endpoint: Endpoint
) -> None:
    async with rooms, WebSocketClient(app_of(endpoint.run), ASKING) as ann:
        await ann.receive_text()
        await ann.send_text("hi")
        await ann.send_text(RESUME)
        await ann.send_text("ho")
        assert [await ann.receive_text() for _ in range(2)] == ["hi!", "ho!"]
        assert _positions(endpoint) == {}, "only the first frame is one"


async def test_bytes_are_no_answer(rooms: RoomManager) -> None:
    heard: list[Any] = []

    async def reads(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            heard.append(await socket.receive_bytes())

    async with rooms, WebSocketClient(app_of(reads), ASKING) as ann:
        await ann.receive_text()
        await ann.send_bytes(RESUME.encode())
        await ann.wait_ended()
    assert heard == [RESUME.encode()]


async def test_a_client_that_answers_late_is_not_waited_for_and_its_answer_passed_over(
    rooms: RoomManager, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hello, "RESUME_TIMEOUT", 0.01)
    async with rooms, WebSocketClient(app_of(endpoint.run), ASKING) as ann:
        await ann.receive_text()
        await eventually(lambda: endpoint.sockets)
        await ann.send_text(RESUME)
        await ann.send_text("hi")
        assert await ann.receive_text() == "hi!"
        assert _positions(endpoint) == {}


async def test_what_a_client_has_escaped_is_its_message(rooms: RoomManager) -> None:
    heard: list[Any] = []

    async def reads(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            heard.extend([await socket.receive_text(), await socket.receive_bytes()])

    for first in ([RESUME], []):
        async with rooms, WebSocketClient(app_of(reads), ASKING) as ann:
            await ann.receive_text()
            for text in [*first, f"\0.{RESUME}"]:
                await ann.send_text(text)
            await ann.send_bytes(b"\0.\0\xff")
            await ann.wait_ended()
    assert heard == [RESUME, b"\0\xff"] * 2


async def test_a_client_that_asks_for_a_heartbeat_is_answered_as_its_endpoint_reads(
    rooms: RoomManager, endpoint: Endpoint
) -> None:
    async with rooms, WebSocketClient(app_of(endpoint.run), ASKING) as ann:
        await ann.receive_text()
        for text in (RESUME, "\0b", "hi", "\0b"):
            await ann.send_text(text)
        assert [await ann.receive_text() for _ in range(3)] == ["\0b", "hi!", "\0b"]


async def test_a_client_that_goes_instead_leaves_nothing(
    rooms: RoomManager, endpoint: Endpoint
) -> None:
    events: list[str] = []
    rooms.on("connect")(lambda _: events.append("connect"))
    rooms.on("disconnect")(lambda _: events.append("disconnect"))
    async with rooms:
        async with WebSocketClient(app_of(endpoint.run), ASKING) as ann:
            await ann.receive_text()
            ann.leave(1006)
            await ann.wait_ended()
        assert endpoint.ended == 1
        assert rooms.sids == {}
        assert not rooms._here.recovery.framed
        assert events == ["connect", "disconnect"]


async def test_an_endpoint_that_is_cancelled_meanwhile_ends(
    rooms: RoomManager, endpoint: Endpoint
) -> None:
    async with rooms, WebSocketClient(app_of(endpoint.run), ASKING) as ann:
        await ann.receive_text()
        assert ann._task is not None
        ann._task.cancel()
        await asyncio.wait((ann._task,))
        assert ann._task.cancelled()
        assert rooms.sids == {}


async def test_a_second_namespace_of_the_same_client_says_nothing_more(rooms: RoomManager) -> None:
    async def both(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as one, rooms.of("/two").connect(websocket) as two:
            await one.send_text("one")
            await two.send_text("two")

    async with rooms, WebSocketClient(app_of(both), ASKING) as ann:
        assert (await ann.receive_text()).startswith("\0h")
        await ann.send_text("\0r{}")
        assert [await ann.receive_text() for _ in range(2)] == ["one", "two"]
