"""A connection that is lost: its socket is in no room at once, whatever its endpoint does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import AdapterUnavailable, Namespace, RoomManager, Socket
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker.connection import Connection
from tests.unit.support import FakeAdapter, app_of, channel_of
from tests.unit.worker.support import nothing_is_left, until_gone


class Pushing:
    """An endpoint that does not read, and has its connection lost as a server would tell it."""

    def __init__(self, rooms: Namespace, *names: str, sid: str | None = None) -> None:
        self.app = app_of(self._endpoint)
        self.connections: list[Connection] = []
        self.sockets: list[Socket] = []
        self.may_join, self.may_end = asyncio.Event(), asyncio.Event()
        self.joined = self.ended = 0
        self._rooms = rooms
        self._names = names
        self._sid = sid
        if not names:
            self.may_join.set()

    async def _endpoint(self, websocket: WebSocket) -> None:
        self.connections.append(self._rooms.connect(websocket, sid=self._sid))
        async with self.connections[-1] as socket:
            self.sockets.append(socket)
            await self.may_join.wait()
            await socket.join(*self._names)
            self.joined += 1
            await self.may_end.wait()
        self.ended += 1


async def test_its_socket_has_left_and_its_endpoint_goes_on(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    rooms.on("leave-room")(lambda room, socket: told.append((room, socket.sid)))
    rooms.on("disconnect")(lambda socket: told.append(socket.is_lost))
    pushing = Pushing(rooms, "lobby", sid="ann")
    pushing.may_join.set()
    async with WebSocketClient(pushing.app):
        await eventually(lambda: pushing.joined)
        [connection], [socket] = pushing.connections, pushing.sockets
        assert [socket.is_lost] == [False]
        connection.lost()
        assert socket.is_lost
        assert not rooms.rooms
        assert not rooms.sids
        assert socket.rooms == set()
        assert told == [("lobby", "ann"), True]
        assert await rooms.count() == 0

        adapter.hold()  # nobody asks it
        await socket.join("lobby")
        await socket.leave("lobby")
        await socket.disconnect(4001)
        with pytest.raises(WebSocketDisconnect) as gone:
            await socket.send_text("are you there?")
        assert gone.value.socket is socket  # type: ignore[attr-defined]
        adapter.release()
        connection.lost()
        assert not rooms.rooms
        assert len(told) == 2, "told once"
        assert not pushing.ended
        pushing.may_end.set()
        await eventually(lambda: pushing.ended)
    assert len(told) == 2
    assert not caplog.records
    await nothing_is_left(rooms, adapter)


async def test_lost_while_it_comes_in_it_is_in_for_no_time(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    told: list[str] = []
    rooms.on("connect")(lambda _: told.append("connect"))
    rooms.on("disconnect")(lambda _: told.append("disconnect"))
    pushing = Pushing(rooms)
    adapter.hold()
    async with WebSocketClient(pushing.app):
        await eventually(lambda: adapter.waiting)
        pushing.connections[0].lost()
        adapter.release()
        await eventually(lambda: pushing.joined)
        assert not rooms.sids
        assert told == ["connect", "disconnect"]
        pushing.may_end.set()
    assert told == ["connect", "disconnect"]
    await nothing_is_left(rooms, adapter)


async def test_lost_while_it_comes_in_it_is_not_turned_away_as_well(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    pushing = Pushing(rooms)
    adapter.hold()
    async with WebSocketClient(pushing.app) as client:
        await eventually(lambda: adapter.waiting)
        client.leave(1006)
        pushing.connections[0].lost()
        adapter.subscribe_error = AdapterUnavailable("Redis is away")
        adapter.release()
        await client.wait_ended()  # by what the server raises, which the server does not log
    assert not pushing.sockets
    await nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("waits_for", ["the adapter", "authorization"])
async def test_lost_while_it_joins_it_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter, waits_for: str
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    pushing = Pushing(rooms, "lobby", "bar")
    async with WebSocketClient(pushing.app):
        await eventually(lambda: pushing.sockets)
        if waits_for == "authorization":

            @rooms.authorize("lobby")
            async def allow(socket: Socket, room: str) -> bool:
                asked.set()
                return await answer.wait()

            pushing.may_join.set()
            await asked.wait()
        else:
            adapter.hold()
            pushing.may_join.set()
            await eventually(lambda: adapter.waiting)
        pushing.connections[0].lost()
        answer.set()
        adapter.release()
        await eventually(lambda: pushing.joined)
        assert not rooms.rooms
        pushing.may_end.set()
    await nothing_is_left(rooms, adapter)


async def test_lost_while_it_joins_in_vain_its_block_ends_quietly(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    pushing = Pushing(rooms, "lobby")
    async with WebSocketClient(pushing.app) as client:
        await eventually(lambda: pushing.sockets)
        adapter.hold()
        pushing.may_join.set()
        await eventually(lambda: adapter.waiting)
        client.leave(1006)
        pushing.connections[0].lost()
        adapter.subscribe_error = AdapterUnavailable("Redis is away")
        adapter.release()
        await client.wait_ended()
    assert pushing.ended
    await nothing_is_left(rooms, adapter)


async def test_its_sid_is_free_and_the_old_endpoint_does_not_touch_who_has_it_then(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    pushing = Pushing(rooms, "lobby", sid="ann")
    pushing.may_join.set()
    async with WebSocketClient(pushing.app) as old:
        await eventually(lambda: pushing.joined)
        pushing.connections[0].lost()
        async with WebSocketClient(pushing.app) as new:
            await eventually(lambda: pushing.joined == 2)
            former, present = pushing.sockets
            pushing.connections[0].lost()
            await former.join("bar")
            await former.leave("lobby")
            await former.disconnect(4001)
            assert former.rooms == set()
            assert present.rooms == {"ann", "lobby"}
            with pytest.raises(WebSocketDisconnect):
                await former.send_text("to whom?")
            old.leave()
            pushing.may_end.set()
            await old.wait_ended()
            assert await new.wait_closed() == 1000
    await nothing_is_left(rooms, adapter)


async def test_the_old_endpoints_end_leaves_the_new_one_in(rooms: RoomManager) -> None:
    old, new = (Pushing(rooms, "lobby", sid="ann") for _ in range(2))
    old.may_join.set()
    new.may_join.set()
    async with WebSocketClient(old.app) as client:
        await eventually(lambda: old.joined)
        old.connections[0].lost()
        async with WebSocketClient(new.app):
            await eventually(lambda: new.joined)
            old.may_end.set()
            await client.wait_ended()
            assert rooms.rooms == {"ann": {"ann"}, "lobby": {"ann"}}
            await rooms.to("ann").send_text("you")
            new.may_end.set()


async def test_a_disconnect_that_is_under_way_ends_with_it(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    pushing = Pushing(rooms, "lobby")
    pushing.may_join.set()
    async with WebSocketClient(pushing.app) as client:
        await eventually(lambda: pushing.joined)
        disconnecting = asyncio.create_task(pushing.sockets[0].disconnect(4001))
        client.leave(1006)
        pushing.connections[0].lost()
        await disconnecting
        pushing.may_end.set()
        await client.wait_ended()
    await nothing_is_left(rooms, adapter)


async def test_what_was_read_before_is_answered_to_nobody_also_where_a_server_would_take_it(
    rooms: RoomManager,
) -> None:
    after: list[str] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await until_gone(socket)
            assert socket.is_lost
            with pytest.raises(WebSocketDisconnect):
                await socket.send_text("so long")
            with pytest.raises(WebSocketDisconnect):
                await socket.receive_text()
            after.append("went on")

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: rooms.sids)
        client.leave()
        client._gone = False  # as on a server that drops what is sent too late
        await client.wait_ended()
    assert after == ["went on"]


class InTwo:
    """An endpoint in two namespaces by one WebSocket, which reads by one of the sockets or none."""

    def __init__(self, outer: Namespace, inner: Namespace, reads: str = "") -> None:
        self.app = app_of(self._endpoint)
        self.sockets: dict[str, Socket] = {}
        self.connections: dict[str, Connection] = {}
        self.may_end = asyncio.Event()
        self.ended: list[str] = []
        self._namespaces = {"outer": outer, "inner": inner}
        self._reads = reads

    async def _endpoint(self, websocket: WebSocket) -> None:
        self.connections = {
            name: namespace.connect(websocket) for name, namespace in self._namespaces.items()
        }
        async with self.connections["outer"] as outer:
            async with self.connections["inner"] as inner:
                await inner.join("lobby")
                await outer.join("lobby")
                self.sockets = {"outer": outer, "inner": inner}
                if self._reads:
                    await until_gone(self.sockets[self._reads])
                await self.may_end.wait()
            self.ended.append("inner")
        self.ended.append("outer")


@pytest.mark.parametrize("tells", ["outer", "inner"])
@pytest.mark.parametrize("same", [False, True])
async def test_all_sockets_of_a_websocket_are_lost_with_it(
    rooms: RoomManager, adapter: FakeAdapter, tells: str, same: bool
) -> None:
    chat = rooms if same else rooms.of("/chat")
    two = InTwo(rooms, chat)
    async with WebSocketClient(two.app):
        await eventually(lambda: two.sockets)
        assert len(rooms.rooms["lobby"]) == (2 if same else 1)
        two.connections[tells].lost()
        assert not rooms.sids
        assert not chat.sids
        assert two.sockets["inner"].is_lost
        assert two.sockets["outer"].is_lost
        two.may_end.set()
    assert two.ended == ["inner", "outer"]
    await nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("reads", ["outer", "inner"])
async def test_all_sockets_of_a_websocket_are_lost_when_one_reads_it(
    rooms: RoomManager, reads: str
) -> None:
    chat = rooms.of("/chat")
    two = InTwo(rooms, chat, reads)
    async with WebSocketClient(two.app) as client:
        await eventually(lambda: two.sockets)
        client.leave()
        await eventually(lambda: not rooms.sids and not chat.sids)
        two.may_end.set()
        await client.wait_ended()


@pytest.mark.parametrize("one", ["outer", "inner"])
async def test_a_websocket_that_is_closed_by_one_of_its_sockets_is_closed_for_all(
    rooms: RoomManager, one: str
) -> None:
    chat = rooms.of("/chat")
    two = InTwo(rooms, chat)
    async with WebSocketClient(two.app) as client:
        await eventually(lambda: two.sockets)
        await two.sockets[one].disconnect(4001)
        assert await client.wait_closed() == 4001
        await eventually(lambda: not rooms.sids and not chat.sids)
        two.may_end.set()
        await client.wait_ended()
    assert two.ended == ["inner", "outer"]


async def test_a_websocket_is_in_one_block_after_the_other(rooms: RoomManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        for number in range(2):
            async with rooms.connect(websocket, sid="ann") as socket:
                await socket.send_text(str(number))
                await socket.receive_text()
        await websocket.close(4000)

    async with WebSocketClient(app_of(endpoint)) as client:
        for number in range(2):
            assert await client.receive_text() == str(number)
            assert rooms.sids == {"ann": {"ann"}}
            await client.send_text("next")
        assert await client.wait_closed() == 4000
    assert not rooms.sids


async def test_its_channels_are_released_once(rooms: RoomManager, adapter: FakeAdapter) -> None:
    pushing = Pushing(rooms, "lobby")
    pushing.may_join.set()
    other = Pushing(rooms, "lobby")
    other.may_join.set()
    async with WebSocketClient(other.app):
        await eventually(lambda: other.joined)
        async with WebSocketClient(pushing.app):
            await eventually(lambda: pushing.joined)
            pushing.connections[0].lost()
            pushing.may_end.set()
        await eventually(lambda: len(adapter.subscribed) == 3)
        assert channel_of("lobby") in adapter.subscribed, "the other one is still there"
        other.may_end.set()
    await nothing_is_left(rooms, adapter)
