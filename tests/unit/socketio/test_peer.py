"""A worker among Node servers: when it is counted, what it wants, and what it hears."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    RoomManager,
    SocketIO,
)
from fastapi_rooms.socketio.adapter import SocketIOAdapter
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire.socketio import msgpack
from fastapi_rooms.worker.peer_run import PeerRun
from tests.unit.socketio_support import REQUESTS, RESPONSES, SharedAdapter
from tests.unit.support import OTHER_NODE


async def test_it_is_counted_while_it_can_publish(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    assert REQUESTS in adapter.subscribed
    adapter.connected(False)
    assert REQUESTS not in adapter.subscribed
    adapter.connected(True)
    assert REQUESTS in adapter.subscribed


async def test_it_is_not_counted_before_it_is_ready(adapter: SharedAdapter) -> None:
    rooms = RoomManager(adapter, socketio=SocketIO())
    adapter.start_error = AdapterUnavailable("no")
    with pytest.raises(AdapterUnavailable):
        await rooms.start()
    adapter.connected(True)
    assert not adapter.subscribed
    assert not adapter.withdrawals


async def test_who_leaves_answers_until_the_carrier_has_confirmed_it(
    adapter: SharedAdapter,
) -> None:
    rooms = RoomManager(adapter, socketio=SocketIO())
    await rooms.start()
    adapter.withdrawn.clear()
    stopping = asyncio.create_task(rooms.stop())
    await eventually(lambda: adapter.withdrawals)
    closed_before = adapter.closes
    adapter.is_asked(requestId="late", type=5, opts={"rooms": [], "except": []})
    await eventually(lambda: adapter.answers)
    assert adapter.answers == [{"requestId": "late", "sockets": []}] * 2
    adapter.withdrawn.set()
    await stopping
    assert (closed_before, adapter.closes) == (0, 1)
    assert adapter.patterns == []


async def test_a_carrier_that_does_not_confirm_holds_nobody_up(adapter: SharedAdapter) -> None:
    rooms = RoomManager(adapter, socketio=SocketIO(), drain_timeout=0.05)
    await rooms.start()
    adapter.withdrawn.clear()
    await rooms.stop()
    assert adapter.closes == 1


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_close_that_is_cut_short_leaves_nothing_under_way(
    rooms: RoomManager, adapter: SharedAdapter, is_cancelled: bool
) -> None:
    ended = asyncio.Event()

    @rooms.on_server_side("wait")
    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    adapter.is_asked(requestId="q", type=6, data=["wait"])
    await asyncio.sleep(0)
    assert isinstance(rooms._runtime.run, PeerRun)
    closing = asyncio.create_task(rooms._runtime.run.peer.close(60))
    if is_cancelled:
        adapter.withdrawn.clear()
        await eventually(lambda: adapter.withdrawals)
        closing.cancel()
    else:
        adapter.withdraw_error = AdapterUnavailable("the carrier is away")
    with pytest.raises(asyncio.CancelledError if is_cancelled else AdapterUnavailable):
        await closing
    assert ended.is_set()


@pytest.mark.parametrize("mode", ["send", "receive"])
async def test_only_peers_are_counted(adapter: SharedAdapter, mode: Any) -> None:
    async with RoomManager(adapter, socketio=SocketIO(mode=mode)) as rooms:
        adapter.connected(True)
        assert REQUESTS not in adapter.subscribed
        assert len(adapter.patterns) == (mode == "receive")
        async with Member(rooms, "red"):
            assert (b"socket.io#/#red#" in adapter.subscribed) == (mode == "receive")
    assert not adapter.withdrawals


# Interest.


async def test_a_room_has_two_channels_and_a_sid_one_pattern(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    assert adapter.patterns == [f"socket.io#/#{rooms.node}.*".encode()]
    before = set(adapter.subscribed)
    async with Member(rooms, "red", f"{rooms.node}.looks like one"):
        new = adapter.subscribed - before
        assert {channel for channel in new if channel.startswith(b"socket.io")} == {
            b"socket.io#/#",
            b"socket.io#/#red#",
        }
        assert b"rooms#/#red#" in new


async def test_a_namespace_that_is_not_shared_has_its_own_channels_only(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    before = set(adapter.subscribed)
    async with Member(rooms.of("/private"), "red"):
        new = adapter.subscribed - before
    assert not [channel for channel in new if channel.startswith(b"socket.io")]
    await rooms.of("/private").to("red").send_text("x")
    assert adapter.once == []


async def test_both_channels_are_left_when_a_room_is(adapter: SharedAdapter) -> None:
    async with RoomManager(adapter, socketio=SocketIO(), linger=0) as rooms:
        async with Member(rooms, "red"):
            assert b"socket.io#/#red#" in adapter.subscribed
        await eventually(lambda: b"rooms#/#red#" not in adapter.subscribed)
        assert b"socket.io#/#red#" not in adapter.subscribed


class Deaf:
    """Takes nothing of what Node servers send."""

    def received(self, channel: bytes, data: bytes) -> None: ...

    def connection_changed(self, connected: bool) -> None: ...


def test_a_room_is_live_when_both_its_channels_are(adapter: SharedAdapter) -> None:
    both = SocketIOAdapter(adapter, SocketIO())
    both.attach(OTHER_NODE, Deaf())
    adapter.subscribed = {b"rooms#/#red#"}
    assert not both.is_live(b"rooms#/#red#")
    adapter.subscribed.add(b"socket.io#/#red#")
    assert both.is_live(b"rooms#/#red#")


async def test_who_is_let_in_while_the_carrier_is_away_wants_both_channels(
    adapter: SharedAdapter,
) -> None:
    settings = SocketIO()
    async with RoomManager(adapter, socketio=settings, when_unavailable="admit") as rooms:
        adapter.health = replace(adapter.health, connected=False)
        async with Member(rooms, "red"):
            assert {b"rooms#/#red#", b"socket.io#/#red#"} in adapter.wanted
        adapter.health = replace(adapter.health, connected=True)


# Hearing.


async def test_an_event_reaches_the_members(ann: Member, adapter: SharedAdapter) -> None:
    adapter.emits("red", "news", 1)
    assert await ann.receive_json() == {"event": "news", "args": [1]}


async def test_what_our_own_workers_send_is_not_heard_twice(
    rooms: RoomManager, ann: Member, adapter: SharedAdapter
) -> None:
    await rooms.to("red").send_text("once")
    ((channel, data),) = adapter.once
    adapter.hears(channel, data)
    await rooms.to("red").send_text("end")
    assert await ann.receive_until("end") == ["once"]
    assert rooms.health.dropped == 0


async def test_what_makes_no_sense_is_dropped_and_counted(
    rooms: RoomManager, ann: Member, adapter: SharedAdapter
) -> None:
    nonsense = [b"", b"{}", b"\xc0", msgpack.pack(["u", {"type": 2}, {}])]
    for data in nonsense:
        adapter.hears(b"socket.io#/#red#", data)
    adapter.hears(REQUESTS, b"{")
    adapter.hears(REQUESTS, b'{"type":5}')
    assert rooms.health.dropped == 6
    adapter.hears(REQUESTS, b'{"type":99}')
    adapter.hears(RESPONSES, b"{")  # to nobody's question: it is not read
    adapter.hears(b"socket.io#/other#", b"")
    adapter.hears(b"socket.io", b"")
    assert rooms.health.dropped == 6
    adapter.emits("red", "end")
    assert await ann.receive_json() == {"event": "end", "args": []}


class Failing:
    """A codec with an error in it."""

    def to_native(self, event: str, args: list[Any]) -> str:
        raise KeyError(event)

    def to_event(self, message: str | bytes) -> list[Any]:
        raise KeyError(message)


async def test_a_codec_that_fails_stops_nothing(
    adapter: SharedAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        RoomManager(adapter, socketio=SocketIO(codec=Failing())) as rooms,
        Member(rooms, "red") as member,
    ):
        adapter.emits("red", "x")
        assert rooms.health.dropped == 1
        assert "could not be delivered" in caplog.text
        with pytest.raises(KeyError):
            await rooms.to("red").send_text("x")
        with pytest.raises(KeyError):
            await rooms.to("red").emit("x")
        await rooms.local.send_text("end")
        assert await member.receive_until("end") == []
    assert adapter.published == adapter.once == []
