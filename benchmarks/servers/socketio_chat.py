"""python-socketio's asyncio server on uvicorn."""
# mypy: disable-error-code="import-not-found, untyped-decorator, unused-ignore"

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import socketio

from benchmarks.servers.options import read_options, serve

options = read_options()
manager = socketio.AsyncRedisManager(options.redis) if options.redis else None
sio = socketio.AsyncServer(async_mode="asgi", client_manager=manager)
room_of: dict[str, str] = {}


@sio.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    room_of[sid] = parse_qs(environ["QUERY_STRING"])["room"][0]
    await sio.enter_room(sid, room_of[sid])
    await sio.emit("ready", to=sid)


@sio.event
async def m(sid: str, data: str) -> None:
    await sio.emit("m", data, room=room_of[sid])


@sio.event
async def disconnect(sid: str, _: str) -> None:
    del room_of[sid]


if __name__ == "__main__":
    serve(socketio.ASGIApp(sio), options)
