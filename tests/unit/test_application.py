"""Real FastAPI and Starlette applications, as a test client runs them."""

# Annotations here are not postponed: FastAPI evaluates them, and some name what is local to a test.

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocketException
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import (
    AdapterUnavailable,
    Health,
    MemoryAdapter,
    MemoryBus,
    Namespace,
    NotStarted,
    OutboxPolicy,
    RoomManager,
    SidInUse,
    Socket,
)
from tests.unit.support import FakeAdapter


async def _chat(websocket: WebSocket, rooms: Namespace, room: str) -> None:
    """What most of these endpoints do: everyone in the room but the sender hears it."""
    async with rooms.connect(websocket) as socket:
        await socket.join(room)
        await socket.send_text(f"in {room}")
        async for text in socket.iter_text():
            await socket.to(room).send_text(text)


def _fastapi(rooms: RoomManager, **settings: Any) -> FastAPI:
    """The application of the README."""
    app = FastAPI(**settings)
    Rooms = Annotated[RoomManager, Depends(rooms)]  # noqa: N806 -- a type

    @app.websocket("/chat/{room}")
    async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None:
        await _chat(websocket, rooms, room)

    @app.post("/announce/{room}")
    async def announce(room: str, rooms: Rooms) -> None:
        await rooms.to(room).send_json({"hello": room})

    return app


def _starlette(rooms: RoomManager, **settings: Any) -> Starlette:
    """The same without FastAPI."""

    async def chat(websocket: WebSocket) -> None:
        await _chat(websocket, rooms, websocket.path_params["room"])

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


def _join(client: TestClient, stack: ExitStack, path: str, room: str) -> WebSocketTestSession:
    session = stack.enter_context(client.websocket_connect(path))
    assert session.receive_text() == f"in {room}"
    return session


def _works(client: TestClient, rooms: Namespace, prefix: str = "") -> None:
    """Two in a room hear each other, one elsewhere does not, and an HTTP route reaches the room."""
    with ExitStack() as stack:
        ann = _join(client, stack, f"{prefix}/chat/lobby", "lobby")
        bob = _join(client, stack, f"{prefix}/chat/lobby", "lobby")
        cid = _join(client, stack, f"{prefix}/chat/bar", "bar")
        ann.send_text("hello")
        assert bob.receive_text() == "hello"
        for room in ("lobby", "bar"):
            assert client.post(f"{prefix}/announce/{room}").status_code == 200
        for member, room in ((ann, "lobby"), (bob, "lobby"), (cid, "bar")):
            assert member.receive_json() == {"hello": room}
        assert {name for name in rooms.rooms if name not in rooms.sids} == {"lobby", "bar"}
    assert rooms.rooms == rooms.sids == {}


@pytest.mark.parametrize("make", [_fastapi, _starlette])
def test_the_manager_runs_with_the_applications_lifespan(make: Callable[..., Any]) -> None:
    rooms = RoomManager()
    with TestClient(make(rooms, lifespan=rooms.lifespan)) as client:
        _works(client, rooms)
    assert not rooms.health.ready


@pytest.mark.parametrize("make", [_fastapi, _starlette])
def test_the_manager_runs_within_a_lifespan_of_ones_own(make: Callable[..., Any]) -> None:
    rooms = RoomManager()
    order = []

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[dict[str, str]]:
        order.append("database opened")
        async with rooms:
            yield {"database": "open"}
        order.append("database closed")

    with TestClient(make(rooms, lifespan=lifespan)) as client:
        _works(client, rooms)
        assert order == ["database opened"]
    assert order == ["database opened", "database closed"]
    assert not rooms.health.ready


@pytest.mark.parametrize("make", [_fastapi, _starlette])
def test_an_application_can_be_run_by_one_test_client_after_the_other(
    make: Callable[..., Any],
) -> None:
    rooms = RoomManager()
    app = make(rooms, lifespan=rooms.lifespan)
    for _ in range(2):
        with TestClient(app) as client:
            _works(client, rooms)


@pytest.mark.parametrize("make", [_fastapi, _starlette])
def test_a_client_that_does_not_run_the_lifespan_is_told_how(make: Callable[..., Any]) -> None:
    rooms = RoomManager()
    client = TestClient(make(rooms, lifespan=rooms.lifespan))
    with pytest.raises(NotStarted, match=r"with TestClient\(app\) as client"):
        client.post("/announce/lobby")
    with (
        pytest.raises(NotStarted, match=r"with TestClient\(app\) as client"),
        client.websocket_connect("/chat/lobby"),
    ):
        pytest.fail("it was accepted")


