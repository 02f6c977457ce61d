"""An application that is secured in every way there is, for `test_security`."""

from __future__ import annotations

import os
from typing import Any

from fastapi import Depends, FastAPI, WebSocket

from fastapi_rooms import AllowedOrigins, RateLimit, RoomManager, Socket

rooms = RoomManager(max_rooms_per_socket=3)
app = FastAPI(lifespan=rooms.lifespan)


@rooms.authorize("private-*")
async def is_invited(socket: Socket, room: str) -> bool:
    return room == f"private-{socket.data['user']}"


@app.websocket("/{user}", dependencies=[Depends(AllowedOrigins())])
async def everyones(websocket: WebSocket, user: str) -> None:
    async with rooms.connect(websocket, data={"user": user}) as socket:
        limit = RateLimit(0.1, burst=10)
        async for room in socket.iter_text():
            limit.check(room)
            await socket.join(room)
            await socket.send_text(f"in {room}")


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"worker": os.getpid(), "ready": rooms.health.ready}
