"""What an endpoint does and what others do to its client at once: whichever comes first counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import (
    RoomManager,
    Socket,
    TooManyRooms,
)
from fastapi_rooms.gateway.sockets import EdgeSockets
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker.joins import Joins
from tests.unit.gateway.scene import Scene
from tests.unit.gateway.support import Site


def right_after(
    monkeypatch: pytest.MonkeyPatch, verb: str, do: Callable[[EdgeSockets], Awaitable[None]]
) -> None:
    """Have something done as soon as an edge has answered what an endpoint asks of it."""
    answer = EdgeSockets._answer

    async def answer_and_do(self: EdgeSockets, *asked: Any) -> None:
        await answer(self, *asked)
        if asked[1] == verb:
            await do(self)

    monkeypatch.setattr(EdgeSockets, "_answer", answer_and_do)


async def test_a_leave_by_others_that_follows_a_join_at_once_is_no_earlier_than_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leaves(sockets: EdgeSockets) -> None:
        found = sockets._by_namespace["/"]
        found.here.leave_crowd(found.here.alone(found.socket.sid), ("tea",))

    right_after(monkeypatch, "join", leaves)

    async def joins(socket: Socket) -> None:
        await socket.join("tea")

    scene.inside = joins
    await scene.backend()
    async with scene.client:
        await scene.is_in()
        await scene.heard_all()
        assert scene.held() == []
        assert scene.seen() == []
        assert scene.told == ["connect", "join tea", "leave tea"]


async def test_a_join_by_others_that_follows_the_entering_at_once_is_heard_of(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def joins(sockets: EdgeSockets) -> None:
        found = sockets._by_namespace["/"]
        await found.here.join_crowd(found.here.alone(found.socket.sid), ("tea",))

    right_after(monkeypatch, "enter", joins)
    await scene.backend()
    async with scene.client:
        await scene.is_in()
        await scene.heard_all()
        assert scene.seen() == ["tea"] == scene.held()


async def test_an_endpoint_that_leaves_before_it_hears_that_others_had_it_join_is_out(
    scene: Scene,
) -> None:
    async def leaves(socket: Socket) -> None:
        here = scene.others._here
        await here.join_crowd(here.alone(socket.sid), ("tea",))
        assert "tea" not in socket.rooms
        await socket.leave("tea")

    scene.inside = leaves
    await scene.backend()
    async with scene.client:
        await scene.is_in()
        await scene.heard_all()
        assert scene.seen() == [] == scene.held()
        assert scene.told == ["connect", "join tea", "leave tea"]


async def test_an_endpoint_that_leaves_before_it_hears_that_it_has_joined_is_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leaves(_: EdgeSockets) -> None:
        await scene.socket.leave("tea")

    right_after(monkeypatch, "join", leaves)

    async def joins(socket: Socket) -> None:
        await socket.join("tea", "bar")

    scene.inside = joins
    await scene.backend()
    async with scene.client:
        await scene.is_in()
        await scene.heard_all()
        assert scene.seen() == ["bar"] == scene.held()
        assert scene.told == ["connect", "join bar"]


@pytest.mark.parametrize("rooms", [["tea"], ["tea", "bar"]])
async def test_an_endpoint_that_leaves_what_it_is_not_yet_allowed_to_join_is_out(
    site: Site, rooms: list[str]
) -> None:
    may_join, asked = asyncio.Event(), asyncio.Event()
    manager = site.manager()

    @manager.authorize("*")
    async def may(_: Socket, room: str) -> bool:
        asked.set()
        await may_join.wait()
        return True

    sockets: list[Socket] = []

    async def endpoint(manager: RoomManager, websocket: WebSocket) -> None:
        async with manager.connect(websocket) as socket:
            sockets.append(socket)
            joining = asyncio.create_task(socket.join(*rooms))
            await asked.wait()
            await socket.leave("tea")
            may_join.set()
            await joining
            await socket.send_text("in")
            await socket.wait_closed()

    edge = await site.edge()
    await site.backend(endpoint, manager)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "in"
        assert {*sockets[0].rooms} == {sockets[0].sid, *rooms[1:]}
        assert "tea" not in edge.manager.rooms


async def test_a_join_that_fails_leaves_what_others_did_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = Joins.join

    async def others_come_first(self: Joins, socket: Socket, *asked: Any) -> Any:
        if "tea" not in asked[0]:
            return await join(self, socket, *asked)
        here = scene.others._here
        await here.join_crowd(here.alone(socket.sid), ("tea",))
        raise TooManyRooms(2, 1)

    monkeypatch.setattr(Joins, "join", others_come_first)

    async def joins(socket: Socket) -> None:
        with pytest.raises(TooManyRooms):
            await socket.join("tea")

    scene.inside = joins
    await scene.backend()
    async with scene.client:
        await scene.is_in()
        await scene.heard_all()
        assert scene.seen() == ["tea"] == scene.held()
        assert scene.told == ["connect", "join tea"]


@pytest.mark.usefixtures("brief")
async def test_what_an_endpoint_fails_to_join_again_is_left_as_what_it_does_not_join(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(socket: Socket) -> None:
        await socket.join("own")

    scene.inside = first
    backend = await scene.backend()
    async with scene.client:
        await scene.is_in()
        await backend.close()
        join = Joins.join

        async def fails_late(self: Joins, socket: Socket, *asked: Any) -> Any:
            if "other" not in asked[0]:
                return await join(self, socket, *asked)
            found = scene.found()
            await eventually(lambda: found.grace is None)
            raise TooManyRooms(2, 1)

        monkeypatch.setattr(Joins, "join", fails_late)

        async def again(socket: Socket) -> None:
            with pytest.raises(TooManyRooms):
                await socket.join("own", "other")

        scene.inside = again
        await scene.backend()
        await scene.is_in()
        await eventually(lambda: scene.held() == [])
