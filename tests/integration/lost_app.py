"""An application whose endpoints do not read, end badly, or speak of somebody else's socket."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, WebSocket
from starlette.types import Receive, Scope, Send

from fastapi_rooms import RoomManager, Socket

logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")

rooms = RoomManager(os.environ.get("ROOMS_URL", "memory://"), linger=0.1, join_timeout=1)
app = FastAPI(lifespan=rooms.lifespan)
Rooms = Annotated[RoomManager, Depends(rooms)]

disconnected: list[str] = []
endpoints_running = 0
sockets: dict[str, Socket] = {}


@rooms.on("disconnect")
def note(socket: Socket) -> None:
    disconnected.append(socket.sid)


async def never_reads(socket: Socket) -> None:
    await asyncio.Event().wait()


async def pushes(socket: Socket) -> None:
    while True:
        await asyncio.sleep(0.02)
        await socket.send_text("tick")


async def waits(socket: Socket) -> None:
    async with asyncio.TaskGroup() as group:
        pushing = group.create_task(pushes(socket))
        await socket.wait_closed()
        pushing.cancel()


async def listens(socket: Socket) -> None:
    async with rooms.listen("news") as messages:
        async for message in messages:
            await socket.send_text(message.text)


async def in_two_namespaces(socket: Socket) -> None:
    async with rooms.of("/other").connect(socket.websocket) as other:
        await other.join("park")
        await never_reads(socket)


async def cleans_up_slowly(socket: Socket) -> None:
    try:
        await never_reads(socket)
    finally:
        await asyncio.sleep(0.5)


async def ends_by_its_cancellation(socket: Socket) -> None:
    with suppress(asyncio.CancelledError):
        await never_reads(socket)


KINDS = {
    kind.__name__: kind
    for kind in (
        never_reads,
        pushes,
        waits,
        listens,
        in_two_namespaces,
        cleans_up_slowly,
        ends_by_its_cancellation,
    )
}


@app.websocket("/push/{kind}")
async def push(websocket: WebSocket, kind: str, rooms: Rooms, before: float = 0) -> None:
    """Accept, take `before` seconds, come in, join, and do as the kind of endpoint does."""
    global endpoints_running
    endpoints_running += 1
    try:
        await websocket.accept()
        await websocket.send_text("accepted")
        await asyncio.sleep(before)
        async with rooms.connect(websocket) as socket:
            await socket.join("park")
            if not before:  # else nothing is to be sent, which would show that nobody is there
                await rooms.to(socket.sid).send_text("in")
            await KINDS[kind](socket)
    finally:
        endpoints_running -= 1


@app.websocket("/sid/{sid}")
async def has_a_sid(websocket: WebSocket, sid: str, rooms: Rooms) -> None:
    async with rooms.connect(websocket, sid=sid) as socket:
        sockets[sid] = socket
        await socket.send_text("in")
        async for _ in socket.iter_text():
            pass


@app.websocket("/relay/{sid}")
async def relays(websocket: WebSocket, sid: str, rooms: Rooms) -> None:
    """Pass what the client says to a socket that the application has kept."""
    async with rooms.connect(websocket) as socket:
        async for text in socket.iter_text():
            await sockets[sid].send_text(text)


@app.websocket("/status/{status}")
async def ends_with_a_status(websocket: WebSocket, status: int, rooms: Rooms) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.receive_text()
        raise HTTPException(status, "as you wish")


@app.get("/health")
async def health(rooms: Rooms) -> dict[str, Any]:
    return {"worker": os.getpid(), "ready": rooms.health.ready}


@app.get("/running")
async def running() -> int:
    return endpoints_running


@app.get("/state")
async def state(rooms: Rooms) -> dict[str, Any]:
    other = rooms.of("/other")
    return {
        "worker": os.getpid(),
        "sids": len(rooms.sids) + len(other.sids),
        "rooms": len(rooms.rooms) + len(other.rooms),
        "count": await rooms.to("park").count() + await other.to("park").count(),
        "disconnected": len(disconnected),
        "endpoints": endpoints_running,
    }


async def without_extensions(scope: Scope, receive: Receive, send: Send) -> None:
    """The same on a server that can say nothing by HTTP once a client wants a WebSocket."""
    await app({**scope, "extensions": {}}, receive, send)
