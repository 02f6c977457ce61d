"""Messages that are longer than what may be under way for a client: they travel in parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import Gateway, MessageTooLarge, OutboxPolicy, RoomManager
from fastapi_rooms.core.link import WINDOW
from fastapi_rooms.core.parts import LONGEST, PART, Assembly
from fastapi_rooms.gateway import conversation
from fastapi_rooms.servers.gateway import outgoing
from fastapi_rooms.testing import Rejected, WebSocketClient, eventually
from fastapi_rooms.wire.gateway import Frame, FrameKind, to_json
from fastapi_rooms.worker.frames import Frames
from tests.unit.gateway.entered import entered
from tests.unit.gateway.support import ACCEPT, Site
from tests.unit.servers.test_virtual_connection import OPEN

LONG = bytes(range(256)) * 4000  # four windows
BEFORE = "before" * 100
PARTED = "x" * (WINDOW // 2)  # longer than a part, and no longer than the window
TEXT = "é–😀" * 40_000 + "!"  # nine bytes each: parts end within characters


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """All that are published, in their order."""
    found: list[Frame] = []
    publish = Frames.publish

    def spy(self: Frames, to: str | None, frame: Frame) -> Awaitable[int | None]:
        found.append(frame)
        return publish(self, to, frame)

    monkeypatch.setattr(Frames, "publish", spy)
    return found


@pytest.fixture(params=["with rooms.connect", "without"])
def endpoint_says(request: pytest.FixtureRequest) -> Any:
    """An endpoint that says what it is given, and then what its client says."""
    with_rooms = request.param == "with rooms.connect"

    def make(*said: str | bytes) -> Any:
        async def says(speaker: Any) -> None:
            for message in said:
                if isinstance(message, str):
                    await speaker.send_text(message)
                else:
                    await speaker.send_bytes(message)
            while True:
                await speaker.send_text(await speaker.receive_text())

        async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
            if with_rooms:
                async with rooms.connect(websocket) as socket:
                    await says(socket)
            else:
                await websocket.accept()
                with suppress(WebSocketDisconnect):
                    await says(websocket)

        return endpoint

    return make


async def test_what_an_endpoint_sends_arrives_whole_in_its_order_and_travels_in_parts(
    site: Site, frames: list[Frame], endpoint_says: Any
) -> None:
    edge = await site.edge()
    backend = await site.backend(endpoint_says("before", LONG, TEXT, PARTED, "after"))
    async with WebSocketClient(edge, "/") as client:
        heard = [await client.receive() for _ in range(5)]
        assert heard == ["before", LONG, TEXT, PARTED, "after"]
        (connection,) = backend._connections.values()
        assert connection._link.unacknowledged <= 2, "messages are counted, and not parts"
    assert max(len(frame.body) for frame in frames) <= PART + 1


async def test_what_a_client_sends_arrives_whole_in_its_order_and_travels_in_parts(
    site: Site, frames: list[Frame]
) -> None:
    async def echoes(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            assert await socket.receive_text() == "before"
            await socket.send_bytes(await socket.receive_bytes())
            for _ in range(3):
                await socket.send_text(await socket.receive_text())

    edge = await site.edge()
    await site.backend(echoes)
    async with WebSocketClient(edge, "/") as client:
        await client.send_text("before")
        await client.send_bytes(LONG)
        for text in (TEXT, PARTED, "after"):
            await client.send_text(text)
        assert [await client.receive() for _ in range(4)] == [LONG, TEXT, PARTED, "after"]
        assert await client.wait_closed() == 1000
    assert max(len(frame.body) for frame in frames) <= PART + 1


async def test_a_long_message_keeps_its_place_before_a_broadcast_and_the_close(
    site: Site,
) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("plain")
            await socket.send_text(PARTED)
            await rooms.to("plain").send_text("to all")
            await socket.send_bytes(LONG)

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert [await client.receive() for _ in range(3)] == [PARTED, "to all", LONG]
        assert await client.wait_closed() == 1000


@asynccontextmanager
async def half_sent(site: Site) -> AsyncIterator[tuple[WebSocketClient, Any]]:
    """A client that has stopped to read, while a long message is sent to it behind another."""

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            if socket.attempt == 0:
                await socket.receive_text()
                await socket.send_text(BEFORE)
                try:
                    async with asyncio.timeout(None) as limit:
                        limits.append(limit)
                        await socket.send_bytes(LONG)
                except TimeoutError:
                    await socket.send_text("after")
            await socket.send_text(f"attempt {socket.attempt}")
            await socket.wait_closed()

    limits: list[asyncio.Timeout] = []
    edge = await site.edge(site.manager(outbox=OutboxPolicy(max_bytes=2 * len(BEFORE) - 1)))
    backend = await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        await eventually(lambda: edge._conversations)
        (found,) = edge._conversations.values()
        client.stall()
        await client.send_text("go")
        (connection,) = backend._connections.values()
        await eventually(lambda: limits and not connection._link.may_send)
        await eventually(
            lambda: found._is_busy and len(found._assembly._pieces or b"") > WINDOW - PART,
            what="the edge waits for the client, and has all parts that have room",
        )
        yield client, (backend, endpoint, limits[0], found)


async def test_of_a_long_message_no_more_than_the_window_is_under_way(site: Site) -> None:
    async with half_sent(site) as (client, (*_, found)):
        assert len(found._assembly._pieces) <= WINDOW + PART
        client.resume()
        assert [await client.receive() for _ in range(3)] == [BEFORE, LONG, "attempt 0"]


async def test_of_a_message_whose_sending_is_cancelled_the_client_sees_nothing(
    site: Site,
) -> None:
    async with half_sent(site) as (client, (_, _, limit, found)):
        limit.reschedule(0)
        await eventually(lambda: found._assembly._pieces is None, what="the edge has dropped it")
        client.resume()
        heard = [await client.receive() for _ in range(3)]
        assert heard == [BEFORE, "after", "attempt 0"]


async def test_of_a_message_that_was_not_whole_when_its_backend_went_the_client_sees_nothing(
    site: Site,
) -> None:
    async with half_sent(site) as (client, (backend, endpoint, *_)):
        await site.replace(backend, endpoint)
        client.resume()
        assert [await client.receive() for _ in range(2)] == [BEFORE, "attempt 1"]


async def test_what_no_endpoint_has_taken_goes_whole_to_the_next_and_in_its_order(
    site: Site,
) -> None:
    told: list[Any] = []

    async def idle(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.receive_text()
            busy.set()
            await asyncio.Event().wait()

    async def reads(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            told.append(websocket.scope["extensions"]["fastapi_rooms.edge"]["lost"])
            await socket.join("chat-tea")  # which is answered before anything is read
            told.extend([await socket.receive_text() for _ in range(2)])
            told.append(await socket.receive_bytes())
            told.append(await socket.receive_text())
            await socket.send_text("done")

    busy = asyncio.Event()
    edge = await site.edge()
    backend = await site.backend(idle)
    async with WebSocketClient(edge, "/") as client:
        for text in ("taken", "one", PARTED):
            await client.send_text(text)
        await client.send_bytes(LONG)
        await client.send_text("behind")
        await busy.wait()
        (found,) = edge._conversations.values()
        await eventually(lambda: found.again and not found._link.may_send)
        await site.replace(backend, reads)
        assert await client.receive() == "done"
    assert told == [0, "one", PARTED, LONG, "behind"]
    assert edge.health.lost == 0


async def test_a_long_message_that_has_reached_nobody_goes_whole_to_the_next_endpoint(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def echoes(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            lost = websocket.scope["extensions"]["fastapi_rooms.edge"]["lost"]
            await socket.send_text(f"attempt {socket.attempt}, lost {lost}")
            async for text in socket.iter_text():
                await socket.send_text(text)

    edge = await site.edge()
    async with entered(site, edge) as here:
        await site.backend(echoes)
        publish, kept = edge.frames.publish, list[Frame]()

        async def reaches_nobody() -> int:
            return 0

        def publishes(to: str | None, frame: Frame) -> Awaitable[int | None]:
            if to == here.forger.node and frame.kind is FrameKind.PART:
                kept.append(frame)
                return reaches_nobody()
            return publish(to, frame)

        monkeypatch.setattr(edge.frames, "publish", publishes)
        await here.client.send_text(TEXT)
        await here.client.send_text("behind")
        heard = [await here.client.receive() for _ in range(3)]
    assert len(kept) > 1
    assert heard == ["attempt 1, lost 0", TEXT, "behind"]


async def test_an_endpoint_reads_the_long_message_of_a_client_that_has_gone(site: Site) -> None:
    heard: list[Any] = []

    async def reads(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        await go.wait()
        heard.extend([await websocket.receive() for _ in range(2)])

    go = asyncio.Event()
    edge = await site.edge()
    await site.backend(reads)
    async with WebSocketClient(edge, "/") as client:
        await client.send_bytes(LONG)
        await eventually(lambda: edge._conversations)
        (found,) = edge._conversations.values()
        await eventually(lambda: not found._link.may_send)
        client.leave(1001)
        await eventually(lambda: found._gone)
        go.set()
        await eventually(lambda: len(heard) == 2)
    assert heard[0]["bytes"] == LONG
    assert heard[1]["code"] == 1001


@pytest.mark.parametrize("said", [[LONG], [LONG, b"more"], [bytes(1000)] * 400])
async def test_one_that_does_not_read_hears_all_the_same_that_its_client_has_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch, said: list[bytes]
) -> None:
    monkeypatch.setattr(conversation, "CLOSE_TIMEOUT", 0.02)

    async def pushes(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text("tick")
                await asyncio.sleep(0.001)
        except WebSocketDisconnect:
            over.set()

    over = asyncio.Event()
    edge = await site.edge()
    await site.backend(pushes)
    async with WebSocketClient(edge, "/") as client:
        for message in said:
            await client.send_bytes(message)
        await eventually(lambda: edge._conversations)
        (found,) = edge._conversations.values()
        await eventually(lambda: not found._link.may_send)
        client.leave(1001)
        await asyncio.wait_for(over.wait(), 10)
    assert edge.clients == 0


async def test_a_message_that_no_edge_would_take_is_an_error_and_the_socket_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "LONGEST", 1000)
    errors: list[Exception] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sending = [socket.send_text("x" * size) for size in (1001, 1000, 2000, 3)]
            done = await asyncio.gather(*sending, return_exceptions=True)
            errors.extend(each for each in done if isinstance(each, Exception))
            await socket.receive_text()
            await socket.send_bytes(bytes(5000))

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert [await client.receive() for _ in range(2)] == ["x" * 1000, "xxx"]
        await client.send_text("go on")
        assert await client.wait_closed() == 1009
    assert [type(error) for error in errors] == [MessageTooLarge] * 2
    assert "1001 bytes; the limit is 1000 (for the client of an edge)" in str(errors[0])


async def test_an_answer_to_a_handshake_has_a_limit_too(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.send_denial_response(Response(bytes(2_000_000), status_code=403))

    edge = await site.edge()
    await site.backend(endpoint)
    with pytest.raises(Rejected) as refused:
        await WebSocketClient(edge, "/").open()
    assert refused.value.status == 500
    assert "2,000,000 bytes" in caplog.text


LOOSE = FrameKind.PART, b"\x02belongs to nothing"
FOREVER = [(FrameKind.PART, bytes((n == 0,)) + bytes(PART)) for n in range(3)]
NO_TEXT = FrameKind.PART, b"\x07\xff"


@pytest.mark.parametrize("said", [[LOOSE], [(FrameKind.PART, b"\xff")], FOREVER, [NO_TEXT]])
async def test_a_backend_that_sends_parts_of_nothing_or_for_ever_loses_its_client(
    site: Site, monkeypatch: pytest.MonkeyPatch, said: list[tuple[FrameKind, bytes]]
) -> None:
    monkeypatch.setattr(Assembly.__init__, "__defaults__", (2 * PART,))
    edge = await site.edge()
    forger = await site.forger(edge)
    client = WebSocketClient(edge, "/")
    opening = asyncio.create_task(client.open())
    await eventually(lambda: forger.heard)
    (opened,) = forger.heard
    enter = {"id": 1, "verb": "enter", "namespace": "/", "sid": "a", "data": {}, "users": {}}
    forger.say(edge.manager.node, opened.connection, ACCEPT, (FrameKind.CALL, to_json(enter)))
    await opening
    await eventually(lambda: FrameKind.REPLY in forger.kinds())
    forger.say(edge.manager.node, opened.connection, *said, first=3)
    await eventually(lambda: FrameKind.RESET in forger.kinds())
    assert edge.health.dropped == 1
    assert client.unread == []
    await client.close()


@pytest.mark.parametrize("said", [[LOOSE], [(FrameKind.PART, b"")], FOREVER, [NO_TEXT]])
async def test_an_edge_that_sends_parts_of_nothing_or_for_ever_loses_its_endpoint(
    site: Site, monkeypatch: pytest.MonkeyPatch, said: list[tuple[FrameKind, bytes]]
) -> None:
    async def reads(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        codes.append((await websocket.receive())["code"])

    monkeypatch.setattr(Assembly.__init__, "__defaults__", (2 * PART,))
    codes: list[int] = []
    backend = await site.backend(reads)
    peer = await site.peer()
    peer.say(backend.manager.node, b"12345678", (FrameKind.OPEN, to_json(OPEN)))
    await eventually(lambda: FrameKind.ACCEPT in peer.kinds())
    peer.say(backend.manager.node, b"12345678", *said, first=2)
    await eventually(lambda: codes)
    assert peer.kinds()[-1] is FrameKind.RESET
    assert backend.health.dropped == 1


def test_an_edge_takes_no_longer_messages_of_clients_than_it_can_send() -> None:
    with pytest.raises(ValueError, match="67,108,864 bytes"):
        Gateway(routes={"/": "chat"}, max_message_bytes=LONGEST + 1)
    Gateway(routes={"/": "chat"}, max_message_bytes=LONGEST)
