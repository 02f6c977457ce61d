"""The manager and its namespaces as dependencies of a FastAPI application."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocketException
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import ConfigurationError, Namespace, RoomManager
from tests.unit.applications import chat_in, check_chat, fastapi_app


def test_a_router_of_its_own_module_gets_the_same_manager() -> None:
    rooms = RoomManager()
    router = APIRouter(prefix="/v1")
    Rooms = Annotated[RoomManager, Depends(rooms)]  # noqa: N806 -- a type

    @router.websocket("/chat/{room}")
    async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None:
        await chat_in(websocket, rooms, room)

    @router.post("/announce/{room}")
    async def announce(room: str, rooms: Rooms) -> None:
        await rooms.to(room).send_json({"hello": room})

    app = FastAPI(lifespan=rooms.lifespan)
    app.include_router(router, prefix="/api")
    with TestClient(app) as client:
        check_chat(client, rooms, "/api/v1")


def test_another_manager_can_be_used_instead() -> None:
    rooms = RoomManager("redis://nowhere.invalid:1")
    instead = RoomManager()
    app = fastapi_app(rooms)
    app.dependency_overrides[rooms] = instead
    app.router.lifespan_context = instead.lifespan
    with TestClient(app) as client:
        check_chat(client, instead)
    assert not rooms.health.ready


def test_a_namespace_is_a_dependency_and_can_be_overridden() -> None:
    rooms = RoomManager()
    app = FastAPI(lifespan=rooms.lifespan)
    Chat = Annotated[Namespace, Depends(rooms.of("/chat"))]  # noqa: N806 -- a type

    @app.websocket("/chat/{room}")
    async def chat(websocket: WebSocket, room: str, chat: Chat) -> None:
        await chat_in(websocket, chat, room)

    @app.post("/announce/{room}")
    async def announce(room: str, chat: Chat) -> None:
        await chat.to(room).send_json({"hello": room})

    with TestClient(app) as client:
        check_chat(client, rooms.of("/chat"))
        app.dependency_overrides[rooms.of("/chat")] = rooms.of("/other")
        check_chat(client, rooms.of("/other"))


def test_a_dependency_that_turns_a_client_away_does_so_before_the_manager_knows_of_it() -> None:
    rooms = RoomManager()
    app = FastAPI(lifespan=rooms.lifespan)

    async def signed_in(websocket: WebSocket) -> str:
        if "token" not in websocket.query_params:
            raise WebSocketException(1008, "sign in first")
        return websocket.query_params["token"]

    @app.websocket("/")
    async def endpoint(
        websocket: WebSocket,
        user: Annotated[str, Depends(signed_in)],
        rooms: Annotated[RoomManager, Depends(rooms)],
    ) -> None:
        async with rooms.connect(websocket, sid=user) as socket:
            await socket.send_text(socket.sid)
            await socket.receive_text()

    with TestClient(app) as client:
        with pytest.raises(WebSocketDisconnect) as raised, client.websocket_connect("/"):
            pytest.fail("it was accepted")
        assert raised.value.code == 1008
        with client.websocket_connect("/?token=ann") as ann:
            assert ann.receive_text() == "ann"
            assert rooms.sids.keys() == {"ann"}


def test_a_cleanup_that_fastapi_runs_late_finds_the_socket_out_of_its_rooms() -> None:
    rooms = RoomManager()
    app = FastAPI(lifespan=rooms.lifespan)
    found: list[object] = []

    async def resource() -> AsyncIterator[str]:
        yield "resource"
        found.append(dict(rooms.rooms))

    @app.websocket("/")
    async def endpoint(websocket: WebSocket, resource: Annotated[str, Depends(resource)]) -> None:
        await chat_in(websocket, rooms, "lobby")

    with TestClient(app) as client, client.websocket_connect("/") as ann:
        assert ann.receive_text() == "in lobby"
        ann.close()
    assert found == [{}]


@pytest.mark.parametrize("kind", [RoomManager, Namespace])
def test_a_parameter_without_depends_is_told_of_it(kind: type[Namespace]) -> None:
    app = FastAPI()

    async def endpoint(rooms: Any) -> None: ...

    endpoint.__annotations__["rooms"] = kind
    told = rf"type {kind.__name__} needs Depends: .*Annotated\[{kind.__name__}, Depends\(rooms\)\]"
    for register in (app.websocket("/ws"), app.get("/")):
        with pytest.raises(ConfigurationError, match=told):
            register(endpoint)


def test_the_class_in_place_of_the_manager_is_told_of_it() -> None:
    app = FastAPI()

    async def endpoint(rooms: Annotated[RoomManager, Depends(RoomManager)]) -> None: ...

    async def shorter(rooms: Annotated[RoomManager, Depends()]) -> None: ...

    for wrong in (endpoint, shorter):
        with pytest.raises(ConfigurationError, match=r"the one that you made.*Depends\(rooms\)"):
            app.websocket("/ws")(wrong)


def test_the_manager_in_place_of_its_lifespan_is_told_of_it() -> None:
    app = FastAPI(lifespan=RoomManager())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"lifespan=rooms\.lifespan"), TestClient(app):
        pass


def test_a_model_that_takes_any_type_holds_a_manager() -> None:
    class State(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        rooms: RoomManager

    rooms = RoomManager()
    assert State(rooms=rooms).rooms is rooms
    with pytest.raises(ValidationError):
        State(rooms=3)  # type: ignore[arg-type]
