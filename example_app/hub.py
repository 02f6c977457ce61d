"""What the parts of this application share: the manager, and the names of workers and rooms."""

import os
import platform
from typing import Annotated

from fastapi import Depends

from fastapi_rooms import RoomManager

# By such heartbeats the people of a killed worker are gone from the lists after some six seconds.
rooms = RoomManager(os.environ.get("ROOMS_URL", "memory://"), heartbeat=1.5)
Rooms = Annotated[RoomManager, Depends(rooms)]

PREFIX = "room:"
SAID = "said:"
rooms.history(SAID + "*", size=200, ttl=24 * 3600)


def key(room: str) -> str:
    """The library's name for a chat room. A sid is a room too: the prefix keeps people out."""
    return PREFIX + room


def said_in(room: str) -> str:
    """The room beside it for what is said: it remembers that, and not who comes and goes."""
    return SAID + room


def room_of(key: str) -> str:
    """The chat room that the library knows by this name."""
    return key.partition(":")[2]


def worker() -> str:
    """This process. Asked for late: `gunicorn --preload` imports us before it forks."""
    return f"{platform.node()}:{os.getpid()}"
