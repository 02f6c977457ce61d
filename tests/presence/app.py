"""The application of these workers: that of the integration tests, in rooms that know who is there.

Who a socket is, is said in the query. Each worker keeps what its handlers were told.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi_rooms import PresenceEvent, Socket
from tests.integration.apps import Rooms, app, rooms
from tests.presence.scene import GRACES

__all__ = ["app"]

told: list[PresenceEvent] = []
told_one: list[PresenceEvent] = []


def user_of(socket: Socket) -> str:
    return str(socket.websocket.query_params["user"])


for pattern, grace in GRACES.items():
    presence = rooms.presence(pattern, user=user_of, grace=grace)
    for kind in ("join", "leave"):
        presence.on(kind)(told.append)
        presence.on(kind, one_worker=True)(told_one.append)


def plain(events: list[PresenceEvent], room: str) -> list[tuple[int, str, str]]:
    return [(event.version, event.kind, event.user) for event in events if event.room == room]


@app.get("/told/{room}")
async def told_of(room: str) -> dict[str, Any]:
    return {"everywhere": plain(told, room), "here": plain(told_one, room)}


@app.get("/present/{room}")
async def present(room: str, rooms: Rooms) -> dict[str, Any]:
    """Any rule asks for any room of the namespace."""
    found = await presence.users(room)
    return {"version": found.version, "users": {each.user: each.sids for each in found.users}}


@app.get("/clock")
async def clock() -> float:
    return time.time()
