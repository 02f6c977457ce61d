"""Joins that wait, for a handler or the adapter, and what happens to their sockets meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fastapi_rooms import (
    JoinRefused,
    RoomManager,
    ShuttingDown,
    Socket,
    SocketClosed,
    TooManyRooms,
    concurrency,
)
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Request
from fastapi_rooms.wire.verbs import Verb
from fastapi_rooms.worker.pending_joins import PendingJoins
from tests.unit.support import OTHER_NODE, WORKERS, FakeAdapter, channel_of


class Handler:
    """Allows every join, once the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = asyncio.Event()

    async def __call__(self, socket: Socket, room: str) -> bool:
        self.asked.append(room)
        return await self.answer.wait()


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    async with RoomManager(adapter, linger=0) as rooms:
        yield rooms


@pytest.fixture
def handler(rooms: RoomManager) -> Handler:
    """Asked about every room whose name begins with `slow-`."""
    handler = Handler()
    rooms.authorize("slow-*")(handler)
    return handler


@pytest.fixture
async def ann(rooms: RoomManager) -> AsyncIterator[Socket]:
    async with Member(rooms, "user:ann", sid="ann") as ann:
        yield ann.socket


Leave = Callable[[RoomManager, Socket], Awaitable[None]]


async def by_itself(rooms: RoomManager, socket: Socket) -> None:
    await socket.leave("tea")


async def by_its_user(rooms: RoomManager, socket: Socket) -> None:
    await rooms.local.to("user:ann").sockets_leave("tea")


async def by_the_room(rooms: RoomManager, socket: Socket) -> None:
    await rooms.local.to("tea").sockets_leave("tea")


leaves = pytest.mark.parametrize("leave", [by_itself, by_its_user, by_the_room])


@leaves
async def test_a_room_that_is_left_while_a_handler_is_asked_is_not_joined(
    rooms: RoomManager, adapter: FakeAdapter, handler: Handler, ann: Socket, leave: Leave
) -> None:
    join = asyncio.create_task(ann.join("tea", "slow-room"))
    await eventually(lambda: handler.asked)
    await leave(rooms, ann)
    handler.answer.set()
    await join
    assert ann.rooms == {"ann", "user:ann", "slow-room"}
    assert channel_of("tea") not in adapter.subscribed


@leaves
async def test_a_room_that_is_left_while_the_adapter_is_asked_is_not_joined(
    rooms: RoomManager, adapter: FakeAdapter, ann: Socket, leave: Leave
) -> None:
    adapter.hold()
    join = asyncio.create_task(ann.join("tea", "bar"))
    await eventually(lambda: adapter.waiting)
    await leave(rooms, ann)
    adapter.release()
    await join
    assert ann.rooms == {"ann", "user:ann", "bar"}
    await eventually(lambda: channel_of("tea") not in adapter.subscribed)
    assert channel_of("bar") in adapter.subscribed


@leaves
async def test_a_room_that_it_was_in_and_has_left_meanwhile_is_not_joined_unasked(
    rooms: RoomManager, handler: Handler, ann: Socket, leave: Leave
) -> None:
    await ann.join("tea")
    join = asyncio.create_task(ann.join("tea", "slow-room"))
    await eventually(lambda: handler.asked)
    await leave(rooms, ann)
    handler.answer.set()
    await join
    assert ann.rooms == {"ann", "user:ann", "slow-room"}


async def test_a_right_is_withdrawn_by_a_room_that_the_same_join_is_for(
    rooms: RoomManager, adapter: FakeAdapter, handler: Handler
) -> None:
    async with Member(rooms, sid="bob") as bob:
        join = asyncio.create_task(bob.socket.join("user:bob", "tea", "slow-room"))
        await eventually(lambda: handler.asked)
        await rooms.local.to("user:bob").sockets_leave("tea")
        handler.answer.set()
        await join
        assert bob.socket.rooms == {"bob", "user:bob", "slow-room"}


