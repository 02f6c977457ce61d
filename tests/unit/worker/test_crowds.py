"""Very many sockets leave, or are disconnected: at once for all to see, and part by part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from fastapi_rooms import RoomManager, Socket
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Request
from fastapi_rooms.wire.verbs import Verb
from fastapi_rooms.worker import crowds as crowds_module
from fastapi_rooms.worker import disconnects as disconnects_module
from tests.unit.support import OTHER_NODE, WORKERS, FakeAdapter, broadcast, channel_of, other_tasks

COUNT = 8


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds_module, "LEAVE_SLICE", 1)
    monkeypatch.setattr(disconnects_module, "DISCONNECT_SLICE", 1)


@pytest.fixture
async def members(rooms: RoomManager) -> AsyncIterator[list[Member]]:
    """So many in two rooms."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Member(rooms, "tea", "bar", sid=str(number)))
            for number in range(COUNT)
        ]


def receive(
    adapter: FakeAdapter, number: int, verb: Verb, target: Target, **arguments: Any
) -> None:
    """What another worker, or an emitter that waits for no answer, asks for."""
    request = Request(OTHER_NODE, number, "/", target, 0, verb, arguments)
    assert adapter.receiver is not None
    adapter.receiver.received(WORKERS, codec.encode(request))


def said(adapter: FakeAdapter, number: int, target: Target, text: str) -> None:
    """What it sends."""
    assert adapter.receiver is not None
    message = codec.encode(broadcast(number, target, text))
    adapter.receiver.received(channel_of("tea"), message)


TEA = Target(("tea",))


async def test_a_crowd_has_left_at_once_for_all_to_see_and_is_told_of_part_by_part(
    rooms: RoomManager, adapter: FakeAdapter, members: list[Member]
) -> None:
    told: list[tuple[str, str]] = []
    rooms.on("leave-room")(lambda room, socket: told.append((room, socket.sid)))
    rooms.on("delete-room")(lambda room: told.append((room, "deleted")))
    receive(adapter, 1, Verb.LEAVE, TEA, rooms=["tea"])
    said(adapter, 2, TEA, "too late")
    assert len(told) == 1
    assert "tea" not in rooms.rooms
    assert set(rooms.rooms) == {"bar", *map(str, range(COUNT))}
    assert len(rooms.rooms) == COUNT + 1
    assert all(member.socket.rooms == {member.sid, "bar"} for member in members)
    assert await rooms.local.to("tea").count() == 0
    assert await rooms.local.to("tea").fetch_sockets() == []
    assert await rooms.local.except_("tea").count() == COUNT
    await eventually(lambda: len(told) == COUNT + 1)
    assert told == [*(("tea", str(number)) for number in range(COUNT)), ("tea", "deleted")]
    await eventually(lambda: channel_of("tea") not in adapter.subscribed)
    said(adapter, 3, Target(("bar",)), "still here")
    for member in members:
        assert await member.receive_text() == "still here"


async def test_whoever_asks_waits_until_it_is_done_for_each(
    rooms: RoomManager, members: list[Member]
) -> None:
    told: list[str] = []
    rooms.on("leave-room")(lambda room, socket: told.append(socket.sid))
    await rooms.to("tea").sockets_leave("tea", "bar")
    assert len(told) == 2 * COUNT
    assert all(member.socket.rooms == {member.sid} for member in members)


async def test_one_that_comes_again_while_its_crowd_leaves_has_left_before(
    rooms: RoomManager, adapter: FakeAdapter, members: list[Member]
) -> None:
    told: list[tuple[str, str]] = []
    rooms.on("leave-room")(lambda room, socket: told.append(("left", socket.sid)))
    rooms.on("join-room")(lambda room, socket: told.append(("joined", socket.sid)))
    receive(adapter, 1, Verb.LEAVE, TEA, rooms=["tea"])
    last = members[-1]
    await last.socket.join("tea")
    assert rooms.rooms["tea"] == {last.sid}
    said(adapter, 2, TEA, "welcome back")
    await eventually(lambda: len(told) == COUNT + 1)
    assert told.index(("left", last.sid)) < told.index(("joined", last.sid))
    assert rooms.rooms["tea"] == {last.sid}
    assert await last.receive_text() == "welcome back"
    assert last.socket.rooms == {last.sid, "tea", "bar"}
    assert channel_of("tea") in adapter.subscribed
    await last.socket.leave("tea")
    assert "tea" not in rooms.rooms
    await eventually(lambda: channel_of("tea") not in adapter.subscribed)


async def test_those_who_go_leave_or_are_disconnected_meanwhile_are_told_of_once(
    rooms: RoomManager, adapter: FakeAdapter, members: list[Member]
) -> None:
    told: list[str] = []
    rooms.on("leave-room")(lambda room, socket: told.append(f"{socket.sid} {room}"))
    receive(adapter, 1, Verb.LEAVE, TEA, rooms=["tea"])
    await members[-1].socket.leave("tea")
    await members[-2].socket.disconnect(4001)
    members[-3].leave()
    await eventually(lambda: len(told) == COUNT + 2)
    assert sorted(told) == sorted(
        [*(f"{number} tea" for number in range(COUNT)), f"{COUNT - 2} bar", f"{COUNT - 3} bar"]
    )
    await eventually(lambda: channel_of("tea") not in adapter.subscribed)


