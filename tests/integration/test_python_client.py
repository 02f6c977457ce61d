"""The client for Python, on real servers that are cut off, killed, drained, and slower than it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from fastapi import HTTPException
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from fastapi_rooms import AdapterUnavailable, Disconnected, OutboxPolicy, RoomManager
from fastapi_rooms.client import ClientSocket, StateChange, connect
from fastapi_rooms.client import socket as socket_module
from fastapi_rooms.testing import Proxy, RedisServer, eventually
from tests.behind_edge import BehindEdge
from tests.integration.servers import Server, Start, uvicorn
from tests.integration.uvicorn_thread import uvicorn_thread

APP = "tests.integration.remembering_app:app"
ROOM = "chat-tea"
SIZE = 50


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients come back within a twentieth of the time that they may take."""
    monkeypatch.setattr(socket_module, "draw", lambda: 0.05)


class Reader:
    """Reads all that a client gets, in a task; joins are told apart."""

    def __init__(self, url: str) -> None:
        self.heard: list[str] = []
        self.joins = 0
        self.states: list[StateChange] = []
        self.recovered: list[tuple[str, bool]] = []
        self.socket = connect(
            url, on_state=self.states.append, on_recovered=lambda *told: self.recovered.append(told)
        )

    @property
    def codes(self) -> list[int | None]:
        """Those of the connections that were lost; without what was tried meanwhile."""
        before = ["", *(change.state for change in self.states)]
        lost = zip(before, self.states, strict=False)
        return [change.code for state, change in lost if state == "open"]

    async def read(self, socket: ClientSocket) -> None:
        async for message in socket:
            if message.text == "joined":
                self.joins += 1
            else:
                assert message.room == ROOM
                self.heard.append(message.text)


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Reader]:
    reader = Reader(url)
    async with reader.socket as socket, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reader.read(socket))
        await eventually(lambda: reader.joins)
        yield reader
        task.cancel()


async def test_every_message_comes_once_and_in_order_whatever_breaks(
    own_redis: RedisServer, start: Start
) -> None:
    def worker() -> Server:
        return start(uvicorn(app=APP), ROOMS_URL=own_redis.url)

    workers = [worker() for _ in range(3)]
    for server in workers:
        await asyncio.to_thread(server.wait_for_workers)
    rooms = RoomManager(own_redis.url)
    rooms.history("chat-*", size=5_000)
    sent: list[str] = []

    async def talk() -> None:
        while True:
            await rooms.to(ROOM).send_text(f"{len(sent)}")
            sent.append(f"{len(sent)}")
            await asyncio.sleep(0.002)

    async with (
        rooms,
        Proxy("127.0.0.1", workers[0].port) as proxy,
        reading(f"ws://127.0.0.1:{proxy.port}/chat/tea") as reader,
    ):

        async def comes_back(joins: int) -> None:
            await eventually(lambda: reader.joins == joins)
            await eventually(lambda: reader.heard[-1:] == sent[-1:])

        talking = asyncio.create_task(talk())
        await eventually(lambda: len(reader.heard) > 5)
        proxy.cut()
        await comes_back(2)
        proxy.lead_to("127.0.0.1", workers[1].port)
        workers[0].send(signal.SIGKILL)
        await comes_back(3)
        proxy.lead_to("127.0.0.1", workers[2].port)
        workers[1].send(signal.SIGTERM)
        await comes_back(4)
        talking.cancel()
        await asyncio.wait((talking,))
        first = int(reader.heard[0])
        await eventually(lambda: reader.heard == [f"{n}" for n in range(first, len(sent))])
        assert reader.codes == [1006, 1006, 1012]
        assert {*reader.recovered} == {(ROOM, True)}
        assert len(reader.recovered) == 3

        # Redis forgets everything, and who is connected misses nothing.
        await asyncio.to_thread(own_redis.restart)
        reader.heard.clear()
        sent.clear()
        await eventually(lambda: _say_and_hear(rooms, sent, reader))
        proxy.cut()
        await rooms.to(ROOM).send_text("missed")
        await eventually(lambda: reader.heard[-1:] == ["missed"])
        assert reader.heard == sorted({*reader.heard})
        assert reader.recovered[-1] == (ROOM, True)


