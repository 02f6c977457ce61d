"""What others do to a client's sockets while its endpoint changes, and what that hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import (
    Backend,
    Gateway,
    Presence,
    PresenceEvent,
    RoomManager,
    Socket,
    TooManyRooms,
)
from fastapi_rooms.gateway.socket import EdgeSocket, owner_of
from fastapi_rooms.gateway.sockets import EdgeSockets
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker.joins import Joins
from tests.unit.gateway.support import Site


async def nothing(_: Socket) -> None:
    """Joins nothing."""


class Scene:
    """An edge, its one client, and whatever backends that has one after the other."""

    def __init__(self, site: Site, edge: Gateway) -> None:
        self._site = site
        self.edge = edge
        self.client = WebSocketClient(edge, "/")
        self.sockets: list[Socket] = []
        """Those of the endpoints."""
        self.told: list[str] = []
        """What handlers in backends were told."""
        self.opened = 0
        self.may_enter = asyncio.Event()
        self.may_enter.set()
        self.inside: Callable[[Socket], Awaitable[None]] = nothing
        """What an endpoint does, once it has entered."""
        self.namespaces = ["/"]

    @property
    def socket(self) -> Socket:
        """That of the last endpoint."""
        return self.sockets[-1]

    @property
    def sid(self) -> str:
        return self.socket.sid

    @property
    def others(self) -> RoomManager:
        """Whoever is not the endpoint."""
        return self.edge.manager

    def seen(self) -> list[str]:
        """The rooms in which the endpoint sees its client."""
        return [room for room in self.socket.rooms if room != self.sid]

    def held(self, namespace: str = "/") -> list[str]:
        """The rooms in which the edge has it."""
        sids = self.others.of(namespace).sids
        return sorted(room for room in sids.get(self.sid, ()) if room != self.sid)

    def found(self) -> EdgeSocket:
        """What the edge has of the socket."""
        found = owner_of(self.others._here.clients[self.sid].socket)
        assert found is not None
        return found

    async def backend(self) -> Backend:
        """One more, whose endpoint is in once this returns, if it may."""
        rooms = self._site.manager()
        rooms.on("connect")(lambda _: self.told.append("connect"))
        for name in self.namespaces:
            for event in ("join-room", "leave-room"):
                rooms.of(name).on(event)(self._tell(event.removesuffix("-room")))
        return await self._site.backend(self._endpoint, rooms)

    def _tell(self, event: str) -> Callable[[str, Socket], None]:
        return lambda room, _: self.told.append(f"{event} {room}")

    async def _endpoint(self, rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        self.opened += 1
        await self.may_enter.wait()
        async with rooms.connect(websocket) as socket:
            for name in self.namespaces[1:]:
                await rooms.of(name).connect(websocket).__aenter__()
            self.sockets.append(socket)
            await self.inside(socket)
            await socket.send_text("in")
            async for text in socket.iter_text():
                await socket.send_text(text)

    async def is_in(self) -> None:
        """Return when the next endpoint has entered."""
        assert await self.client.receive() == "in"

    async def heard_all(self) -> None:
        """Return when the endpoint has heard what the edge has told before."""
        await self.client.send_text("heard?")
        assert await self.client.receive() == "heard?"


@pytest.fixture
async def scene(site: Site) -> Scene:
    return Scene(site, await site.edge())


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the next endpoint does not join is left soon."""
    monkeypatch.setattr("fastapi_rooms.gateway.socket.GRACE", 0.05)


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


async def test_a_leave_by_others_that_follows_a_join_at_once_is_no_earlier_than_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = EdgeSockets._answer

    async def left_at_once(self: EdgeSockets, *asked: Any) -> None:
        await answer(self, *asked)
        if asked[1] == "join":
            found = self._by_namespace["/"]
            found.here.leave_crowd(found.here.alone(found.socket.sid), ("tea",))

    monkeypatch.setattr(EdgeSockets, "_answer", left_at_once)

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
    answer = EdgeSockets._answer

    async def joined_at_once(self: EdgeSockets, *asked: Any) -> None:
        await answer(self, *asked)
        if asked[1] == "enter":
            found = self._by_namespace["/"]
            await found.here.join_crowd(found.here.alone(found.socket.sid), ("tea",))

    monkeypatch.setattr(EdgeSockets, "_answer", joined_at_once)
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
    answer = EdgeSockets._answer

    async def left_at_once(self: EdgeSockets, *asked: Any) -> None:
        await answer(self, *asked)
        if asked[1] == "join":
            await scene.socket.leave("tea")

    monkeypatch.setattr(EdgeSockets, "_answer", left_at_once)

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