async def test_one_that_is_excepted_joins_all_the_same(
    rooms: RoomManager, handler: Handler, ann: Socket
) -> None:
    join = asyncio.create_task(ann.join("tea", "slow-room"))
    await eventually(lambda: handler.asked)
    await rooms.local.to("tea").except_("user:ann").sockets_leave("tea")
    await rooms.local.to("bar").sockets_leave("tea")
    handler.answer.set()
    await join
    assert ann.rooms == {"ann", "user:ann", "tea", "slow-room"}


async def test_disconnecting_a_room_closes_who_is_on_the_way_into_it(
    rooms: RoomManager, adapter: FakeAdapter, handler: Handler
) -> None:
    async with Member(rooms, sid="bob") as bob:
        join = asyncio.create_task(bob.socket.join("slow-room"))
        await eventually(lambda: handler.asked)
        await rooms.local.to("slow-room").disconnect_sockets(4003)
        handler.answer.set()
        with pytest.raises(SocketClosed):
            await join
        assert await bob.wait_closed() == 4003
    assert not rooms.rooms
    assert channel_of("slow-room") not in adapter.subscribed


async def test_who_is_on_the_way_into_a_room_is_not_counted_in_it(
    rooms: RoomManager, handler: Handler, ann: Socket
) -> None:
    join = asyncio.create_task(ann.join("slow-room"))
    await eventually(lambda: handler.asked)
    assert await rooms.local.to("slow-room").count() == 0
    await rooms.local.to("slow-room").sockets_join("elsewhere")
    handler.answer.set()
    await join
    assert await rooms.local.to("slow-room").count() == 1
    assert "elsewhere" not in ann.rooms


async def test_a_join_that_is_asked_for_after_the_leave_is_one(
    rooms: RoomManager, adapter: FakeAdapter, ann: Socket
) -> None:
    adapter.hold()
    first = asyncio.create_task(ann.join("tea"))
    await eventually(lambda: adapter.waiting == 1)
    await ann.leave("tea")
    second = asyncio.create_task(ann.join("tea"))
    await eventually(lambda: adapter.waiting == 2)
    adapter.release()
    await asyncio.gather(first, second)
    assert "tea" in ann.rooms
    await ann.leave("tea")
    await eventually(lambda: channel_of("tea") not in adapter.subscribed)


async def test_a_handler_can_take_the_socket_out_of_what_the_same_join_names(
    rooms: RoomManager, adapter: FakeAdapter, ann: Socket
) -> None:
    @rooms.authorize("new-*")
    async def one_at_a_time(socket: Socket, room: str) -> bool:
        await socket.leave(*(other for other in ("new-tea", "new-bar") if other != room))
        return True

    await ann.join("new-tea", "new-bar")  # tea's takes bar, bar's takes tea
    assert ann.rooms == {"ann", "user:ann"}
    await ann.join("new-tea")
    await ann.join("new-bar")
    assert ann.rooms == {"ann", "user:ann", "new-bar"}


async def test_a_leave_does_not_spare_the_question(
    rooms: RoomManager, handler: Handler, ann: Socket
) -> None:
    rooms.authorize("secret")(lambda socket, room: False)
    join = asyncio.create_task(ann.join("slow-room", "secret"))
    await eventually(lambda: handler.asked)
    await ann.leave("secret")
    handler.answer.set()
    with pytest.raises(JoinRefused):
        await join
    assert ann.rooms == {"ann", "user:ann"}


async def test_sockets_that_leave_while_they_are_being_joined_stay_out(
    rooms: RoomManager, adapter: FakeAdapter, ann: Socket
) -> None:
    async with Member(rooms, "user:bob", sid="bob") as bob:
        adapter.hold()
        join = asyncio.create_task(rooms.local.sockets_join("tea", "bar"))
        await eventually(lambda: adapter.waiting)
        await rooms.local.to("user:ann").sockets_leave("tea")
        adapter.release()
        await join
        assert ann.rooms == {"ann", "user:ann", "bar"}
        assert bob.socket.rooms == {"bob", "user:bob", "bar", "tea"}


