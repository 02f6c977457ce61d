"""Who is present behind an edge that ends, refuses joins, or is entered twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import Gateway, PresenceEvent, RequestRefused, RoomManager, UsageError
from fastapi_rooms.testing import WebSocketClient, eventually
from tests.unit.gateway.support import Site


def telling(site: Site, told: list[str], *, one_worker: bool) -> RoomManager:
    """The manager of an application that knows who is present in `tea*`, and tells."""
    rooms = site.manager()
    presence = rooms.presence("tea*", grace=0)

    def tell(event: PresenceEvent) -> None:
        told.append(f"{event.kind} {event.room}")

    for kind in ("join", "leave"):
        presence.on(kind, one_worker=one_worker)(tell)
    return rooms


async def in_tea(rooms: RoomManager, websocket: WebSocket) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.join("tea")
        await socket.send_text("in")
        await socket.wait_closed()


async def test_who_leaves_as_their_edge_ends_is_told_of_however_slow_the_carrier(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    rooms = telling(site, told, one_worker=True)
    gateway = Gateway(site.manager(), routes={"/": "app"})
    async with gateway:
        await site.backend(in_tea, rooms)
        await eventually(lambda: rooms.node in gateway.backends)
        keeper = gateway.manager._runtime.presence.running
        change_rooms: Callable[..., Any] = keeper._adapter.change_rooms
        async with WebSocketClient(gateway, "/") as client:
            assert await client.receive() == "in"

            async def late(*args: object) -> None:
                await eventually(lambda: not gateway.manager.sids and not gateway._frames)
                await change_rooms(*args)

            monkeypatch.setattr(keeper._adapter, "change_rooms", late)
    await eventually(lambda: told == ["join tea", "leave tea"])


async def test_a_gateway_that_is_refused_does_not_harm_the_one_that_runs(site: Site) -> None:
    told: list[str] = []
    edge = await site.edge()
    with pytest.raises(UsageError, match="running already"):
        await edge.__aenter__()
    with pytest.raises(UsageError, match="Each needs a manager"):
        await Gateway(edge.manager, routes={"/": "app"}).__aenter__()
    backend = await site.backend(in_tea, telling(site, told, one_worker=True))
    with pytest.raises(UsageError, match="running already"):
        await backend.__aenter__()
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "in"
        await eventually(lambda: told == ["join tea"])


async def test_a_join_that_others_wanted_and_that_is_refused_leaves_nothing_in_the_backend(
    site: Site,
) -> None:
    told: list[str] = []
    rooms = telling(site, told, one_worker=False)
    edge = await site.edge(site.manager(max_rooms_per_socket=2))
    await site.backend(in_tea, rooms)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "in"
        heard = rooms._here.presences._heard
        assert heard == {"tea": 1}
        await rooms.to("tea").sockets_join("tea too")
        await eventually(lambda: set(heard) == {"tea", "tea too"})
        for number in range(3):
            with pytest.raises(RequestRefused):
                await rooms.to("tea").sockets_join(f"tea {number}")
        await eventually(lambda: set(heard) == {"tea", "tea too"})
        await rooms.to("tea").sockets_leave("tea too")
        await eventually(lambda: set(heard) == {"tea"})
    await eventually(lambda: not heard)
