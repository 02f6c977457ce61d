"""What edges and backends have on their way to each other is limited for each pair of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import RoomManager
from fastapi_rooms.core.in_flight import MOST, share
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import FrameKind
from tests.unit.gateway.support import ACCEPT, Peer, Site
from tests.unit.servers.test_virtual_connection import OPEN

CLIENTS = 12
SAID = "x" * 60_000
EACH = 4  # a window's worth: all of them together are more than may be on the way


def heard(peer: Peer) -> int:
    """How many bytes of messages it has got."""
    return sum(len(frame.body) for frame in peer.heard if frame.kind is FrameKind.TEXT)


def marks(peer: Peer) -> list[int]:
    return [wire.unpack_mark(f.body) for f in peer.heard if f.kind is FrameKind.MARK]


async def let_all_through(peer: Peer, to: str, messages: int) -> None:
    """Send back each mark, as it should have been at once, until all has come."""
    answered = 0

    def answer() -> bool:
        nonlocal answered
        for mark in marks(peer)[answered:]:
            peer.say(to, bytes(8), (FrameKind.ARRIVED, wire.pack_arrived(mark, MOST)), first=0)
            answered += 1
        return heard(peer) == messages * len(SAID)

    await eventually(answer)


async def test_a_backend_that_stands_still_has_little_on_its_way_and_all_of_it_when_it_goes_on(
    site: Site,
) -> None:
    edge = await site.edge()
    stands_still = await site.forger(edge, capacity=100)
    async with AsyncExitStack() as stack:
        for _ in range(CLIENTS):
            client = WebSocketClient(edge, "/")
            opening = asyncio.create_task(client.open())
            await eventually(lambda: FrameKind.OPEN in stands_still.kinds())
            opened = stands_still.heard.pop().connection
            stands_still.say(edge.manager.node, opened, ACCEPT)
            await opening
            stack.push_async_callback(client.close)
            for _ in range(EACH):
                await client.send_text(SAID)
        found = list(edge._conversations.values())
        await eventually(lambda: any(each._has_to_wait for each in found))
        assert MOST <= heard(stands_still) + 64 * len(stands_still.heard) < MOST + 2 * len(SAID)
        await let_all_through(stands_still, edge.manager.node, CLIENTS * EACH)


async def test_an_edge_that_stands_still_has_little_on_its_way_and_all_of_it_when_it_goes_on(
    site: Site,
) -> None:
    ended: list[int] = []

    async def speaks(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        for _ in range(EACH):
            await websocket.send_text(SAID)
        ended.append(1)
        await websocket.receive()

    backend = await site.backend(speaks)
    stands_still = await site.peer()
    for number in range(CLIENTS):
        connection = (number + 1).to_bytes(8)
        stands_still.say(backend.manager.node, connection, (FrameKind.OPEN, wire.to_json(OPEN)))
    await eventually(lambda: heard(stands_still) >= MOST - 64 * len(stands_still.heard))
    assert heard(stands_still) < MOST + 2 * len(SAID)
    assert len(ended) < CLIENTS
    await let_all_through(stands_still, backend.manager.node, CLIENTS * EACH)
    await eventually(lambda: len(ended) == CLIENTS)


@pytest.mark.parametrize("how", ["the client goes", "it is cancelled"])
async def test_who_waits_for_others_to_arrive_need_not_any_more_when_it_is_over(
    site: Site, how: str
) -> None:
    over: list[str] = []

    async def speaks(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                async with asyncio.timeout(None) as limit:
                    limits.append(limit)
                    await websocket.send_text(SAID)
        except WebSocketDisconnect:
            over.append("the client goes")
        except TimeoutError:
            over.append("it is cancelled")

    limits: list[asyncio.Timeout] = []
    backend = await site.backend(speaks)
    stands_still = await site.peer()
    opened = FrameKind.OPEN, wire.to_json(OPEN)
    for number in range(CLIENTS):
        stands_still.say(backend.manager.node, (number + 1).to_bytes(8), opened)
    passage = backend.passages.to(stands_still.node)
    await eventually(lambda: passage._in_flight._waiting)
    waiting = len(passage._in_flight._waiting)
    if how == "it is cancelled":
        limits[-1].reschedule(0)
    else:
        close = FrameKind.CLOSE, wire.pack_close(1000, "")
        for number in range(CLIENTS):
            stands_still.say(backend.manager.node, (number + 1).to_bytes(8), close, first=2)
    await eventually(lambda: over)
    await eventually(lambda: len(passage._in_flight._waiting) < waiting)
    assert set(over) == {how}


async def test_a_mark_that_was_lost_is_sent_again_with_the_heartbeat(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.gateway.member.INTERVAL", 0.02)
    backend = await site.backend(floods)
    stands_still = await site.peer()
    for number in range(CLIENTS):
        stands_still.say(
            backend.manager.node, (number + 1).to_bytes(8), (FrameKind.OPEN, wire.to_json(OPEN))
        )
        stands_still.beat(role="edge")
    await eventually(lambda: len(marks(stands_still)) > len(set(marks(stands_still))))
    so_far, last = heard(stands_still), marks(stands_still)[-1]
    body = wire.pack_arrived(last, MOST)
    stands_still.say(backend.manager.node, bytes(8), (FrameKind.ARRIVED, body), first=0)
    await eventually(lambda: heard(stands_still) > so_far)


async def floods(rooms: RoomManager, websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(SAID)


@pytest.mark.parametrize("to", ["edge", "backend"])
async def test_a_mark_comes_back_with_the_share_that_the_sender_has(site: Site, to: str) -> None:
    edge = await site.edge()
    backend = await site.backend(floods)
    peers = [await site.peer() for _ in range(30)]
    for peer in peers:
        if to == "backend":
            peer.beat(role="edge")
        else:
            peer.beat(role="backend", name="app", clients=0, capacity=9)
    await eventually(lambda: (edge if to == "edge" else backend).peers == 31)
    node = (edge if to == "edge" else backend).manager.node
    peers[0].say(node, bytes(8), (FrameKind.MARK, wire.pack_mark(2**63)), first=0)
    await eventually(lambda: peers[0].heard)
    (answer,) = peers[0].heard
    assert answer.kind is FrameKind.ARRIVED
    assert wire.unpack_arrived(answer.body) == (2**63, share(31))
    peers[0].say(node, bytes(8), (FrameKind.ARRIVED, wire.pack_arrived(1, 1)), first=0)
    peers[0].say(node, bytes(8), (FrameKind.ARRIVED, b"x"), (FrameKind.MARK, b"x"), first=0)
    await eventually(lambda: (edge if to == "edge" else backend).dropped == 2)
