"""An application with a room that remembers, for clients that come back: one worker of several."""

from __future__ import annotations

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, WebSocket

from fastapi_rooms import RoomManager

rooms = RoomManager(os.environ.get("ROOMS_URL", "memory://"), linger=0.1)
rooms.history("chat-*", size=5_000)
Rooms = Annotated[RoomManager, Depends(rooms)]
app = FastAPI(lifespan=rooms.lifespan)


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"ready": rooms.health.ready, "worker": os.getpid()}


@app.websocket("/chat/{room}")
async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.join(f"chat-{room}")
        await socket.send_text("joined")
        async for text in socket.iter_text():
            await socket.to(f"chat-{room}").send_text(text)
