"""The sockets that a client has at its edge, and what a backend can have done to them."""

from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.gateway import sockets
from fastapi_rooms.gateway.sockets import EdgeSockets
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire.gateway import FrameKind
from tests.unit.gateway.entered import entered
from tests.unit.gateway.support import Site


class Door:
    """Has every join at an edge wait until it is opened."""

    def __init__(self, rooms: RoomManager) -> None:
        self.open = asyncio.Event()
        self.asked: list[str] = []
        rooms.authorize("*")(self._authorize)

    async def _authorize(self, socket: Socket, room: str) -> bool:
        self.asked.append(room)
        await self.open.wait()
        return True


async def greets(rooms: RoomManager, websocket: WebSocket) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.send_text("next")
        await socket.wait_closed()


async def test_the_next_endpoint_begins_when_what_the_last_has_asked_for_is_done(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[object] = []
    settled = EdgeSockets.settled

    async def settles(found: EdgeSockets) -> None:
        waits.append(found)
        await settled(found)

    monkeypatch.setattr(EdgeSockets, "settled", settles)
    edge = await site.edge()
    door = Door(edge.manager)
    async with entered(site, edge) as here:
        await site.backend(greets)
        here.ask("join", rooms=["tea"])
        await eventually(lambda: door.asked == ["tea"])
        here.say((FrameKind.RESET, b""))
        await eventually(lambda: len(waits) == 2)
        assert not edge._conversations
        door.open.set()
        assert await here.client.receive() == "next"
        assert "tea" in edge.manager.rooms


async def test_a_join_ends_with_the_client_that_it_is_for(site: Site) -> None:
    edge = await site.edge()
    door = Door(edge.manager)
    async with entered(site, edge) as here:
        here.ask("join", rooms=["tea"])
        await eventually(lambda: door.asked == ["tea"])
    assert edge.manager.rooms == {}
    assert edge.clients == 0


async def test_only_so_many_joins_of_a_client_are_under_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MAX_JOINS", 2)
    edge = await site.edge()
    door = Door(edge.manager)
    async with entered(site, edge) as here:
        _, _, last = [here.ask("join", rooms=[room]) for room in ("a", "b", "c")]
        await eventually(lambda: len(door.asked) == 2)
        (conversation,) = edge._conversations.values()
        await eventually(lambda: not conversation._frames)  # the third has come
        assert door.asked == ["a", "b"]
        door.open.set()
        await here.reply(last)
        assert edge.manager.rooms.keys() >= {"a", "b", "c"}


@pytest.mark.parametrize("kind", [FrameKind.TEXT, FrameKind.BYTES])
async def test_a_message_for_which_there_is_no_room_yet_keeps_its_place(
    site: Site, kind: FrameKind
) -> None:
    edge = await site.edge(site.manager(outbox=OutboxPolicy(max_bytes=1000)))
    async with entered(site, edge) as here:
        here.client.stall()
        sizes = [600, 1, 600]
        here.say(*((kind, b"x" * size) for size in sizes))
        (conversation,) = edge._conversations.values()
        await eventually(lambda: len(conversation._frames) == len(sizes) - 1)
        here.client.resume()
        assert [len(await here.client.receive()) for _ in sizes] == sizes


async def test_what_has_left_joins_nothing_and_may_leave_again(site: Site) -> None:
    edge = await site.edge()
    async with entered(site, edge) as here:
        await here.reply(here.ask("exit"))
        refused = await here.reply(here.ask("join", rooms=["tea"]))
        assert refused["error"] == "closed"
        left = here.ask("leave", rooms=["tea"])
        assert await here.reply(left) == {"id": left}


async def test_a_client_may_be_in_so_many_namespaces(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MAX_NAMESPACES", 2)
    edge = await site.edge()
    async with entered(site, edge) as here:
        for name, refused in (("/a", False), ("/b", True), ("/a", False)):
            number = here.ask("enter", namespace=name, sid=f"of {name}", data={})
            assert (await here.reply(number)).get("error") == ("usage" if refused else None)
        assert await here.reply(here.ask("exit", namespace="/a"))
        again = here.ask("enter", namespace="/b", sid="b", data={})
        assert "error" not in await here.reply(again)


@pytest.mark.parametrize("is_in", [True, False])
async def test_a_text_that_is_no_text_costs_its_backend_the_client(site: Site, is_in: bool) -> None:
    edge = await site.edge()
    async with entered(site, edge, enters=is_in) as here:
        await site.backend(greets)
        here.say((FrameKind.TEXT, b"\xff"))
        await here.is_lost()
        assert edge.frames.malformed == 1
        assert await here.client.receive() == "next"
