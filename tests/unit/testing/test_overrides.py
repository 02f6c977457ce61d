"""One application on several workers at once."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from starlette.types import ASGIApp

from fastapi_rooms import Namespace, RoomManager, Socket, UsageError
from fastapi_rooms.testing import Cluster, WebSocketClient

rooms = RoomManager("redis://nowhere.invalid:1")
Rooms = Annotated[RoomManager, Depends(rooms)]
Private = Annotated[Namespace, Depends(rooms.of("/private"))]
app = FastAPI(lifespan=rooms.lifespan)


@app.websocket("/chat/{room}")
async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None:
    await chat_in(rooms, websocket, room)


@app.websocket("/private/{room}")
async def private(websocket: WebSocket, room: str, private: Private) -> None:
    await chat_in(private, websocket, room)


@app.get("/node")
async def node(rooms: Rooms) -> str:
    return rooms.node


@rooms.on("leave-room")
async def tell(room: str, socket: Socket) -> None:
    await socket.namespace.to(room).send_text(f"{socket.data['name']} left")


async def chat_in(namespace: Namespace, websocket: WebSocket, room: str) -> None:
    name = websocket.query_params.get("name", "someone")
    async with namespace.connect(websocket, data={"name": name}) as socket:
        await socket.join(room)
        await socket.send_text(namespace.node)
        async for text in socket.iter_text():
            await socket.to(room).send_text(text)


@pytest.mark.parametrize("path", ["/chat/tea", "/private/tea"])
async def test_clients_of_one_application_are_on_two_workers_at_once(path: str) -> None:
    async with Cluster(workers=2, of=rooms) as cluster:
        one, two = cluster
        async with (
            cluster.client(one, app, path) as ann,
            cluster.client(two, app, path) as bob,
        ):
            assert await ann.receive_text() == one.node
            assert await bob.receive_text() == two.node
            await ann.send_text("hello")
            assert await bob.receive_text() == "hello"
            assert ann.unread == []
    assert app.dependency_overrides == {}


async def test_events_of_the_application_are_handled_on_each_worker() -> None:
    async with Cluster(workers=2, of=rooms) as cluster:
        one, two = cluster
        async with cluster.client(two, app, "/chat/tea") as bob:
            await bob.receive_text()
            async with cluster.client(one, app, "/chat/tea?name=ann") as ann:
                await ann.receive_text()
            assert await bob.receive_text() == "ann left"


async def test_other_clients_of_the_application_have_its_own_manager_meanwhile() -> None:
    rooms = RoomManager()
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket, rooms: Annotated[RoomManager, Depends(rooms)]) -> None:
        await chat_in(rooms, websocket, "tea")

    async with rooms, Cluster(workers=1, of=rooms) as cluster:
        async with cluster.client(cluster[0], app) as ann, WebSocketClient(app) as bob:
            assert await ann.receive_text() == cluster[0].node
            assert await bob.receive_text() == rooms.node
        async with WebSocketClient(app) as bob:
            assert await bob.receive_text() == rooms.node
    assert app.dependency_overrides == {}


WRAPPED: list[Callable[[], ASGIApp]] = [
    lambda: Starlette(routes=[Mount("/sub", app)]),
    lambda: GZipMiddleware(Starlette(routes=[Mount("/sub", GZipMiddleware(app))])),
]


@pytest.mark.parametrize("wrap", WRAPPED, ids=["mounted", "under middleware"])
async def test_applications_in_an_application_are_included(wrap: Callable[[], ASGIApp]) -> None:
    async with Cluster(workers=2, of=rooms) as cluster:
        for worker in cluster:
            async with cluster.client(worker, wrap(), "/sub/chat/tea") as ann:
                assert await ann.receive_text() == worker.node


async def test_requests_are_served_by_a_worker_too() -> None:
    async with Cluster(workers=2, of=rooms) as cluster:
        for worker in cluster:
            client = TestClient(cluster.app(worker, app))
            assert client.get("/node").json() == worker.node


async def test_an_override_that_is_there_is_left_and_refused() -> None:
    mine: Any = lambda: rooms  # noqa: E731 -- an override as people write it
    app.dependency_overrides[rooms.of("/private")] = mine
    try:
        async with Cluster(workers=1, of=rooms) as cluster:
            with pytest.raises(UsageError, match="an override of <Namespace /private> already"):
                async with cluster.client(cluster[0], app, "/chat/tea"):
                    pytest.fail("it was accepted")
        assert app.dependency_overrides == {rooms.of("/private"): mine}
    finally:
        app.dependency_overrides.clear()


async def test_overrides_that_a_test_has_cleared_are_not_missed() -> None:
    async with (
        Cluster(workers=1, of=rooms) as cluster,
        cluster.client(cluster[0], app, "/chat/tea") as ann,
    ):
        await ann.receive_text()
        app.dependency_overrides.clear()
    assert app.dependency_overrides == {}


async def test_what_cannot_be_is_refused_in_words() -> None:
    cluster, others, unrelated = Cluster(of=rooms), Cluster(of=rooms), Cluster()
    with pytest.raises(UsageError, match=r"Cluster\(of=rooms\)"):
        cluster.client(others[0], app)
    with pytest.raises(UsageError, match=r"Cluster\(of=rooms\)"):
        unrelated.client(unrelated[0], app)
    with pytest.raises(UsageError, match="no FastAPI application"):
        cluster.client(cluster[0], Starlette())