async def test_sockets_whose_turn_has_not_come_can_leave_what_others_have_joined(
    rooms: RoomManager, ann: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "SLICE", 1)
    leaves: list[asyncio.Task[None]] = []

    @rooms.on("join-room")
    def close_the_room(room: str, socket: Socket) -> None:
        leaves.append(asyncio.create_task(rooms.local.to("tea").sockets_leave("tea")))

    async with Member(rooms, sid="bob") as bob:
        await rooms.local.sockets_join("tea")
        await asyncio.gather(*leaves)
        assert "tea" not in ann.rooms
        assert "tea" not in bob.socket.rooms


async def test_a_worker_that_begins_to_drain_while_a_handler_is_asked_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter, handler: Handler
) -> None:
    async with Member(rooms, sid="bob") as bob:
        join = asyncio.create_task(bob.socket.join("slow-room"))
        await eventually(lambda: handler.asked)
        drain = asyncio.create_task(rooms.drain())
        await eventually(lambda: not rooms.health.ready)
        handler.answer.set()
        with pytest.raises((ShuttingDown, SocketClosed)):
            await join
        await drain
    assert not rooms.rooms
    assert channel_of("slow-room") not in adapter.subscribed


async def test_the_limit_of_rooms_is_looked_at_again_after_the_handlers(
    adapter: FakeAdapter,
) -> None:
    async with (
        RoomManager(adapter, linger=0, max_rooms_per_socket=2) as rooms,
        Member(rooms) as ann,
    ):
        handler = Handler()
        rooms.authorize("slow-*")(handler)
        join = asyncio.create_task(ann.socket.join("slow-a", "slow-b"))
        await eventually(lambda: handler.asked)
        await ann.socket.join("tea")
        handler.answer.set()
        with pytest.raises(TooManyRooms):
            await join
        assert ann.socket.rooms == {ann.socket.sid, "tea"}


async def test_one_whose_client_is_lost_while_a_handler_is_asked_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter, handler: Handler
) -> None:
    async with Member(rooms, sid="bob") as bob:
        join = asyncio.create_task(bob.socket.join("slow-room"))
        await eventually(lambda: handler.asked)
        bob.socket._host.lost(bob.socket)
        handler.answer.set()
        await join
        assert not rooms.rooms
        assert channel_of("slow-room") not in adapter.subscribed


async def test_nothing_is_kept_of_joins_that_are_over(
    rooms: RoomManager, adapter: FakeAdapter, handler: Handler, ann: Socket
) -> None:
    pending: PendingJoins = rooms._here._joins.pending
    refused = asyncio.create_task(ann.join("slow-room"))
    await eventually(lambda: handler.asked)
    adapter.hold()
    joins = [asyncio.create_task(ann.join("tea")) for _ in range(2)]
    await eventually(lambda: adapter.waiting == 2)
    assert pending.sockets(["tea"]) == pending.sockets(["slow-room"]) == [ann]
    refused.cancel()
    joins[0].cancel()
    await asyncio.gather(refused, joins[0], return_exceptions=True)
    assert pending.sockets(["slow-room"]) == []
    assert pending.sockets(["tea"]) == [ann]
    adapter.release()
    await joins[1]
    assert not pending._joins


async def test_a_join_and_a_leave_that_arrive_together_are_done_in_that_order(
    rooms: RoomManager, adapter: FakeAdapter, ann: Socket
) -> None:
    await ann.join("bar")
    target = Target(("user:ann",))
    requests = [
        Request(OTHER_NODE, 1, "/", target, 0, Verb.JOIN, {"rooms": ["tea", "coffee"]}),
        Request(OTHER_NODE, 2, "/", target, 0, Verb.LEAVE, {"rooms": ["tea", "bar"]}),
        Request(OTHER_NODE, 3, "/", target, 0, Verb.JOIN, {"rooms": ["bar"]}),
    ]
    assert adapter.receiver is not None
    for request in requests:  # in one turn of the event loop
        adapter.receiver.received(WORKERS, codec.encode(request))
    await eventually(lambda: ann.rooms == {"ann", "user:ann", "coffee", "bar"})
    await eventually(lambda: not rooms._here._joins.pending._joins)
    assert ann.rooms == {"ann", "user:ann", "coffee", "bar"}
