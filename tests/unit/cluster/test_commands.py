"""What a worker does for others that ask, and what it takes no part in."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import (
    AdapterUnavailable,
    MessageTooLarge,
    RoomManager,
    SocketClosed,
    UsageError,
    concurrency,
)
from fastapi_rooms.core.close_codes import check_close
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.remote import sockets_for
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Request
from fastapi_rooms.worker import disconnects
from tests.unit.support import (
    OTHER_NODE,
    WORKERS,
    FakeAdapter,
    RecordingDispatcher,
    broadcast,
    channel_of,
)


def tell(adapter: FakeAdapter, number: int, verb: str, target: Target, rooms: list[str]) -> None:
    """What another worker, or an emitter, asks for without wanting an answer."""
    request = Request(OTHER_NODE, number, "/", target, 0, verb, {"rooms": rooms})
    assert adapter.receiver is not None
    adapter.receiver.received(WORKERS, codec.encode(request))


async def test_who_is_to_join_is_known_before_the_next_request_has_them_leave() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter) as rooms, Member(rooms, "tea", sid="ann") as ann:
        tell(adapter, 1, "join", Target(("tea",)), ["coffee"])
        tell(adapter, 2, "leave", Target(("tea",)), ["tea"])
        assert ann.socket.rooms == {"ann"}
        await eventually(lambda: ann.socket.rooms == {"ann", "coffee"}, what="she has moved")


async def test_where_nobody_is_to_join_nothing_is_subscribed_to() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter, linger=60) as rooms, Member(rooms, "tea"):
        await rooms.to("nowhere").sockets_join("coffee")
        assert channel_of("coffee") not in adapter.subscribed
        await rooms.to("tea").sockets_join("coffee")
        assert channel_of("coffee") in adapter.subscribed


async def test_a_verb_takes_no_longer_than_its_timeout() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter, join_timeout=600)
    async with rooms, Member(rooms, "tea"):
        adapter.hold_up()
        with pytest.raises(
            AdapterUnavailable, match=r"'join' was not done on this worker in 0.01 s"
        ):
            await rooms.sockets_join("coffee", timeout=0.01)
        adapter.let_go()
        assert "coffee" not in rooms.rooms


def disconnect_all(adapter: FakeAdapter, number: int) -> None:
    """What another worker, or an emitter, sends to have everyone disconnected."""
    arguments = {"code": 4001, "reason": "out"}
    request = Request(OTHER_NODE, number, "/", Target(), 0, "disconnect", arguments)
    assert adapter.receiver is not None
    adapter.receiver.received(WORKERS, codec.encode(request))


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disconnects, "DISCONNECT_SLICE", 1)
    monkeypatch.setattr(concurrency, "SLICE", 1)


@pytest.mark.usefixtures("one_at_a_time")
async def test_who_is_disconnected_is_out_at_once_however_many_they_are() -> None:
    adapter = FakeAdapter()
    gone: list[str] = []
    async with RoomManager(adapter) as rooms, AsyncExitStack() as stack:
        rooms.on("leave-room")(lambda room, sid: gone.append(sid))
        members = [
            await stack.enter_async_context(Member(rooms, "tea", sid=str(n))) for n in range(5)
        ]
        disconnect_all(adapter, 1)
        assert adapter.receiver is not None
        late = codec.encode(broadcast(2, Target(("tea",)), "too late"))
        adapter.receiver.received(channel_of("tea"), late)
        assert not rooms.rooms
        assert rooms.sids == {}
        assert await rooms.count() == 0
        for member in members:
            assert not member.socket.rooms
            await member.socket.leave("tea")
            with pytest.raises(SocketClosed):
                await member.socket.join("coffee")
        await rooms.to("0").disconnect_sockets(4002)  # it is being closed already
        for member in members:
            with pytest.raises(WebSocketDisconnect) as caught:
                await member.receive_text()
            assert caught.value.code == 4001
        assert gone == ["0", "1", "2", "3", "4"]


@pytest.mark.usefixtures("one_at_a_time")
async def test_others_have_the_loop_while_many_are_disconnected() -> None:
    async with RoomManager(FakeAdapter()) as rooms, AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(Member(rooms, "tea"))
        for work in (
            rooms.sockets_join("coffee"),
            rooms.fetch_sockets(),
            rooms.all_rooms(),
            rooms.disconnect_sockets(),
        ):
            verb = asyncio.ensure_future(work)
            turns = 0
            while not verb.done():
                await asyncio.sleep(0)
                turns += 1
            assert turns >= 5


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("end", ["cancelled", "closed"])
async def test_who_is_out_of_every_room_is_closed_whatever_happens(end: str) -> None:
    manager = RoomManager(FakeAdapter(), drain_window=0.001)
    async with AsyncExitStack() as stack:
        rooms = await stack.enter_async_context(manager)
        members = [Member(rooms, "tea") for _ in range(50)]
        for member in members:
            await member.open()
        verb = asyncio.ensure_future(rooms.disconnect_sockets(4001))
        await asyncio.sleep(0)
        assert not rooms.sids
        if end == "cancelled":
            verb.cancel()
        else:
            await stack.aclose()
        for member in members:
            with pytest.raises(WebSocketDisconnect) as caught:
                await member.receive_text()
            assert caught.value.code == 4001
            await member.close()
        await asyncio.gather(verb, return_exceptions=True)


async def test_an_event_is_no_longer_than_a_message_may_be() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter, max_message_bytes=40) as rooms:
        before = len(adapter.greetings)
        for emit in (rooms.server_side_emit, rooms.server_side_emit_with_ack):
            with pytest.raises(MessageTooLarge):
                await emit("reload", "x" * 40)
        assert len(adapter.greetings) == before
        await rooms.server_side_emit("reload", "x")
        assert len(adapter.greetings) == before + 1


@pytest.mark.parametrize(
    "row",
    [
        ["", [], {}],
        ["x" * 256, [], {}],
        [5, [], {}],
        ["ann", [""], {}],
        ["ann", [5], {}],
        ["ann", {}, {}],
        ["ann", [], []],
        ["ann", []],
        None,
    ],
)
def test_a_socket_that_cannot_be_is_not_believed(row: Any) -> None:
    answer: Any = sockets_for(RecordingDispatcher())
    [found] = answer.read(OTHER_NODE, [["ann", ["tea"], {"a": 1}]])
    assert (found.sid, found.rooms, found.data) == ("ann", {"tea"}, {"a": 1})
    with pytest.raises(ValueError, match=r"expected sid|room name"):
        answer.read(OTHER_NODE, [row])


@pytest.mark.parametrize("reason", ["x" * 124, "\ud800", None, b"bytes"], ids=ascii)
def test_a_close_reason_that_cannot_be_sent_is_refused(reason: object) -> None:
    assert check_close(1000, "ä" * 61) == (1000, "ä" * 61)
    with pytest.raises(UsageError, match="close reason"):
        check_close(1000, reason)
