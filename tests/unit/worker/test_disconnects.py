"""Disconnects: out of every room at once, and closed a slice in each turn of the event loop."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import RoomManager, SocketClosed, concurrency
from fastapi_rooms.core.membership import Left
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member
from fastapi_rooms.transports import Transport
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Request
from fastapi_rooms.worker import disconnects as disconnects_module
from fastapi_rooms.worker.disconnects import DISCONNECT_SLICE, Disconnects, PendingDisconnect
from tests.unit.support import (
    OTHER_NODE,
    WORKERS,
    FakeAdapter,
    FakeTransport,
    broadcast,
    channel_of,
)


def disconnect_all(adapter: FakeAdapter, number: int) -> None:
    """What another worker, or an emitter, sends to have everyone disconnected."""
    arguments = {"code": 4001, "reason": "out"}
    request = Request(OTHER_NODE, number, "/", Target(), 0, "disconnect", arguments)
    assert adapter.receiver is not None
    adapter.receiver.received(WORKERS, codec.encode(request))


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disconnects_module, "DISCONNECT_SLICE", 1)
    monkeypatch.setattr(concurrency, "SLICE", 1)


@pytest.mark.usefixtures("one_at_a_time")
async def test_disconnected_sockets_are_out_of_every_room_at_once_however_many_they_are() -> None:
    adapter = FakeAdapter()
    gone: list[str] = []
    async with RoomManager(adapter) as rooms, AsyncExitStack() as stack:
        rooms.on("leave-room")(lambda room, socket: gone.append(socket.sid))
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
async def test_other_tasks_run_while_a_command_works_on_many_sockets() -> None:
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
async def test_disconnected_sockets_are_closed_whatever_happens(end: str) -> None:
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


# Without a namespace.


class _Client:
    """A client that notes how it was disconnected."""

    def __init__(self, sid: str) -> None:
        self.socket: Any = SimpleNamespace(sid=sid)
        self.transport: Transport = FakeTransport()
        self.closed: list[tuple[int, str]] = []

    def disconnect(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    async def drain(self, timeout: float) -> None: ...

    def lost(self) -> None: ...


def _pending(count: int) -> tuple[Disconnects, list[_Client], list[PendingDisconnect]]:
    """So many that are out of every room, and have yet to be closed."""
    disconnects = Disconnects()
    clients = [_Client(str(number)) for number in range(count)]
    pending = [PendingDisconnect(client, Left((), ()), 4001, "out") for client in clients]
    for one in pending:
        disconnects.add(one)
    return disconnects, clients, pending


def test_a_disconnect_is_pending_until_the_socket_leaves_the_namespace() -> None:
    disconnects, _, [pending] = _pending(1)
    assert "0" in disconnects
    assert "1" not in disconnects
    assert disconnects.pop("0") is pending
    assert disconnects.pop("0") is None
    assert "0" not in disconnects


async def test_clients_are_closed_in_slices_with_the_loop_free_in_between() -> None:
    disconnects, clients, pending = _pending(3 * DISCONNECT_SLICE)
    closing = asyncio.ensure_future(disconnects.close(pending))
    begun = []
    while not closing.done():
        begun.append(sum(bool(client.closed) for client in clients))
        await asyncio.sleep(0)
    assert {0, DISCONNECT_SLICE, 2 * DISCONNECT_SLICE} <= set(begun)
    assert all((4001, "out") in client.closed for client in clients)


async def test_closing_that_is_cancelled_closes_all_that_are_left_at_once() -> None:
    disconnects, clients, pending = _pending(3 * DISCONNECT_SLICE)
    closing = asyncio.ensure_future(disconnects.close(pending))
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait((closing,))
    assert closing.cancelled()
    assert all((4001, "out") in client.closed for client in clients)


async def test_closing_nobody_is_over_at_once() -> None:
    await Disconnects().close([])


def test_those_that_are_pending_can_be_closed_now() -> None:
    disconnects, clients, _ = _pending(3)
    disconnects.pop("1")
    disconnects.close_now()
    assert [client.closed for client in clients] == [[(4001, "out")], [], [(4001, "out")]]


def test_those_of_an_event_loop_that_is_gone_are_forgotten() -> None:
    disconnects, clients, _ = _pending(2)
    disconnects.clear()
    disconnects.close_now()
    assert [client.closed for client in clients] == [[], []]
    assert "0" not in disconnects
