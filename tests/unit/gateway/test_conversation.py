"""What an edge makes of a backend that says what it should not, and of one that has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import AdapterUnavailable, Gateway, RoomManager
from fastapi_rooms.gateway import conversation
from fastapi_rooms.testing import Rejected, WebSocketClient, eventually
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind
from tests.unit.gateway.support import ACCEPT, Peer, Site

TEXT = FrameKind.TEXT, b"text"
CLOSE = FrameKind.CLOSE, wire.pack_close(4000, "over")
DENY = FrameKind.DENY, wire.pack_deny(403, [], b"")
CALL = FrameKind.CALL, wire.to_json({"id": 1, "verb": "leave", "namespace": "/", "rooms": []})


@asynccontextmanager
async def opened(edge: Gateway, forger: Peer) -> AsyncIterator[tuple[WebSocketClient, bytes]]:
    """A client whose endpoint a forger is asked to open, and the connection for that."""
    client = WebSocketClient(edge, "/")
    opening = asyncio.create_task(client.open())
    try:
        await eventually(lambda: forger.heard)
        yield client, forger.heard.pop().connection
    finally:
        opening.cancel()
        await asyncio.wait((opening,))
        client.leave(1006)


async def answers(rooms: RoomManager, websocket: WebSocket) -> None:
    """An endpoint of a true backend."""
    async with rooms.connect(websocket) as socket:
        await socket.send_text(f"true {socket.attempt}")
        await socket.wait_closed()


@asynccontextmanager
async def conversing(
    site: Site,
) -> AsyncIterator[tuple[Gateway, Peer, WebSocketClient, bytes]]:
    """An edge, a forger that its client has heard, the connection, and a true backend besides."""
    edge = await site.edge()
    forger = await site.forger(edge)
    async with opened(edge, forger) as (client, connection):
        await site.backend(answers)
        forger.say(edge.manager.node, connection, ACCEPT, TEXT)
        assert await client.receive() == "text"
        yield edge, forger, client, connection


@pytest.mark.parametrize(
    "said", [[TEXT], [CLOSE], [CALL], [(FrameKind.OPEN, b"{}")], [(FrameKind.ACCEPT, b"[")]]
)
async def test_a_backend_that_begins_with_anything_but_an_answer_is_left_for_another(
    site: Site, said: list[tuple[FrameKind, bytes]]
) -> None:
    edge = await site.edge()
    forger = await site.forger(edge)
    async with opened(edge, forger) as (client, connection):
        await site.backend(answers)
        forger.say(edge.manager.node, connection, *said)
        assert await client.receive() == "true 0"
        await eventually(lambda: forger.kinds() == [FrameKind.RESET])
        assert edge.manager._runtime.run.frames.malformed == 1


@pytest.mark.parametrize(
    "said", [[ACCEPT], [DENY], [(FrameKind.REPLY, b"{}")], [(FrameKind.CALL, b'{"id":1}')]]
)
async def test_a_backend_that_says_what_cannot_be_later_loses_its_client_to_another(
    site: Site, said: list[tuple[FrameKind, bytes]]
) -> None:
    async with conversing(site) as (edge, forger, client, connection):
        forger.say(edge.manager.node, connection, *said, first=3)
        assert await client.receive() == "true 1"


@pytest.mark.parametrize("credit", [(1, 1), (0, 1), (2**32 - 1, 2**32 - 1), (2**32 - 1, 0)])
async def test_a_credit_for_what_was_never_sent_ends_the_conversation(
    site: Site, credit: tuple[int, int]
) -> None:
    async with conversing(site) as (edge, forger, client, connection):
        body = wire.pack_credit(*credit)
        forger.say(edge.manager.node, connection, (FrameKind.CREDIT, body), first=3)
        assert await client.receive() == "true 1"


async def test_more_than_the_window_ends_the_conversation(site: Site) -> None:
    async with conversing(site) as (edge, forger, client, connection):
        client.stall()
        flood = [(FrameKind.BYTES, bytes(100_000))] * 4
        forger.say(edge.manager.node, connection, *flood, first=3)
        (found,) = edge._conversations.values()
        await eventually(lambda: found._is_over)
        assert len(found._frames) <= 3
        client.resume()
        assert await client.receive_until("true 1") in ([], [bytes(100_000)])


async def test_what_waits_for_a_client_has_a_limit_in_bytes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "MAX_QUEUED_BYTES", 100_000)
    edge = await site.edge()
    forger = await site.forger(edge)
    async with opened(edge, forger) as (client, connection):
        call = {"id": 1, "verb": "enter", "namespace": "/", "sid": "x" * 255, "data": {}}
        call["data"] = {"x": "x" * 30_000}
        flood = [(FrameKind.CALL, wire.to_json(call))] * 9
        forger.say(edge.manager.node, connection, ACCEPT, TEXT)
        assert await client.receive() == "text"
        client.stall()
        forger.say(edge.manager.node, connection, TEXT, *flood, first=3)
        (found,) = edge._conversations.values()
        await eventually(lambda: found._is_over)
        assert sum(size for _, size in found._frames) <= 100_000
        client.resume()


async def test_how_a_backend_ends_it_counts_whatever_comes_then(site: Site) -> None:
    """It has no endpoint any more for what is on its way to it, and says so."""
    edge = await site.edge()
    forger = await site.forger(edge)
    async with opened(edge, forger) as (client, connection):
        await site.backend(answers)
        forger.say(edge.manager.node, connection, ACCEPT, CLOSE, (FrameKind.RESET, b""))
        assert await client.wait_closed() == 4000


async def test_a_client_that_goes_on_speaking_is_closed_as_its_endpoint_says(site: Site) -> None:
    async def closes(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        await websocket.close(4001)

    edge = await site.edge()
    await site.backend(closes)
    async with WebSocketClient(edge, "/") as client:
        for number in range(50):
            await client.send_text(f"{number}")
        assert await client.wait_closed() == 4001


@pytest.mark.parametrize(
    ("refuses", "code"),
    [("raise", 1011), ("close", 1008), ("close 4001", 4001), ("status 401", 4401)],
)
async def test_a_later_endpoint_that_refuses_closes_its_client_and_is_not_begun_again(
    site: Site, refuses: str, code: int
) -> None:
    begun: list[str] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        begun.append(refuses)
        how, _, number = refuses.partition(" ")
        if how == "close":
            await websocket.close(int(number or 1000))
        elif how == "status":
            await websocket.send_denial_response(Response(status_code=int(number)))
        else:
            raise RuntimeError("on purpose")

    edge = await site.edge()
    first = await site.backend(answers)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "true 0"
        await site.replace(first, endpoint)
        assert await client.wait_closed() == code
        await client.wait_ended()
    assert begun == [refuses]


async def test_a_client_that_does_not_take_what_its_endpoint_has_left_it_is_let_go(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr("fastapi_rooms.gateway.client.CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr("fastapi_rooms.worker.connection.CLOSE_TIMEOUT", 0.05)

    async def says_and_goes(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await go.wait()
            await socket.send_text("one")
            await socket.send_text("two")

    go = asyncio.Event()
    edge = await site.edge()
    await site.backend(says_and_goes)
    async with WebSocketClient(edge, "/") as client:
        await eventually(lambda: edge.manager.sids)
        client.stall()
        go.set()
        await client.wait_ended()
        assert edge.manager.sids == {}
        assert edge.clients == 0


@pytest.mark.parametrize("how", ["returns", "is released"])
async def test_what_an_endpoint_leaves_behind_hears_that_it_is_over(site: Site, how: str) -> None:
    over: list[type[BaseException]] = []

    async def sends(websocket: WebSocket) -> None:
        try:
            while True:
                await websocket.send_bytes(bytes(100_000))
        except WebSocketDisconnect as error:
            over.append(type(error))

    async def reads(websocket: WebSocket) -> None:
        over.append(type((await websocket.receive())["code"]))

    tasks: list[asyncio.Task[None]] = []

    async def leaves(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        tasks.extend(asyncio.create_task(one(websocket)) for one in (sends, reads))
        await go.wait()

    go = asyncio.Event()
    edge = await site.edge()
    backend = await site.backend(leaves, drain_timeout=0.01)
    async with WebSocketClient(edge, "/") as client:
        client.stall()
        await eventually(lambda: len(tasks) == 2)
        (connection,) = backend._connections.values()
        await eventually(lambda: connection._receiving and not connection._link.may_send)
        if how == "returns":
            go.set()
        else:
            await backend.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        client.resume()
    assert sorted(kind.__name__ for kind in over) == ["WebSocketDisconnect", "int"]


async def test_an_opening_that_cannot_be_is_given_back_at_once(site: Site) -> None:
    backend = await site.backend(answers)
    peer = await site.peer()
    peer.say(backend.manager.node, b"12345678", (FrameKind.OPEN, b'{"path":1}'))
    await eventually(lambda: peer.kinds() == [FrameKind.RESET])


async def test_data_that_is_too_long_for_an_edge_is_an_error_that_says_so(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket, data={"x": "x" * wire.MAX_JSON}):
            pass

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.wait_closed() == 1011
    assert "socket.data" in caplog.text


async def test_who_is_gone_while_nobody_serves_it_leaves_its_rooms_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def joins(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("chat-tea")
            await socket.send_text("in")
            await socket.wait_closed()

    edge = await site.edge()
    backend = await site.backend(joins)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "in"
        monkeypatch.setattr(edge.turns, "wait", lambda _: 60.0)  # its turn is far
        await backend.close()
        await eventually(lambda: not edge._conversations)
        client.leave(1006)
        await client.wait_ended()
    assert edge.manager.rooms == {}


async def test_nobody_answers_for_a_name_without_backends(site: Site) -> None:
    edge = await site.edge(open_timeout=0.01)
    with pytest.raises(Rejected) as refused:
        await WebSocketClient(edge, "/").open()
    assert refused.value.status == 503


async def test_a_backend_that_is_alone_is_asked_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.gateway.client.RETRY", 0.01)
    edge = await site.edge()
    forger = await site.forger(edge)
    async with opened(edge, forger) as (client, connection):
        forger.say(edge.manager.node, connection, (FrameKind.RESET, b""))
        await eventually(lambda: FrameKind.OPEN in forger.kinds())
        forger.say(edge.manager.node, forger.heard[-1].connection, ACCEPT, TEXT)
        assert await client.receive() == "text"


async def test_that_a_connection_is_over_is_said_until_the_carrier_takes_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.gateway.member.INTERVAL", 0.02)
    edge = await site.edge()
    forger = await site.forger(edge)
    publish, refused = edge.frames.publish, list[Frame]()

    async def refuses() -> None:
        raise AdapterUnavailable("away")

    def publishes(to: str | None, frame: Frame) -> Awaitable[object]:
        if frame.kind is FrameKind.RESET and not refused:
            refused.append(frame)
            return refuses()
        return publish(to, frame)

    monkeypatch.setattr(edge.frames, "publish", publishes)
    edge.reset(forger.node, b"12345678")
    await eventually(lambda: forger.kinds() == [FrameKind.RESET])
    assert refused


async def test_all_who_are_new_at_once_are_answered_with_one_heartbeat(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await site.backend(answers)
    sent: list[int] = []
    monkeypatch.setattr(backend, "beat", lambda **_: sent.append(1))
    for _ in range(20):
        backend.beat_soon()
    assert sent == [1]
    await eventually(lambda: sent == [1, 1])
