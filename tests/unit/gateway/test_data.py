"""What `socket.data` may hold behind an edge, and when the edge is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import RoomManager, Socket, UsageError
from fastapi_rooms.testing import WebSocketClient
from tests.unit.gateway.support import Site


class Incomparable:
    """As arrays are."""

    def __eq__(self, _: object) -> Any:
        raise ValueError("the truth of this is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # as of what can be compared


@pytest.mark.parametrize("value", [Lock(), Incomparable(), {1}], ids=["lock", "array", "set"])
@pytest.mark.parametrize("use", ["join", "send", "receive", "fetch"])
async def test_an_endpoint_that_puts_to_use_what_cannot_be_kept_is_told_what_and_where(
    site: Site, value: object, use: str
) -> None:
    told: list[str] = []
    uses: dict[str, Callable[[RoomManager, Socket], Awaitable[object]]] = {
        "join": lambda _, socket: socket.join("tea"),
        "send": lambda _, socket: socket.to("tea").send_text("hi"),
        "receive": lambda _, socket: socket.receive_text(),
        "fetch": lambda _, socket: socket.to("tea").count(),
    }

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket, data={"cart": {}}) as socket:
            socket.data["cart"]["items"] = [value]
            with pytest.raises(UsageError) as found:
                await uses[use](rooms, socket)
            told.append(str(found.value))
            assert repr(socket) in told[0]
            socket.data["cart"]["items"] = ["tea"]
            await socket.join("tea")
            await socket.send_text("in")
            await socket.wait_closed()

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "in"
        assert told[0].startswith("socket.data['cart']['items'][0] of <Socket ")
        assert "is of type " in told[0]
        (sid,) = edge.manager.rooms["tea"]
        assert edge.manager._here.clients[sid].socket.data == {"cart": {"items": ["tea"]}}


async def test_data_that_cannot_be_kept_does_not_even_come_in(site: Site) -> None:
    told: list[str] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        try:
            async with rooms.connect(websocket, data={"tags": ("a", "b")}):
                raise AssertionError
        except UsageError as error:
            told.append(str(error))
            raise

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        with pytest.raises(WebSocketDisconnect) as closed:
            await client.receive()
        assert closed.value.code == 1011
    assert "socket.data['tags'] of" in told[0]
    assert "tuple, and would come back as a list" in told[0]
    assert not edge.manager.sids


async def test_an_endpoint_whose_data_cannot_be_kept_is_replaced_all_the_same(site: Site) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket, data={"kept": 1}) as socket:
            await socket.send_json(socket.data)
            socket.data["lock"] = Lock()
            await asyncio.Event().wait()

    edge = await site.edge()
    first = await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == '{"kept":1}'
        await site.replace(first, endpoint)
        assert await client.receive() == '{"kept":1}'