# Dependencies.


def test_a_router_of_its_own_module_gets_the_same_manager() -> None:
    rooms = RoomManager()
    router = APIRouter(prefix="/v1")
    Rooms = Annotated[RoomManager, Depends(rooms)]  # noqa: N806 -- a type

    @router.websocket("/chat/{room}")
    async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None:
        await _chat(websocket, rooms, room)

    @router.post("/announce/{room}")
    async def announce(room: str, rooms: Rooms) -> None:
        await rooms.to(room).send_json({"hello": room})

    app = FastAPI(lifespan=rooms.lifespan)
    app.include_router(router, prefix="/api")
    with TestClient(app) as client:
        _works(client, rooms, "/api/v1")


def test_a_routers_lifespan_runs_the_manager_too() -> None:
    rooms = RoomManager()
    router = APIRouter(lifespan=rooms.lifespan)

    @router.get("/ready")
    async def ready() -> bool:
        return rooms.health.ready

    app = FastAPI()
    app.include_router(router)
    with TestClient(app) as client:
        assert client.get("/ready").json() is True


def test_another_manager_can_be_put_in_its_place() -> None:
    rooms = RoomManager("redis://nowhere.invalid:1")
    instead = RoomManager()
    app = _fastapi(rooms)
    app.dependency_overrides[rooms] = instead
    app.router.lifespan_context = instead.lifespan
    with TestClient(app) as client:
        _works(client, instead)
    assert not rooms.health.ready


def test_a_namespace_is_a_dependency_and_can_be_overridden() -> None:
    rooms = RoomManager()
    app = FastAPI(lifespan=rooms.lifespan)
    Chat = Annotated[Namespace, Depends(rooms.of("/chat"))]  # noqa: N806 -- a type

    @app.websocket("/chat/{room}")
    async def chat(websocket: WebSocket, room: str, chat: Chat) -> None:
        await _chat(websocket, chat, room)

    @app.post("/announce/{room}")
    async def announce(room: str, chat: Chat) -> None:
        await chat.to(room).send_json({"hello": room})

    with TestClient(app) as client:
        _works(client, rooms.of("/chat"))
        app.dependency_overrides[rooms.of("/chat")] = rooms.of("/other")
        _works(client, rooms.of("/other"))


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
        await _chat(websocket, rooms, "lobby")

    with TestClient(app) as client, client.websocket_connect("/") as ann:
        assert ann.receive_text() == "in lobby"
        ann.close()
    assert found == [{}]


# Mounted applications.


@pytest.mark.parametrize("make", [_fastapi, _starlette])
@pytest.mark.parametrize("parent", ["fastapi", "starlette"])
def test_a_mounted_application_works_under_its_parents_lifespan(
    make: Callable[..., Any], parent: str
) -> None:
    rooms = RoomManager()
    mounted = make(rooms)
    app: Starlette
    if parent == "fastapi":
        app = FastAPI(lifespan=rooms.lifespan)
        app.mount("/sub", mounted)
    else:
        app = Starlette(routes=[Mount("/sub", mounted)], lifespan=rooms.lifespan)
    with TestClient(app) as client:
        _works(client, rooms, "/sub")


def test_a_mounted_applications_own_lifespan_never_runs_and_the_error_says_so() -> None:
    rooms = RoomManager()
    app = FastAPI()
    app.mount("/sub", _fastapi(rooms, lifespan=rooms.lifespan))
    with (
        TestClient(app) as client,
        pytest.raises(NotStarted, match="start the manager in the parent"),
        client.websocket_connect("/sub/chat/lobby"),
    ):
        pytest.fail("it was accepted")


def test_two_applications_in_one_process_can_share_one_manager() -> None:
    rooms = RoomManager()
    outer = _fastapi(rooms, lifespan=rooms.lifespan)
    inner = _fastapi(rooms, lifespan=rooms.lifespan)
    outer.mount("/sub", inner)

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[None]:
        async with rooms.lifespan(app), inner.router.lifespan_context(inner):
            yield

    outer.router.lifespan_context = both
    with TestClient(outer) as client:
        _works(client, rooms)
        _works(client, rooms, "/sub")
    assert not rooms.health.ready


