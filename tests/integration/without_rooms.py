"""The routes of `apps` without the library, to see what a server does on its own account."""

from __future__ import annotations

import json
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"worker": os.getpid(), "ready": True})


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(json.dumps({"sid": "", "worker": os.getpid()}))
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(routes=[Route("/health", health), WebSocketRoute("/ws", echo)])
