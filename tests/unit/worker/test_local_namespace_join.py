"""Joining and leaving rooms, and the channels that are subscribed to for them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import (
    AdapterUnavailable,
    NotStarted,
    RequestRefused,
    RoomManager,
    SocketClosed,
    TooManyRooms,
)
from fastapi_rooms.core.names import Channels
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from fastapi_rooms.worker.resume import Joined
from tests.unit.support import OTHER_NODE, FakeAdapter, all_is_over, app_of, channel_of

LOBBY = channel_of("lobby")


async def test_join_returns_when_the_adapter_has_confirmed(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    cid = people["cid"].socket
    adapter.hold()
    join = asyncio.ensure_future(cid.join("new"))
    await eventually(lambda: adapter.waiting)
    assert "new" not in rooms.rooms
    assert not join.done()
    adapter.release()
    await join
    assert rooms.rooms["new"] == {"cid"}


async def test_joining_several_rooms_asks_the_adapter_once(
    adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.hold()
    join = asyncio.ensure_future(people["cid"].socket.join("a", "b", "c"))
    await eventually(lambda: adapter.waiting)
    assert adapter.waiting == 1
    assert {channel_of(room) for room in "abc"} <= adapter.subscribed
    adapter.release()
    await join


async def test_joining_again_asks_and_changes_nothing(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.hold()  # so that asking would wait
    await people["ann"].socket.join("lobby", "bar", "ann")
    await people["ann"].socket.join()
    assert rooms.sids["ann"] == {"ann", "lobby", "bar"}


@pytest.mark.parametrize("reason", ["refused", "timed out", "cancelled"])
async def test_a_join_that_fails_leaves_the_socket_in_none_of_the_rooms(
    adapter: FakeAdapter, reason: str
) -> None:
    timeout = 0.01 if reason == "timed out" else 60
    rooms = RoomManager(adapter, linger=0, join_timeout=timeout)
    async with rooms, Member(rooms, "lobby", sid="ann") as ann:
        adapter.hold()
        join = asyncio.ensure_future(ann.socket.join("a", "b", "lobby"))
        await eventually(lambda: adapter.waiting)
        if reason == "refused":
            adapter.subscribe_error = AdapterUnavailable("no")
            adapter.release()
        elif reason == "cancelled":
            join.cancel()
        with pytest.raises(asyncio.CancelledError if reason == "cancelled" else AdapterUnavailable):
            await join
        assert rooms.sids == {"ann": {"ann", "lobby"}}
        await eventually(lambda: not {channel_of("a"), channel_of("b")} & adapter.subscribed)
        assert LOBBY in adapter.subscribed
        adapter.subscribe_error = None
        adapter.release()


async def test_two_tasks_that_join_a_socket_to_one_room_count_as_one_member(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    told: list[tuple[str, str]] = []
    rooms.on("join-room")(lambda room, socket: told.append((room, socket.sid)))
    cid = people["cid"].socket
    adapter.hold()
    joins = [asyncio.ensure_future(cid.join("new", f"own {n}")) for n in range(2)]
    await eventually(lambda: adapter.waiting == 2)
    adapter.release()
    await asyncio.gather(*joins)
    assert sorted(told) == [("new", "cid"), ("own 0", "cid"), ("own 1", "cid")]
    await cid.leave("new")
    await eventually(lambda: channel_of("new") not in adapter.subscribed)


async def test_a_join_that_the_end_of_the_block_overtakes_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with Member(rooms, sid="ann") as ann:
        adapter.hold()
        join = asyncio.ensure_future(ann.socket.join("lobby"))
        await eventually(lambda: adapter.waiting)
    adapter.release()
    with pytest.raises(SocketClosed, match="ann"):
        await join
    assert rooms.rooms == {}
    await eventually(lambda: len(adapter.subscribed) == 1)


async def test_a_join_that_the_close_of_the_manager_overtakes_joins_nothing(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter)
    async with AsyncExitStack() as running:
        await running.enter_async_context(rooms)
        async with Member(rooms, sid="ann") as ann:
            adapter.hold()
            join = asyncio.ensure_future(ann.socket.join("lobby"))
            await eventually(lambda: adapter.waiting)
            await running.aclose()
            adapter.release()
            with pytest.raises(NotStarted):
                await join
    assert rooms.rooms == rooms.sids == {}


async def test_a_socket_can_be_in_so_many_rooms_besides_its_own(adapter: FakeAdapter) -> None:
    rooms = RoomManager(adapter, linger=0, max_rooms_per_socket=3)
    async with rooms, Member(rooms, "a", "b", sid="ann") as ann, Member(rooms, sid="bob") as bob:
        before = set(adapter.subscribed)
        with pytest.raises(TooManyRooms) as raised:
            await ann.socket.join("a", "c", "d", "d")
        assert (raised.value.rooms, raised.value.limit, raised.value.code) == (4, 3, 1008)
        assert ann.socket.rooms == {"ann", "a", "b"}
        assert adapter.subscribed == before
        await ann.socket.join("a", "b", "c", "c", "ann")
        await ann.socket.join("a")
        with pytest.raises(TooManyRooms):
            await ann.socket.join("d")
        await ann.socket.leave("a")
        await ann.socket.join("d")
        await bob.socket.join("a", "b", "c")


async def test_a_socket_that_is_in_enough_rooms_does_not_keep_others_out(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, linger=0, max_rooms_per_socket=1)
    async with rooms, Member(rooms, "a", sid="ann") as ann, Member(rooms, sid="bob") as bob:
        # No `TooManyRooms`: that would close the client whose endpoint asked for it.
        with pytest.raises(RequestRefused, match="the limit is 1") as raised:
            await rooms.local.sockets_join("b")
        assert set(raised.value.refusals) == rooms.nodes()
        assert (ann.socket.rooms, bob.socket.rooms) == ({"ann", "a"}, {"bob", "b"})
        await bob.socket.leave("b")
        await eventually(lambda: channel_of("b") not in adapter.subscribed)


async def test_joins_at_the_same_time_do_not_pass_the_limit_together(adapter: FakeAdapter) -> None:
    rooms = RoomManager(adapter, linger=0, max_rooms_per_socket=3)
    async with rooms, Member(rooms, sid="ann") as ann:
        adapter.hold()
        joins = [asyncio.ensure_future(ann.socket.join(f"{n}a", f"{n}b")) for n in range(3)]
        await eventually(lambda: adapter.waiting == 3)
        adapter.release()
        results = await asyncio.gather(*joins, return_exceptions=True)
        assert [type(result) for result in results] == [Joined, TooManyRooms, TooManyRooms]
        assert ann.socket.rooms == {"ann", "0a", "0b"}
        await eventually(lambda: channel_of("1a") not in adapter.subscribed)
        assert channel_of("0a") in adapter.subscribed


async def test_a_client_that_wants_too_many_rooms_is_closed_with_1008(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, max_rooms_per_socket=2)

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            async for room in socket.iter_text():
                await socket.join(room)

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            for room in ("a", "b", "c"):
                await client.send_text(room)
            assert await client.wait_closed() == 1008
            assert "max_rooms_per_socket" in client.close_reason
            await client.wait_ended()
        await all_is_over(rooms)


async def test_a_room_left_and_joined_again_at_once_is_never_unsubscribed(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    unsubscribed: list[bytes] = []
    adapter.unsubscribe = unsubscribed.extend  # type: ignore[method-assign, assignment]
    bob = people["bob"].socket
    await people["ann"].socket.leave("lobby")
    for _ in range(10):
        await bob.leave("lobby")
        await bob.join("lobby")
    await people["ann"].socket.leave("bar")
    await eventually(lambda: channel_of("bar") in unsubscribed)
    assert LOBBY not in unsubscribed


async def test_a_socket_does_not_leave_its_own_room(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    await people["ann"].socket.leave("ann", "lobby")
    assert rooms.sids["ann"] == {"ann", "bar"}


async def test_leaving_a_room_one_is_not_in_changes_nothing(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    before = set(rooms.sids["cid"])
    await people["cid"].socket.leave("lobby", "nowhere")
    assert rooms.sids["cid"] == before
    assert rooms.rooms["lobby"] == {"ann", "bob"}


async def test_a_worker_subscribes_at_the_first_member_and_unsubscribes_after_the_last(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    assert LOBBY not in adapter.subscribed
    async with Member(rooms, "lobby") as first:
        assert LOBBY in adapter.subscribed
        async with Member(rooms, "lobby") as second:
            await first.socket.leave("lobby")
            assert LOBBY in adapter.subscribed
            await second.socket.leave("lobby")
            await eventually(lambda: LOBBY not in adapter.subscribed)


async def test_sockets_with_generated_sids_need_no_channels_of_their_own(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with Member(rooms):
        before = set(adapter.subscribed)
        async with Member(rooms), Member(rooms), Member(rooms, sid="chosen"):
            assert adapter.subscribed == before | {channel_of("chosen")}


async def test_a_room_that_is_named_like_another_workers_sid_does_not_make_this_one_answer_for_it(
    adapter: FakeAdapter,
) -> None:
    channels = Channels("rooms")
    async with RoomManager(adapter) as rooms, Member(rooms, f"{OTHER_NODE}.{'x' * 16}"):
        assert channels.of_sids(OTHER_NODE) in adapter.subscribed
        assert channels.of_node(OTHER_NODE) not in adapter.subscribed


async def test_more_rooms_than_anyone_may_be_in_are_refused_before_a_socket_is_looked_at(
    adapter: FakeAdapter,
) -> None:
    async with RoomManager(adapter, max_rooms_per_socket=10) as rooms, Member(rooms) as member:
        with pytest.raises(RequestRefused, match="limit is 10"):
            await rooms.sockets_join(*map(str, range(12)))
        assert member.socket.rooms == {member.sid}
        assert not [c for c in adapter.subscribed if c.startswith(b"rooms#/#") and c[8:]]
