"""A room that remembers: who connects is in it, and hears what everybody says."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from fastapi_rooms import RoomManager

rooms = RoomManager(os.environ["ROOMS_URL"])
rooms.history("room", size=1000)


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"worker": os.getpid(), "ready": rooms.health.ready})


async def chat(websocket: WebSocket) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.join("room")
        await socket.send_text("ready")
        async for text in socket.iter_text():
            await rooms.to("room").send_text(text)


app = Starlette(
    routes=[Route("/health", health), WebSocketRoute("/ws", chat)], lifespan=rooms.lifespan
)
