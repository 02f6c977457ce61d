"""An application for backends in processes of their own."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from fastapi_rooms import RoomManager

rooms = RoomManager(os.environ["REDIS_URL"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
    async with rooms:
        yield {"pid": os.getpid()}


app = FastAPI(lifespan=lifespan)


@app.websocket("/chat/address/of")
async def address(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(
        f"{websocket.url.scheme} {websocket.client and websocket.client.host}"
    )


@app.websocket("/chat/{room}")
async def chat(
    websocket: WebSocket, room: str, rooms: Annotated[RoomManager, Depends(rooms)]
) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.join(room)
        await socket.send_text(f"{websocket.state.pid} {socket.attempt}")
        async for text in socket.iter_text():
            await rooms.to(room).send_text(text)
