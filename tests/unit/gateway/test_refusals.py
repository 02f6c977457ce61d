"""What an edge does not do for an endpoint, and what it does with a backend that makes no sense."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import (
    AdapterUnavailable,
    RoomManager,
    RoomsError,
    SidInUse,
    SocketClosed,
    TooManyRooms,
    UsageError,
)
from fastapi_rooms.gateway.socket import EdgeSocket
from fastapi_rooms.gateway.sockets import EdgeSockets
from fastapi_rooms.servers import edge_of
from fastapi_rooms.testing import WebSocketClient
from tests.unit.gateway.support import Site


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TooManyRooms(2, 1), TooManyRooms),
        (UsageError("not so"), UsageError),
        (SocketClosed("The socket has left."), SocketClosed),
        (AdapterUnavailable("away"), AdapterUnavailable),
        (RuntimeError("a bug"), AdapterUnavailable),
    ],
)
async def test_why_an_edge_refuses_a_join_is_the_endpoints_error(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[RoomsError]
) -> None:
    async def refuse(*_: object) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(EdgeSocket, "join", refuse)

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            with pytest.raises(kind):
                await socket.join("tea")
            await socket.send_text("refused")
            await socket.wait_closed()

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "refused"
        assert "tea" not in edge.manager.rooms


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("dance", {"namespace": "/"}),
        ("leave", {"namespace": "/", "rooms": "tea"}),
        ("leave", {"namespace": "/", "rooms": [""]}),
        ("leave", {"namespace": "/" + "x" * 300, "rooms": []}),
        ("join", {"namespace": "/", "rooms": ["tea"], "users": {}, "since": 1}),
        ("join", {"namespace": "/", "rooms": ["tea"], "users": {}, "recent": "all"}),
    ],
)
async def test_a_backend_that_asks_for_what_cannot_be_is_replaced_and_the_client_stays(
    site: Site, verb: str, arguments: dict[str, Any]
) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("bar")
            if socket.attempt == 0:
                connection = edge_of(websocket.scope)
                assert connection is not None
                connection.tell(verb, **arguments)
            else:
                await socket.send_text("again")
            await socket.wait_closed()

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "again"
        assert edge.health.dropped == 1
        assert "bar" in edge.manager.rooms


@pytest.mark.parametrize(
    ("error", "code"), [(SidInUse("ann"), 4409), (AdapterUnavailable("away"), 1013)]
)
async def test_a_client_that_its_edge_cannot_take_in_is_closed_as_at_a_worker(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    async def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(EdgeSockets, "_enter", refuse)

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.wait_closed()

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        with pytest.raises(WebSocketDisconnect) as closed:
            await client.receive()
        assert closed.value.code == code


async def test_the_data_of_all_namespaces_has_one_limit_as_the_next_backend_gets_all(
    site: Site,
) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with (
            rooms.connect(websocket, data={"text": "x" * 600_000}) as socket,
            rooms.of("/other").connect(websocket) as other,
        ):
            if socket.attempt == 0:
                other.data["text"] = "x" * 600_000
                for _ in range(2):
                    with pytest.raises(UsageError, match="in all namespaces together"):
                        await other.join("tea")
                socket.data["text"] = "less"
                await socket.join("tea")
            await other.join("tea")
            texts = [len(each.data["text"]) for each in (socket, other)]
            await socket.send_text(f"{socket.attempt} {texts}")
            await socket.wait_closed()

    edge = await site.edge()
    first = await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "0 [4, 600000]"
        await site.replace(first, endpoint)
        assert await client.receive() == "1 [4, 600000]"


async def test_a_socket_behind_an_edge_is_an_operator_as_any_other(site: Site) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket, data={"name": "ann"}) as socket:
            await socket.join("tea")
            await socket.join("tea")
            with pytest.raises(UsageError, match="already"):
                await socket.join("tea", recent=1)
            with pytest.raises(UsageError, match="socketio"):
                await socket.to("tea").emit("hello")
            found = await rooms.to("tea").fetch_sockets()
            await socket.send_json([len(found), await socket.to("tea").count()])
            await socket.wait_closed()

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "[1,0]"