def test_applications_on_one_bus_are_each_others_workers() -> None:
    bus = MemoryBus()
    one, two = (RoomManager(MemoryAdapter(bus)) for _ in range(2))
    with (
        TestClient(_fastapi(one, lifespan=one.lifespan)) as first,
        TestClient(_fastapi(two, lifespan=two.lifespan)) as second,
        ExitStack() as stack,
    ):
        ann = _join(first, stack, "/chat/lobby", "lobby")
        bob = _join(second, stack, "/chat/lobby", "lobby")
        ann.send_text("hello")
        assert bob.receive_text() == "hello"
        assert second.post("/announce/lobby").status_code == 200
        assert ann.receive_json() == bob.receive_json() == {"hello": "lobby"}


# Other shapes of endpoints.


def test_a_class_based_endpoint_works() -> None:
    rooms = RoomManager()

    class Endpoint(WebSocketEndpoint):
        async def dispatch(self) -> None:
            websocket = WebSocket(self.scope, self.receive, self.send)
            await _chat(websocket, rooms, "lobby")

    app = Starlette(routes=[WebSocketRoute("/", Endpoint)], lifespan=rooms.lifespan)
    with TestClient(app) as client, ExitStack() as stack:
        ann, bob = (_join(client, stack, "/", "lobby") for _ in range(2))
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
    app = _starlette(rooms, lifespan=rooms.lifespan)
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


def test_health_serves_a_readiness_route() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    app = FastAPI(lifespan=rooms.lifespan)

    @app.get("/ready")
    async def ready() -> JSONResponse:
        health: Health = rooms.health
        return JSONResponse(health._asdict(), 200 if health.ready else 503)

    with TestClient(app) as client:
        assert client.get("/ready").status_code == 200
        adapter.health = adapter.health._replace(connected=False)
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert answer.json()["connected"] is False


# How endpoints end.


def _only(rooms: RoomManager, endpoint: Callable[[Socket], Any], **connect: Any) -> Starlette:
    """An application whose endpoint is `endpoint`, in the lobby."""

    async def chat(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, **connect) as socket:
            await socket.join("lobby")
            await socket.send_text("in")
            await endpoint(socket)

    return Starlette(routes=[WebSocketRoute("/", chat)], lifespan=rooms.lifespan)


def test_an_endpoint_that_returns_has_its_socket_closed_by_the_server_and_nothing_left() -> None:
    rooms = RoomManager()

    async def returns(socket: Socket) -> None:
        return

    with TestClient(_only(rooms, returns)) as client:
        with client.websocket_connect("/") as session:
            assert session.receive_text() == "in"
        assert rooms.rooms == rooms.sids == {}


def test_an_endpoint_that_raises_leaves_nothing_and_the_error_is_the_applications() -> None:
    rooms = RoomManager()

    async def raises(socket: Socket) -> None:
        raise LookupError("the endpoint's own")

    with TestClient(_only(rooms, raises)) as client:
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

    with TestClient(_only(rooms, waits_for_ever)) as client:
        with client.websocket_connect("/") as session:
            assert session.receive_text() == "in"
            assert "lobby" in rooms.rooms
        assert rooms.rooms == rooms.sids == {}


def test_an_endpoint_that_closes_the_websocket_itself_ends_with_its_code() -> None:
    rooms = RoomManager()

    async def closes(socket: Socket) -> None:
        await socket.websocket.close(4001, "enough")

    with TestClient(_only(rooms, closes)) as client:
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
    with TestClient(_only(rooms, read)) as client:
        with client.websocket_connect("/") as session:
            assert session.receive_text() == "in"
            session.send_bytes(b"\xff")
            with pytest.raises(WebSocketDisconnect) as raised:
                session.receive_text()
            assert raised.value.code == code
        assert rooms.rooms == rooms.sids == {}


def test_a_sid_in_use_is_the_second_endpoints_error() -> None:
    rooms = RoomManager()

    async def stays(socket: Socket) -> None:
        await socket.receive_text()

    with (
        TestClient(_only(rooms, stays, sid="ann")) as client,
        client.websocket_connect("/") as first,
    ):
        assert first.receive_text() == "in"
        with pytest.raises(SidInUse), client.websocket_connect("/"):
            pass
        assert rooms.rooms == {"ann": {"ann"}, "lobby": {"ann"}}


def test_subprotocol_and_headers_are_those_of_the_acceptance() -> None:
    rooms = RoomManager()

    async def stays(socket: Socket) -> None:
        await socket.receive_text()

    app = _only(rooms, stays, subprotocol="v2", headers=[(b"x-worker", b"7")])
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

    with TestClient(_only(rooms, joins)) as client:
        with client.websocket_connect("/") as session:
            assert session.receive_text() == "in"
            with pytest.raises(WebSocketDisconnect) as raised:
                session.receive_text()
            assert raised.value.code == 1013
        assert rooms.rooms == rooms.sids == {}