async def test_joins_and_leaves_of_a_crowd_that_arrive_together_are_done_in_that_order(
    rooms: RoomManager, adapter: FakeAdapter, members: list[Member]
) -> None:
    everyone = Target()
    for number, verb, name in (
        (1, Verb.JOIN, "in"),
        (2, Verb.JOIN, "out"),
        (3, Verb.LEAVE, "out"),
        (4, Verb.LEAVE, "bar"),
        (5, Verb.JOIN, "bar"),
        (6, Verb.LEAVE, "tea"),
    ):
        receive(adapter, number, verb, everyone, rooms=[name])
    await eventually(lambda: len(rooms.rooms.get("bar", ())) == COUNT)
    await eventually(lambda: not rooms._here._joins.pending._in_order)
    for member in members:
        assert member.socket.rooms == {member.sid, "in", "bar"}
    assert not rooms._here._joins.pending._left
    assert not rooms._here._crowds._under_way


async def test_a_leave_that_arrives_while_a_crowd_joins_is_for_those_on_their_way(
    rooms: RoomManager, adapter: FakeAdapter, members: list[Member]
) -> None:
    adapter.hold()
    receive(adapter, 1, Verb.JOIN, Target(), rooms=["pub", "inn"])
    receive(adapter, 2, Verb.LEAVE, Target(("0",)), rooms=["pub"])
    await members[1].socket.leave("pub")
    receive(adapter, 3, Verb.LEAVE, Target(("pub",), ("2", "3")), rooms=["inn"])
    adapter.release()
    await eventually(lambda: len(rooms.rooms.get("pub", ())) == COUNT - 2)
    await eventually(lambda: not rooms._here._joins.pending._in_order)
    assert rooms.rooms["inn"] == {"0", "1", "2", "3"}


async def test_a_crowd_that_is_disconnected_hears_and_joins_nothing_more(
    rooms: RoomManager, adapter: FakeAdapter, members: list[Member]
) -> None:
    said(adapter, 1, TEA, "before")
    receive(adapter, 2, Verb.DISCONNECT, TEA, code=4001, reason="out")
    said(adapter, 3, Target(), "too late")
    assert not rooms.rooms
    assert rooms.sids == {}
    assert len(rooms.sids) == 0
    assert await rooms.local.count() == 0
    assert all(not member.socket.rooms for member in members)
    await rooms.local.disconnect_sockets(4002)
    for member in members:
        assert await member.wait_closed() == 4001
        assert member.unread == ["before"]
    await eventually(lambda: not rooms._here._crowds._under_way)
    assert not rooms._here.clients.disconnects._crowds
    await eventually(lambda: channel_of("tea") not in adapter.subscribed)


async def test_an_endpoint_that_ends_before_its_turn_closes_with_the_code_that_was_said(
    rooms: RoomManager, adapter: FakeAdapter, members: list[Member]
) -> None:
    receive(adapter, 1, Verb.DISCONNECT, TEA, code=4001, reason="out")
    assert members[-1]._task is not None
    members[-1].leave()
    for member in members[:-1]:
        assert await member.wait_closed() == 4001
    await members[-1].wait_ended()


@pytest.mark.parametrize("verb", [Verb.LEAVE, Verb.DISCONNECT])
async def test_what_has_begun_goes_on_though_nobody_waits_any_more(
    rooms: RoomManager, members: list[Member], verb: Verb
) -> None:
    told: list[Socket] = []
    rooms.on("leave-room")(lambda room, socket: told.append(socket))
    operator = rooms.local.to("tea")
    leaving = verb is Verb.LEAVE
    work = operator.sockets_leave("tea") if leaving else operator.disconnect_sockets(4001)
    asking = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    assert "tea" not in rooms.rooms
    asking.cancel()
    await eventually(lambda: len(told) == COUNT * (1 if leaving else 2))
    await eventually(lambda: not rooms._here._crowds._under_way)
    await eventually(lambda: all((m.close_code == 4001) is not leaving for m in members))


@pytest.mark.parametrize("verb", [Verb.JOIN, Verb.LEAVE, Verb.DISCONNECT, Verb.FETCH])
async def test_a_worker_that_closes_in_the_same_turn_leaves_nothing_behind(verb: Verb) -> None:
    adapter = FakeAdapter()
    manager = RoomManager(adapter, linger=0, drain_window=0)
    await manager.start()
    async with AsyncExitStack() as stack:
        for number in range(COUNT):
            await stack.enter_async_context(Member(manager, "tea", sid=str(number)))
        before = other_tasks()
        stopping = asyncio.create_task(manager.stop())
        run = manager._runtime.run
        while not run.cluster._responder._closed:
            arguments: dict[str, Any] = {"rooms": ["bar"]}
            if verb is Verb.DISCONNECT:
                arguments = {"code": 4001, "reason": ""}
            request = Request(OTHER_NODE, 7, "/", Target(), 5, verb, arguments)
            run.cluster.received(request)
            await asyncio.sleep(0)
        await stopping
        assert not manager._here._crowds._under_way
        assert other_tasks() <= before
    assert manager.sids == {}


async def test_a_crowd_that_is_leaving_as_its_worker_ends_keeps_nobody_waiting(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, linger=0)
    await rooms.start()
    async with AsyncExitStack() as stack:
        members = [Member(rooms, "tea", sid=str(number)) for number in range(COUNT)]
        for member in members:
            await stack.enter_async_context(member)
        crowds = rooms._here._crowds
        leaving = crowds.leave(crowds.of(TEA), ("tea",))
        closing = crowds.disconnect(crowds.of(Target()), 4001, "out")
        assert leaving is not None
        assert closing is not None
        rooms._here.leave_everyone()
        await asyncio.wait((leaving, closing))
        assert [await member.wait_closed() for member in members] == [4001] * COUNT
    await rooms.stop()
    assert rooms.sids == {}
