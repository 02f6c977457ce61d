"""The application of the README, with FastAPI and without."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocket

from fastapi_rooms import Namespace, RoomManager, Socket


async def chat_in(websocket: WebSocket, rooms: Namespace, room: str) -> None:
    """What most of these endpoints do: everyone in the room but the sender hears it."""
    async with rooms.connect(websocket) as socket:
        await socket.join(room)
        await socket.send_text(f"in {room}")
        async for text in socket.iter_text():
            await socket.to(room).send_text(text)


def fastapi_app(rooms: RoomManager, **settings: Any) -> FastAPI:
    """The application of the README."""
    app = FastAPI(**settings)
    Rooms = Annotated[RoomManager, Depends(rooms)]  # noqa: N806 -- a type

    @app.websocket("/chat/{room}")
    async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None:
        await chat_in(websocket, rooms, room)

    @app.post("/announce/{room}")
    async def announce(room: str, rooms: Rooms) -> None:
        await rooms.to(room).send_json({"hello": room})

    return app


def starlette_app(rooms: RoomManager, **settings: Any) -> Starlette:
    """The same without FastAPI."""

    async def chat(websocket: WebSocket) -> None:
        await chat_in(websocket, rooms, websocket.path_params["room"])

    async def announce(request: Request) -> Response:
        room = request.path_params["room"]
        await rooms.to(room).send_json({"hello": room})
        return Response()

    return Starlette(
        routes=[
            WebSocketRoute("/chat/{room}", chat),
            Route("/announce/{room}", announce, methods=["POST"]),
        ],
        **settings,
    )


def join(client: TestClient, stack: ExitStack, path: str, room: str) -> WebSocketTestSession:
    session = stack.enter_context(client.websocket_connect(path))
    assert session.receive_text() == f"in {room}"
    return session


def check_chat(client: TestClient, rooms: Namespace, prefix: str = "") -> None:
    """Two in a room hear each other, one elsewhere does not, and an HTTP route reaches the room."""
    with ExitStack() as stack:
        ann = join(client, stack, f"{prefix}/chat/lobby", "lobby")
        bob = join(client, stack, f"{prefix}/chat/lobby", "lobby")
        cid = join(client, stack, f"{prefix}/chat/bar", "bar")
        ann.send_text("hello")
        assert bob.receive_text() == "hello"
        for room in ("lobby", "bar"):
            assert client.post(f"{prefix}/announce/{room}").status_code == 200
        for member, room in ((ann, "lobby"), (bob, "lobby"), (cid, "bar")):
            assert member.receive_json() == {"hello": room}
        assert {name for name in rooms.rooms if name not in rooms.sids} == {"lobby", "bar"}
    assert rooms.rooms == rooms.sids == {}


def app_of_socket(
    rooms: RoomManager, endpoint: Callable[[Socket], Any], **connect: Any
) -> Starlette:
    """An application whose endpoint is `endpoint`, in the lobby."""

    async def chat(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, **connect) as socket:
            await socket.join("lobby")
            await socket.send_text("in")
            await endpoint(socket)

    return Starlette(routes=[WebSocketRoute("/", chat)], lifespan=rooms.lifespan)
