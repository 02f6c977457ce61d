"""Rooms and nothing beside them: an application that starts as soon as one with rooms can."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fastapi_rooms import RoomManager

rooms = RoomManager(os.environ.get("ROOMS_URL", "memory://"))


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"worker": os.getpid(), "ready": rooms.health.ready})


app = Starlette(routes=[Route("/health", health)], lifespan=rooms.lifespan)
