"""Clients that come while the carrier is away, and are let in: `when_unavailable="admit"`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import AdapterUnavailable, Gap, JoinRefused, Outage, RoomManager, ShuttingDown
from fastapi_rooms.testing import Member, eventually
from tests.unit.support import FakeAdapter, ShardedAdapter, channel_of

NEVER = 3600.0
NAMESPACE = b"rooms#/#"


def goes_away(adapter: FakeAdapter) -> None:
    """The adapter knows that it is not connected, and confirms nothing."""
    adapter.hold()
    adapter.health = replace(adapter.health, connected=False, reason="gone")


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    manager = RoomManager(adapter, linger=0, join_timeout=NEVER, when_unavailable="admit")
    async with manager as rooms:
        yield rooms
        adapter.release()


async def test_a_client_comes_in_and_joins_without_waiting(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    goes_away(adapter)
    async with Member(rooms, "lobby", sid="ann") as ann, Member(rooms, "lobby") as bob:
        assert ann.socket.rooms == {"ann", "lobby"}
        await rooms.local.to("lobby").send_text("here at least")
        assert await ann.receive() == await bob.receive() == "here at least"
        assert adapter.wanted[:2] == [{NAMESPACE, channel_of("ann")}, {channel_of("lobby")}]
        assert adapter.waiting == 0


async def test_what_it_joined_is_wanted_until_it_leaves(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    goes_away(adapter)
    async with Member(rooms, "lobby", "bar") as ann:
        assert {channel_of("lobby"), channel_of("bar")} <= adapter.subscribed
        await ann.socket.leave("bar")
        await eventually(lambda: channel_of("bar") not in adapter.subscribed)
        assert channel_of("lobby") in adapter.subscribed
    await eventually(lambda: not {channel_of("lobby"), NAMESPACE} & adapter.subscribed)


async def test_as_long_as_it_is_connected_joins_are_confirmed(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with Member(rooms) as ann:
        adapter.hold()
        join = asyncio.create_task(ann.socket.join("lobby"))
        await eventually(lambda: adapter.waiting)
        assert not join.done()
        adapter.release()
        await join
    assert adapter.wanted == []


async def test_one_that_looks_connected_and_does_not_answer_has_the_join_timeout(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, join_timeout=0.01, linger=0, when_unavailable="admit")
    async with rooms, Member(rooms) as ann:
        adapter.hold()
        await ann.socket.join("lobby")
        assert "lobby" in ann.socket.rooms
        assert adapter.wanted == [{channel_of("lobby")}]
        assert adapter.waiting == 0, "nobody goes on waiting"
        adapter.release()


async def test_a_carrier_that_refuses_is_not_away(adapter: FakeAdapter) -> None:
    rooms = RoomManager(adapter, linger=0, when_unavailable="admit")
    async with rooms, Member(rooms) as ann:
        adapter.subscribe_error = AdapterUnavailable("forbidden")
        with pytest.raises(AdapterUnavailable, match="forbidden"):
            await ann.socket.join("lobby")
        await eventually(lambda: channel_of("lobby") not in adapter.subscribed)
        assert adapter.wanted == []


async def test_without_it_clients_wait_and_are_refused(adapter: FakeAdapter) -> None:
    async with RoomManager(adapter, join_timeout=0.01, linger=0) as rooms:
        async with Member(rooms, "lobby", sid="ann") as ann:
            goes_away(adapter)
            with pytest.raises(AdapterUnavailable, match="It is down: gone"):
                await ann.socket.join("bar")
            with pytest.raises(WebSocketDisconnect) as refused:
                await Member(rooms).open()
            assert refused.value.code == 1013
        assert adapter.wanted == []
        adapter.release()


async def test_handlers_are_asked_before_anyone_is_let_into_a_room(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    @rooms.authorize("private-*")
    async def needs_the_carrier(socket: object, room: str) -> bool:
        await rooms.to(room).send_text("may somebody come in?")
        return True

    adapter.publish_error = AdapterUnavailable("no")
    goes_away(adapter)
    async with Member(rooms, "open", sid="ann") as ann:
        join = asyncio.create_task(ann.socket.join("private-tea"))
        await eventually(lambda: adapter.waiting)
        adapter.release()
        with pytest.raises(JoinRefused):
            await join
        assert ann.socket.rooms == {"ann", "open"}


async def test_listeners_and_those_who_are_made_to_join_are_let_in_as_well(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    goes_away(adapter)
    async with Member(rooms, sid="ann") as ann, rooms.listen("lobby") as messages:
        await rooms.local.sockets_join("lobby")
        assert ann.socket.rooms == {"ann", "lobby"}
        await rooms.local.to("lobby").send_text("both hear this")
        assert (await anext(messages)).text == await ann.receive() == "both hear this"
    await eventually(lambda: channel_of("lobby") not in adapter.subscribed)


async def test_nobody_is_let_in_by_a_worker_that_drains(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    goes_away(adapter)
    await rooms.drain()
    with pytest.raises(ShuttingDown):
        async with rooms.listen("lobby"):
            pytest.fail("listened while the worker drains")
    assert adapter.wanted == []


async def test_a_worker_that_lets_clients_in_is_ready_for_them(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    assert rooms.health.ready
    goes_away(adapter)
    assert (rooms.health.ready, rooms.health.connected) == (True, False)
    assert rooms.health.reason == "gone"
    await rooms.drain()
    assert not rooms.health.ready


async def test_the_gap_is_told_of_the_rooms_they_have_joined(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    gaps: list[Gap] = []
    rooms.on("gap")(gaps.append)
    goes_away(adapter)
    async with Member(rooms, "lobby", "bar", sid="ann") as ann:
        await ann.socket.leave("bar")
        adapter.release()
        assert adapter.receiver is not None
        lost = frozenset().union(*adapter.wanted)
        adapter.receiver.gap(Outage(5.0, 9.0, lost))
        assert gaps == [Gap(5.0, 9.0, ("lobby",))]


async def test_of_several_shards_only_what_is_away_is_not_waited_for() -> None:
    adapter = ShardedAdapter()
    near, far = channel_of("even", sharded=True), channel_of("odd", sharded=True)
    rooms = RoomManager(adapter, linger=0, join_timeout=NEVER, when_unavailable="admit")
    async with rooms, Member(rooms) as ann:
        goes_away(adapter)
        adapter.away = {adapter.shard_of(far)}
        join = asyncio.create_task(ann.socket.join("even", "odd"))
        await eventually(lambda: adapter.waiting == 1, what="the other is waited for")
        assert adapter.wanted == [{far}]
        assert near in adapter.subscribed
        assert not join.done()
        adapter.release()
        await join
        assert {"even", "odd"} <= ann.socket.rooms