async def _say_and_hear(rooms: RoomManager, sent: list[str], reader: Reader) -> bool:
    """Say one thing more; whether anything was heard."""
    sent.append(f"again {len(sent):03}")
    with suppress(AdapterUnavailable):
        await rooms.to(ROOM).send_text(sent[-1])
    return reader.heard != []


@pytest.mark.parametrize("is_edge", [False, True], ids=["worker", "edge"])
async def test_a_slow_reader_is_closed_with_1013_and_goes_on_without_a_hole(
    redis: RedisServer, *, is_edge: bool
) -> None:
    filler = "x" * 40_000

    def remembering() -> RoomManager:
        rooms = RoomManager(redis.url, outbox=OutboxPolicy(max_bytes=500_000), linger=0)
        rooms.history("slow", size=SIZE)
        return rooms

    rooms = remembering()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("slow")
            await socket.send_text("joined")
            if websocket.query_params.get("floods"):
                for number in range(SIZE):
                    await socket.to("slow").send_text(f"{number} {filler}")
                await socket.send_text("all are sent")
            await socket.wait_closed()

    app: Any = Starlette(routes=[WebSocketRoute("/ws", endpoint)], lifespan=rooms.lifespan)
    app = BehindEdge(app, rooms, remembering()) if is_edge else app
    states: list[StateChange] = []
    with uvicorn_thread(app, log_level="error") as port:
        url = f"ws://127.0.0.1:{port}/ws"
        async with connect(url, on_state=states.append, compression=None, max_queue=1) as slow:
            assert (await anext(slow)).text == "joined"
            async with connect(f"{url}?floods=1") as other:
                await eventually(lambda: _reads(other, "all are sent"))
            numbers = []
            async for message in slow:
                if message.position is not None:
                    numbers.append(int(message.text.split()[0]))
                if len(numbers) == SIZE:
                    break
    assert numbers == [*range(SIZE)]
    assert [change.code for change in states if change.state == "waiting"] == [1013]


async def _reads(socket: ClientSocket, text: str) -> bool:
    return (await anext(socket)).text == text


async def _connect_and_read(url: str, token: str) -> None:
    async with connect(url, token=token) as socket:
        await anext(socket)


@pytest.mark.parametrize("accepted", [True, False], ids=["4401", "401"])
async def test_an_expired_token_is_renewed_and_nothing_is_missed(
    redis: RedisServer, accepted: bool
) -> None:
    rooms = RoomManager(redis.url, linger=0)
    rooms.history("paid")
    valid = "first"

    async def endpoint(websocket: WebSocket) -> None:
        nonlocal valid
        is_valid = websocket.query_params["token"] == valid
        if not accepted and not is_valid:
            raise HTTPException(401, "expired")
        async with rooms.connect(websocket) as socket:
            if not is_valid:
                raise HTTPException(401, "expired")
            await socket.join("paid")
            await socket.send_text(await socket.receive_text())
            valid = "second"
            await socket.disconnect(1011)

    asked: list[bool] = []

    def token(refresh: bool) -> str:
        asked.append(refresh)
        return "second" if refresh else "first"

    app = Starlette(routes=[WebSocketRoute("/ws", endpoint)], lifespan=rooms.lifespan)
    sender = RoomManager(redis.url)
    sender.history("paid")
    with uvicorn_thread(app, log_level="critical") as port:
        async with sender, connect(f"ws://127.0.0.1:{port}/ws", token=token) as socket:
            await socket.send_text("one")
            assert (await anext(socket)).text == "one"
            await eventually(lambda: valid == "second")
            await sender.to("paid").send_text("missed")
            assert (await anext(socket)).text == "missed"
        assert asked == [False, False, True]
        with pytest.raises(Disconnected) as raised:
            await _connect_and_read(f"ws://127.0.0.1:{port}/ws", token="third")
        assert (raised.value.code, raised.value.reason) == (4401, "expired")
        assert raised.value.status == (None if accepted else 401)
