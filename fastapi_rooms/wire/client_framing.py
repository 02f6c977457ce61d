"""The framing of clients that resume by themselves: what is put before a message, and said beside.

A frame of ours begins with a NUL, and a letter that says its kind:

    h   hello        the first frame from the server: `version`, `token`, and what it promises
    j   joined       a room with a history: `room`, and `recovered` (true, false or null)
    m   message      in its place: `room` and `position`, a line feed, and the message
    p   position     everything up to it is there: `room` and `position`
    l   left         a room with a history: `room`
    b   heartbeat    nothing more: the connection lives
    .   escape       of a message that itself begins with a NUL, which follows

    r   resume       the first frame from the client: `token`, and `positions` by room
    b   heartbeat    the client asks for one
    .   escape       as above

What is said is a JSON object, in text; a message stays text or bytes. Everything else is a message
without a place, and the very frame that all other clients get.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson

from fastapi_rooms.core.names import check_room
from fastapi_rooms.core.payload import Batch, Outgoing, Payload
from fastapi_rooms.errors import InvalidRoomName
from fastapi_rooms.types import Room

VERSION = 1

MAX_RESUME_BYTES = 64 * 1024
"""What a resume frame may have: the positions of some hundred rooms."""

MAX_RESUME_ROOMS = 2000
"""Rooms in a resume frame: more than true positions leave space for. Forged ones can be shorter."""

HEARTBEAT_SECONDS = 25
"""Within these, a framed client is sent something. Many proxies end what is silent for 60."""

ASKS_FOR_HEARTBEAT = "\0b"

_NUL = b"\0"
_HELLO, _JOINED, _MESSAGE = b"\0h", b"\0j", b"\0m"
_POSITION, _LEFT, _ESCAPE = b"\0p", b"\0l", b"\0."
_RESUME = "\0r"
_ESCAPED, _ESCAPED_BYTES = "\0.", b"\0."
_QUERY = b"fastapi_rooms=1"
_TOKEN = re.compile(r"[0-9a-f]{32}", re.ASCII)


class _Said(Payload):
    """A frame that is said to framed clients alone, and complete as it is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ClientResume:
    """What a client says when it comes, of the connection that it had before."""

    token: str | None = None
    """The one it was given then."""
    positions: Mapping[Room, str] = field(default_factory=dict)
    """How far it got, in the rooms with a history that it was in."""


def is_asked_for(query: bytes) -> bool:
    """Whether a client says by the query string of its URL that it speaks the framing."""
    return _QUERY in query and _QUERY in query.split(b"&")


def new_token() -> str:
    """What a client is known by when it comes again: nobody else can guess it."""
    return secrets.token_hex(16)


def alias_of(token: str) -> Room:
    """The name by which messages leave out the client with a token, whatever its sid.

    Workers and the carrier see it, and cannot tell the token from it.
    """
    return f"resume:{blake2b(token.encode(), digest_size=16).hexdigest()}"


_HEARTBEAT = _Said(ASKS_FOR_HEARTBEAT.encode(), binary=False)

# From the server.


def hello(token: str, *, answers: bool, window: float) -> Payload:
    """The first frame.

    Args:
        token: what the client is to be known by when it comes again.
        answers: whether heartbeats that the client asks for are answered at any time.
        window: seconds over which clients are to come back that are closed with 1012.
    """
    said = {"version": VERSION, "token": token, "heartbeat": HEARTBEAT_SECONDS}
    return _say(_HELLO, {**said, "answers": answers, "window": window})


def joined(room: Room, recovered: bool | None) -> Payload:
    """The client is in a room with a history. What is replayed follows."""
    return _say(_JOINED, {"room": room, "recovered": recovered})


def left(room: Room) -> Payload:
    """The client is in a room with a history no more."""
    return _say(_LEFT, {"room": room})


def position(room: Room, position: str) -> Payload:
    """The client has everything in a room up to a position."""
    return _say(_POSITION, {"room": room, "position": position})


def heartbeat() -> Payload:
    """Something to a client that would else be sent nothing."""
    return _HEARTBEAT


def in_place(room: Room, position: str, message: Payload) -> Payload:
    """A message in its place."""
    header = orjson.dumps({"room": room, "position": position})
    data = b"%b%b\n%b" % (_MESSAGE, header, message.data)
    return _Said(data, binary=message.binary)


def framed(message: Outgoing) -> Outgoing:
    """A message as framed clients get it: most often the very same."""
    if isinstance(message, Payload):
        return framed_payload(message)
    if message.framed is not None:
        return message.framed
    parts = [framed_payload(part) for part in message.parts]
    is_same = all(mine is part for mine, part in zip(parts, message.parts, strict=True))
    message.framed = Batch(parts, message if is_same else None)
    return message.framed


def framed_payload(message: Payload) -> Payload:
    """One message as framed clients get it."""
    if message.framed is not None:
        return message.framed
    if not message.data.startswith(_NUL) or isinstance(message, _Said):
        return message
    message.framed = _Said(_ESCAPE + message.data, binary=message.binary)
    return message.framed


# From the client.


def is_resume(data: object) -> bool:
    """Whether a message of a client is meant to be a resume frame, well formed or not."""
    return isinstance(data, str) and data.startswith(_RESUME)


def unescape(data: str | bytes) -> str | bytes:
    """A message as the client meant it."""
    if isinstance(data, str):
        return data.removeprefix(_ESCAPED)
    return data.removeprefix(_ESCAPED_BYTES)


def parse_resume(data: object) -> ClientResume | None:
    """What a resume frame says; `None` if it is none, malformed or too long."""
    if not (isinstance(data, str) and is_resume(data) and _is_short(data)):
        return None
    try:
        said = orjson.loads(data[len(_RESUME) :])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(said, dict):
        return None
    token, positions = said.get("token"), said.get("positions", {})
    if token is not None and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        return None
    if not isinstance(positions, dict) or len(positions) > MAX_RESUME_ROOMS:
        return None
    if not all(map(_is_position, positions.items())):
        return None
    return ClientResume(token, positions)


def _say(kind: bytes, what: dict[str, Any]) -> Payload:
    return _Said(kind + orjson.dumps(what), binary=False)


def _is_short(text: str) -> bool:
    return len(text) <= MAX_RESUME_BYTES and len(text.encode(errors="replace")) <= MAX_RESUME_BYTES


def _is_position(item: tuple[str, object]) -> bool:
    """Whether it is a room, and a text: one that is no position is one that is gone."""
    room, text = item
    try:
        check_room(room)
    except InvalidRoomName:
        return False
    return isinstance(text, str)
