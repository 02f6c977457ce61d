"""The client's half of the framing: what the server's frames say, and what is said to it.

`client_framing` is the server's half, and has the list of the frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import orjson

from fastapi_rooms.core.names import check_room
from fastapi_rooms.errors import InvalidRoomName
from fastapi_rooms.types import Room
from fastapi_rooms.wire.client_framing import HEARTBEAT_SECONDS, MAX_RESUME_BYTES, VERSION

QUERY = "fastapi_rooms"
"""The query parameter by which a client asks for the framing; its value is 1."""

MAX_POSITION = 60
"""Characters that a position has at most."""

MAX_WINDOW = 600.0
"""Seconds that a server may have its clients wait for after 1012; one that says more has this."""

_NULS = ("\0", b"\0")

_MARGIN = 4_000
"""Bytes of a resume frame that are left for what is not a position."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a server that speaks the framing."""

    token: str | None
    heartbeat: float
    """Seconds within which it sends something."""
    window: float
    """Seconds over which its clients are to come back after 1012."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The client is in a room with a history."""

    room: Room
    recovered: bool | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What lies before a position was not for this client."""

    room: Room
    position: str


@dataclass(frozen=True, slots=True)
class Left:
    """The client is in a room with a history no more."""

    room: Room


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The connection lives."""


@dataclass(frozen=True, slots=True)
class Content:
    """A message of the application's."""

    data: str | bytes
    room: Room | None = None
    position: str | None = None


ServerFrame = Joined | Moved | Left | Heartbeat | Content


def parse_hello(frame: str | bytes) -> Hello | None:
    """The hello that a first frame is; `None` if it is none, or of a version that is not known."""
    said = _said(frame[2:]) if isinstance(frame, str) and frame.startswith("\0h") else None
    if said is None or said.get("version") != VERSION:
        return None
    token = said.get("token")
    return Hello(
        token=token if isinstance(token, str) and 0 < len(token) <= 64 else None,
        heartbeat=_seconds(said.get("heartbeat")) or HEARTBEAT_SECONDS,
        window=min(MAX_WINDOW, _seconds(said.get("window"))),
    )


def parse(frame: str | bytes) -> ServerFrame | None:
    """What a frame after the hello says; `None` if it cannot be read."""
    if frame[:1] not in _NULS:
        return Content(frame)
    kind = frame[1:2] if isinstance(frame, str) else frame[1:2].decode("latin-1")
    if kind == ".":
        return Content(frame[2:])
    if kind == "m":
        return _in_place(frame)
    if not isinstance(frame, str):
        return None
    if kind == "b":
        return Heartbeat()
    said = _said(frame[2:]) or {}
    room = said.get("room", "")
    if not _is_room(room):
        return None
    if kind == "j":
        recovered = said.get("recovered")
        return Joined(room, recovered if isinstance(recovered, bool) else None)
    if kind == "p" and _is_position(position := said.get("position", "")):
        return Moved(room, position)
    return Left(room) if kind == "l" else None


def resume(token: str | None, positions: Mapping[Room, str]) -> str:
    """The answer to hello. Of more positions than it may have, it has those that were set last."""
    fitting: dict[Room, str] = {}
    left = MAX_RESUME_BYTES - _MARGIN
    for room, position in reversed([*positions.items()]):
        left -= len(orjson.dumps({room: position}))
        if left < 0:
            break
        fitting[room] = position
    said = {"positions": fitting} if token is None else {"token": token, "positions": fitting}
    return "\0r" + orjson.dumps(said).decode()


def escape(data: str | bytes) -> str | bytes:
    """A message of the application's, told from frames of the framing."""
    if isinstance(data, str):
        return f"\0.{data}" if data.startswith("\0") else data
    return b"\0." + data if data.startswith(b"\0") else data


def _in_place(frame: str | bytes) -> Content | None:
    end = frame.find("\n") if isinstance(frame, str) else frame.find(b"\n")
    said = _said(frame[2:end]) if end > 0 else None
    if said is None or not _is_room(said.get("room", "")) or not _is_position(said.get("position")):
        return None
    return Content(frame[end + 1 :], said["room"], said["position"])


def _said(text: str | bytes) -> dict[str, Any] | None:
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None


def _is_room(room: Any) -> bool:
    try:
        check_room(room)
    except InvalidRoomName:
        return False
    return True


def _is_position(position: object) -> bool:
    return isinstance(position, str) and 0 < len(position) <= MAX_POSITION


def _seconds(value: object) -> float:
    """A number of seconds; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return 0.0
    return max(0.0, float(value))
