"""Rooms that others have a client of an edge join and leave while its endpoint changes."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import (
    RoomManager,
    Socket,
)
from fastapi_rooms.testing import WebSocketClient, eventually
from tests.unit.gateway.scene import Scene, nothing
from tests.unit.gateway.support import Site


@pytest.mark.usefixtures("brief")
async def test_a_room_that_others_had_it_join_without_an_endpoint_stays_and_is_told_to_each(
    scene: Scene,
) -> None:
    async def first(socket: Socket) -> None:
        await socket.join("own")

    scene.inside = first
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        for number in range(2):  # two backends in a row
            await backend.close()
            await scene.others.to(scene.sid).sockets_join(f"between {number}")
            scene.told.clear()
            scene.inside = nothing
            backend = await scene.backend()
            await scene.is_in()
            given = [f"between {number}" for number in range(number + 1)]
            assert scene.seen() == given
            assert scene.told == ["connect", *(f"join {room}" for room in given)]
            await eventually(lambda: "own" not in scene.others.rooms)
            assert scene.held() == given
        await scene.others.to(scene.sid).sockets_leave("between 0")
        await eventually(lambda: scene.seen() == ["between 1"])
        assert scene.told[-1] == "leave between 0"


async def test_what_changes_between_the_opening_and_the_entering_is_told_once(scene: Scene) -> None:
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        await scene.others.to(scene.sid).sockets_join("before", "gone")
        await eventually(lambda: len(scene.seen()) == 2)
        scene.may_enter.clear()
        await backend.close()
        await scene.backend()
        await eventually(lambda: scene.opened == 2)
        scene.told.clear()
        whom = scene.others.to(scene.sid)
        await whom.sockets_join("between", "fleeting")
        await whom.sockets_leave("gone", "fleeting")
        scene.may_enter.set()
        await scene.is_in()
        assert scene.seen() == ["before", "between"] == scene.held()
        await whom.sockets_join("after")
        await whom.sockets_leave("before")
        await scene.heard_all()
        assert scene.seen() == ["between", "after"]
        assert scene.told == [
            "connect",
            "join before",
            "join between",
            "join after",
            "leave before",
        ]


async def test_a_first_endpoint_that_has_not_entered_is_in_no_room_of_others(scene: Scene) -> None:
    scene.may_enter.clear()
    await scene.backend()
    async with scene.client:
        await eventually(lambda: scene.opened == 1)
        await scene.others.sockets_join("all")
        scene.may_enter.set()
        await scene.is_in()
        await scene.others.sockets_join("everyone")
        await scene.heard_all()
        assert scene.seen() == ["everyone"] == scene.held()


@pytest.mark.usefixtures("brief")
async def test_a_room_is_others_if_they_were_the_last_to_have_it_joined(scene: Scene) -> None:
    async def first(socket: Socket) -> None:
        await socket.join("shared", "own")

    scene.inside = first
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        await scene.others.to(scene.sid).sockets_join("shared")
        await backend.close()
        scene.inside = nothing
        backend = await scene.backend()
        await scene.is_in()
        await eventually(lambda: scene.held() == ["shared"])
        assert scene.seen() == ["shared"]

        async def claims(socket: Socket) -> None:
            await socket.join("shared")

        await backend.close()
        scene.inside = claims
        backend = await scene.backend()
        await scene.is_in()
        await backend.close()
        scene.inside = nothing
        await scene.backend()
        await scene.is_in()
        assert scene.seen() == []
        await eventually(lambda: scene.held() == [])


async def test_a_room_that_was_left_and_joined_by_others_is_not_tidied_as_the_earlier_endpoints(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.gateway.socket.GRACE", 0.2)

    async def first(socket: Socket) -> None:
        await socket.join("tea", "own")

    scene.inside = first
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        await backend.close()
        scene.inside = nothing
        await scene.backend()
        await scene.is_in()
        await scene.others.to(scene.sid).sockets_leave("tea")
        await scene.others.to(scene.sid).sockets_join("tea")
        await eventually(lambda: scene.held() == ["tea"])
        await scene.heard_all()
        assert scene.seen() == ["tea"]


async def test_an_endpoint_may_join_with_a_history_where_others_had_it_join(scene: Scene) -> None:
    joined: list[Any] = []
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        await backend.close()
        await scene.others.to(scene.sid).sockets_join("chat-tea", "chat-bar")

        async def again(socket: Socket) -> None:
            position = socket.position("chat-tea")
            joined.append(await socket.join("chat-tea", recent=10))
            joined.append(await socket.join("chat-bar", since="a position from before"))
            assert position == joined[0].positions["chat-tea"]

        scene.inside = again
        scene.told.clear()
        await scene.backend()
        await scene.is_in()
        assert [each.recovered for each in joined] == [None, False]
        assert [each.replayed for each in joined] == [0, 0]
        assert scene.told == ["connect", "join chat-tea", "join chat-bar"]
        assert scene.seen() == ["chat-tea", "chat-bar"]


async def test_a_room_is_taken_out_of_others_hands_by_no_more_than_a_worker_would_ask(
    site: Site,
) -> None:
    """Where others had a socket join, its endpoint is not authorized to, and has room for it."""
    asked: list[str] = []
    sids: list[str] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sids.append(socket.sid)
            if socket.attempt:
                await socket.join("given 0", "given 1")
                await socket.join("own")
            await socket.send_text("in")
            await socket.wait_closed()

    def manager() -> RoomManager:
        rooms = site.manager(max_rooms_per_socket=3)

        @rooms.authorize("*")
        def may(_: Socket, room: str) -> bool:
            asked.append(room)
            return True

        return rooms

    edge = await site.edge(site.manager(max_rooms_per_socket=3))
    first = await site.backend(endpoint, manager())
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "in"
        await first.close()
        await edge.manager.to(sids[0]).sockets_join("given 0", "given 1")
        await site.backend(endpoint, manager())
        assert await client.receive() == "in"
        assert asked == ["own"]
        assert len(edge.manager.sids[sids[0]]) == 4


async def test_rooms_of_others_are_told_in_as_many_frames_as_it_takes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.gateway.socket.TOLD_AT_ONCE", 2)
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        await backend.close()
        rooms = [f"room {number}" for number in range(5)]
        await scene.others.to(scene.sid).sockets_join(*rooms)
        await scene.backend()
        await scene.is_in()
        assert scene.seen() == rooms


@pytest.mark.usefixtures("brief")
async def test_each_namespace_has_its_own_rooms_and_one_that_is_not_entered_is_tidied_too(
    scene: Scene,
) -> None:
    scene.namespaces = ["/", "/other"]
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        other = scene.others.of("/other")
        await other.to(scene.sid).sockets_join("here")
        await backend.close()
        await other.to(scene.sid).sockets_join("there")
        await scene.others.to(scene.sid).sockets_join("main")
        scene.told.clear()
        backend = await scene.backend()
        await scene.is_in()
        assert scene.told == ["connect", "join main", "join here", "join there"]
        assert scene.seen() == ["main"]

        async def joins_elsewhere(socket: Socket) -> None:
            host: Any = socket.websocket.scope["fastapi_rooms.connections"][1]
            await host.socket.join("own")

        await backend.close()
        scene.inside = joins_elsewhere
        backend = await scene.backend()
        await scene.is_in()
        assert scene.held("/other") == ["here", "own", "there"]
        await backend.close()
        scene.inside, scene.namespaces = nothing, ["/"]
        await scene.backend()
        await scene.is_in()
        await eventually(lambda: scene.held("/other") == ["here", "there"])
