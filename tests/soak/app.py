"""The application of the soak: its clients say what to do, and it says what became of it.

A message to a room is `m <room> <sender> <number> <time>`, with the namespace before the room's
name, and the time at which it was sent here. All else is an answer, or `gap <since> <until> <room>
…`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from fastapi_rooms import (
    AdapterUnavailable,
    Gap,
    Namespace,
    OutboxPolicy,
    RedisAdapter,
    RequestError,
    RoomManager,
    RoomsError,
    Socket,
)
from tests.soak.memory import Memory
from tests.soak.state import State, Tracing

adapter = RedisAdapter(os.environ["ROOMS_URL"], probe_interval=0.5)  # a freeze is noticed
rooms = RoomManager(adapter, linger=0.2, outbox=OutboxPolicy(max_bytes=256 * 1024), heartbeat=1)
app = FastAPI(lifespan=rooms.lifespan)
tracing = Tracing()


def full_name(namespace: Namespace, room: str) -> str:
    return f"{namespace.name}:{room}"


async def tell(gap: Gap) -> None:
    names = " ".join(full_name(gap.namespace, room) for room in gap.rooms)
    await gap.namespace.local.to(*gap.rooms).send_text(f"gap {gap.since} {gap.until} {names}")


_clients_in: Counter[str] = Counter()


@contextmanager
def telling_of_gaps(name: str) -> Iterator[Namespace]:
    """A namespace whose clients are told of gaps; it is gone with the last of them."""
    namespace = rooms.of("/" + name.strip("-"))
    if not _clients_in[name]:
        namespace.on("gap")(tell)
    _clients_in[name] += 1
    try:
        yield namespace
    finally:
        _clients_in[name] -= 1
        if not _clients_in[name]:
            del _clients_in[name]
            namespace.off("gap", tell)


class Endpoint:
    """What one client can have done."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.namespace = socket.namespace

    async def say(self, room: str, sender: str, number: str) -> str:
        text = f"m {full_name(self.namespace, room)} {sender} {number} {time.time()}"
        try:
            await self.namespace.to(room).send_text(text)
        except AdapterUnavailable:
            return f"refused {full_name(self.namespace, room)} {number}"
        return ""

    async def join(self, *names: str) -> str:
        await self.socket.join(*names)
        return "joined"

    async def leave(self, *names: str) -> str:
        await self.socket.leave(*names)
        return f"left {time.time()}"

    async def count(self, room: str) -> str:
        return f"counted {await self.namespace.to(room).count()}"

    async def fetch(self, room: str) -> str:
        return f"fetched {len(await self.namespace.to(room).fetch_sockets())}"

    async def lure(self, room: str) -> str:
        await self.namespace.to(room).sockets_join("lured")
        await self.namespace.to(room).sockets_leave("lured")
        return "lured"

    async def disconnect(self, room: str) -> str:
        await self.namespace.to(room).disconnect_sockets(4000, "as was asked")
        return "disconnected"

    async def bye(self) -> str:
        return "bye"

    async def obey(self, text: str) -> str:
        verb, *arguments = text.split(" ")
        try:
            return str(await getattr(self, verb)(*arguments))
        except (AdapterUnavailable, RequestError) as error:
            return f"failed {verb} {type(error).__name__}"


@app.websocket("/ws/{namespace}")
async def endpoint(websocket: WebSocket, namespace: str, sid: str | None = None) -> None:
    with telling_of_gaps(namespace) as where:
        async with where.connect(websocket, sid=sid, data={"since": time.time()}) as socket:
            await obey(socket)


async def obey(socket: Socket) -> None:
    here = Endpoint(socket)
    await socket.send_text(f"in {socket.sid}")
    async for text in socket.iter_text():
        if answer := await here.obey(text):
            await socket.send_text(answer)


@app.websocket("/listen/{namespace}/{room}")
async def listens(websocket: WebSocket, namespace: str, room: str) -> None:
    """What a listener hears, as a member of the room would; its gaps come to the socket's room."""
    with telling_of_gaps(namespace) as where:
        async with where.connect(websocket) as socket:
            await relay(socket, room)


async def relay(socket: Socket, room: str) -> None:
    await socket.send_text(f"in {socket.sid}")

    async def pass_on() -> None:
        async with socket.namespace.listen(room) as messages:
            await socket.send_text("joined")
            async for message in messages:
                await socket.send_text(message.text)

    passing_on = asyncio.create_task(pass_on())
    try:
        async for _ in socket.iter_text():
            await socket.send_text("bye")
    finally:
        passing_on.cancel()
        with suppress(asyncio.CancelledError, RoomsError, WebSocketDisconnect):
            await passing_on


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"worker": os.getpid(), "ready": rooms.health.ready}


@app.get("/state")
async def state() -> State:
    """What it holds on to now."""
    return State.of(rooms)


@app.get("/memory")
async def memory(trim: bool = False) -> Memory:
    """Where its memory is; if `trim`, after the allocator was told to give some back."""
    return Memory.now(trim=trim)


@app.get("/traced")
async def traced() -> list[str]:
    """What has grown since this was last asked, if `PYTHONTRACEMALLOC` is set."""
    return tracing.grown()
