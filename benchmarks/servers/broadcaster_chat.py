"""encode/broadcaster, as its README has it: a task that sends beside the one that receives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from broadcaster import Broadcast  # type: ignore[import-not-found, unused-ignore]
from fastapi import FastAPI, WebSocket

from benchmarks.servers.options import read_options, serve

options = read_options()
broadcast = Broadcast(options.redis or "memory://")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with broadcast:
        yield


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws/{room}")
async def chat(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    async with anyio.create_task_group() as task_group:

        async def run_receiver() -> None:
            await receiver(websocket, room)
            task_group.cancel_scope.cancel()

        task_group.start_soon(run_receiver)
        await sender(websocket, room)


async def receiver(websocket: WebSocket, room: str) -> None:
    async for message in websocket.iter_text():
        await broadcast.publish(channel=room, message=message)


async def sender(websocket: WebSocket, room: str) -> None:
    async with broadcast.subscribe(channel=room) as subscriber:
        await websocket.send_text("ready")
        async for event in subscriber:
            await websocket.send_text(event.message)


if __name__ == "__main__":
    serve(app, options)
