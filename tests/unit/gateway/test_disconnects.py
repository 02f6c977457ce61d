"""Others disconnect a client of an edge, or are told of it, while its endpoint changes."""

from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import (
    Presence,
    PresenceEvent,
    RoomManager,
    Socket,
)
from fastapi_rooms.testing import WebSocketClient, eventually
from tests.unit.gateway.scene import Scene
from tests.unit.gateway.support import Site


@pytest.mark.parametrize("is_opened", [False, True])
async def test_a_client_that_others_disconnect_without_an_endpoint_is_closed_and_in_no_room(
    scene: Scene, *, is_opened: bool
) -> None:
    async def first(socket: Socket) -> None:
        await socket.join("tea")

    scene.inside = first
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        scene.may_enter.clear()
        await backend.close()
        if is_opened:
            await scene.backend()
            await eventually(lambda: scene.opened == 2)
        scene.told.clear()
        await scene.others.to("tea").disconnect_sockets(4000, "over")
        scene.may_enter.set()
        with pytest.raises(WebSocketDisconnect) as closed:
            await scene.client.receive()
        assert (closed.value.code, closed.value.reason) == (4000, "over")
        await eventually(lambda: scene.edge.clients == 0)
        assert not scene.others.sids
        assert scene.told == []


async def test_a_client_that_is_being_closed_does_not_come_in_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it has not taken what was sent to it, it is still there."""
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        scene.may_enter.clear()
        await backend.close()
        await scene.backend()
        await eventually(lambda: scene.opened == 2)
        found = scene.found()
        has_taken = asyncio.Event()

        async def slowly() -> bool:
            return await has_taken.wait()

        monkeypatch.setattr(type(found.block.transport), "flush", lambda _: slowly())
        await scene.others.to(scene.sid).disconnect_sockets(4000)
        scene.told.clear()
        scene.may_enter.set()
        await eventually(lambda: len(scene.sockets) == 2)
        assert scene.socket.is_lost
        assert not scene.others.sids
        has_taken.set()
        with pytest.raises(WebSocketDisconnect) as closed:
            await scene.client.receive()
        assert closed.value.code == 4000
        assert scene.told == []


async def test_who_comes_where_others_had_a_client_join_is_told_to_its_next_endpoint(
    site: Site,
) -> None:
    told: list[str] = []
    presences: list[Presence] = []

    def manager() -> RoomManager:
        rooms = site.manager()
        presence = rooms.presence("tea*", user="name", grace=0)
        presences.append(presence)

        @presence.on("join")
        def tell(event: PresenceEvent) -> None:
            told.append(event.user)

        return rooms

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        name = websocket.query_params["name"]
        async with rooms.connect(websocket, data={"name": name}) as socket:
            if name == "bob":
                await socket.join("tea")
            await socket.send_text(socket.sid)
            await socket.wait_closed()

    edge = await site.edge()
    first = await site.backend(endpoint, manager())
    async with WebSocketClient(edge, "/?name=ann") as ann:
        sid = str(await ann.receive())
        await first.close()
        await edge.manager.to(sid).sockets_join("tea")
        second = await site.backend(endpoint, manager())
        assert await ann.receive() == sid
        assert [each.user for each in (await presences[-1].users("tea")).users] == ["ann"]
        assert second.manager._here.presences._heard == {"tea": 1}
        async with WebSocketClient(edge, "/?name=bob") as bob:
            await bob.receive()
            await eventually(lambda: told == ["bob"])
        await edge.manager.to(sid).sockets_leave("tea")
        await eventually(lambda: not second.manager._here.presences._heard)
