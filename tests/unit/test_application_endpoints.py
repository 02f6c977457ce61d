"""Endpoints of every shape, as a test client runs them, and how they end."""

import asyncio
import threading
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import AdapterUnavailable, OutboxPolicy, RoomManager, Socket
from tests.unit.applications import app_of_socket, chat_in, join, starlette_app
from tests.unit.support import FakeAdapter


def test_a_class_based_endpoint_works() -> None:
    rooms = RoomManager()

    class Endpoint(WebSocketEndpoint):
        async def dispatch(self) -> None:
            websocket = WebSocket(self.scope, self.receive, self.send)
            await chat_in(websocket, rooms, "lobby")

    app = Starlette(routes=[WebSocketRoute("/", Endpoint)], lifespan=rooms.lifespan)
    with TestClient(app) as client, ExitStack() as stack:
        ann, bob = (join(client, stack, "/", "lobby") for _ in range(2))
        ann.send_text("hello")
        assert bob.receive_text() == "hello"


def test_one_websocket_can_be_in_two_namespaces() -> None:
    rooms = RoomManager()

    async def endpoint(websocket: WebSocket) -> None:
        async with (
            rooms.of("/chat").connect(websocket, sid="ann") as chat,
            rooms.of("/game").connect(websocket, sid="ann") as game,
        ):
            await chat.join("lobby")
            await game.join("lobby")
            await websocket.send_text("ready")
            async for text in websocket.iter_text():
                await rooms.of(f"/{text}").to("lobby").send_text(f"to {text}")

    app = Starlette(routes=[WebSocketRoute("/", endpoint)], lifespan=rooms.lifespan)
    with TestClient(app) as client, client.websocket_connect("/") as session:
        assert session.receive_text() == "ready"
        for name in ("chat", "game"):
            session.send_text(name)
            assert session.receive_text() == f"to {name}"


def test_a_background_task_may_send_while_the_endpoint_reads() -> None:
    rooms = RoomManager()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:

            async def count() -> None:
                for number in range(100):
                    await socket.send_text(str(number))
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            async for text in socket.iter_text():
                await counting
                await socket.send_text(text)

    app = Starlette(routes=[WebSocketRoute("/", endpoint)], lifespan=rooms.lifespan)
    with TestClient(app) as client, client.websocket_connect("/") as session:
        session.send_text("end")
        assert [session.receive_text() for _ in range(101)] == [*map(str, range(100)), "end"]


def test_a_server_sent_events_route_hears_a_room() -> None:
    rooms = RoomManager()

    async def events(request: Request) -> Response:
        async with rooms.listen("news") as messages:
            listening.set()
            return JSONResponse([(await anext(messages)).json() for _ in range(2)])

    listening = threading.Event()
    app = starlette_app(rooms, lifespan=rooms.lifespan)
    app.router.routes.append(Route("/events", events))
    with TestClient(app) as client:
        answers: list[Any] = []
        reader = threading.Thread(target=lambda: answers.append(client.get("/events").json()))
        reader.start()
        assert listening.wait(10)
        for _ in range(2):
            client.post("/announce/news")
        reader.join(10)
        assert answers == [[{"hello": "news"}] * 2]


# How endpoints end.


def test_an_endpoint_that_returns_has_its_socket_closed_by_the_server_and_nothing_left() -> None:
    rooms = RoomManager()

    async def returns(socket: Socket) -> None:
        return

    with TestClient(app_of_socket(rooms, returns)) as client:
        with client.websocket_connect("/") as session:
            assert session.receive_text() == "in"
        assert rooms.rooms == rooms.sids == {}


def test_an_endpoint_that_raises_leaves_nothing_and_the_error_is_the_applications() -> None:
    rooms = RoomManager()

    async def raises(socket: Socket) -> None:
        raise LookupError("the endpoint's own")

    with TestClient(app_of_socket(rooms, raises)) as client:
        with (
            pytest.raises(LookupError, match="the endpoint's own"),
            client.websocket_connect("/") as session,
        ):
            assert session.receive_text() == "in"
        assert rooms.rooms == rooms.sids == {}


def test_an_endpoint_that_is_cancelled_leaves_nothing() -> None:
    rooms = RoomManager()

    async def waits_for_ever(socket: Socket) -> None:
        await asyncio.Event().wait()

    with TestClient(app_of_socket(rooms, waits_for_ever)) as client:
        with client.websocket_connect("/") as session:
            assert session.receive_text() == "in"
            assert "lobby" in rooms.rooms
        assert rooms.rooms == rooms.sids == {}


def test_an_endpoint_that_closes_the_websocket_itself_ends_with_its_code() -> None:
    rooms = RoomManager()

    async def closes(socket: Socket) -> None:
        await socket.websocket.close(4001, "enough")

    with TestClient(app_of_socket(rooms, closes)) as client:
        with client.websocket_connect("/") as session:
            assert session.receive_text() == "in"
            with pytest.raises(WebSocketDisconnect) as raised:
                session.receive_text()
            assert (raised.value.code, raised.value.reason) == (4001, "enough")
        assert rooms.rooms == rooms.sids == {}


@pytest.mark.parametrize(
    ("read", "code"), [(Socket.receive_text, 1003), (Socket.receive_json, 1007)]
)
def test_a_message_that_cannot_be_read_closes_with_its_code(read: Any, code: int) -> None:
    rooms = RoomManager()
    with TestClient(app_of_socket(rooms, read)) as client:
        with client.websocket_connect("/") as session:
            assert session.receive_text() == "in"
            session.send_bytes(b"\xff")
            with pytest.raises(WebSocketDisconnect) as raised:
                session.receive_text()
            assert raised.value.code == code
        assert rooms.rooms == rooms.sids == {}


def test_a_sid_in_use_is_said_before_the_connection_is_accepted() -> None:
    rooms = RoomManager()

    async def stays(socket: Socket) -> None:
        await socket.receive_text()

    with (
        TestClient(app_of_socket(rooms, stays, sid="ann")) as client,
        client.websocket_connect("/") as first,
    ):
        assert first.receive_text() == "in"
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/"):
            pass
        assert denied.value.status_code == 409
        assert rooms.rooms == {"ann": {"ann"}, "lobby": {"ann"}}


def test_subprotocol_and_headers_are_those_of_the_acceptance() -> None:
    rooms = RoomManager()

    async def stays(socket: Socket) -> None:
        await socket.receive_text()

    app = app_of_socket(rooms, stays, subprotocol="v2", headers=[(b"x-worker", b"7")])
    session: Any
    with (
        TestClient(app) as client,
        client.websocket_connect("/", subprotocols=["v1", "v2"]) as session,
    ):
        assert session.accepted_subprotocol == "v2"
        assert (b"x-worker", b"7") in session.extra_headers


def test_a_join_that_the_adapter_refuses_closes_with_try_again_later() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter, outbox=OutboxPolicy())

    async def joins(socket: Socket) -> None:
        adapter.subscribe_error = AdapterUnavailable("Redis is away")
        await socket.join("lobby", "bar")

    with TestClient(app_of_socket(rooms, joins)) as client:
        with client.websocket_connect("/") as session:
            assert session.receive_text() == "in"
            with pytest.raises(WebSocketDisconnect) as raised:
                session.receive_text()
            assert raised.value.code == 1013
        assert rooms.rooms == rooms.sids == {}
