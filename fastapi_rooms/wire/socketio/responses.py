"""What servers answer each other. An answer does not say whose it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from fastapi_rooms.core.json_codec import WIRE_JSON
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.wire.socketio.names import rooms_of
from fastapi_rooms.wire.socketio.requests import Kind, load

_HANDSHAKE: Final = (
    b'{"headers":{},"time":"","address":"","xdomain":false,"secure":false,"issued":0,"url":"",'
    b'"query":{},"auth":{}}'
)
"""A native socket has had none; applications on Node servers read what is in it."""

Row = tuple[Sid, list[Room], dict[str, Any]]
"""A socket: its sid, rooms and data."""


def row(sid: Sid, rooms: Iterable[Room], data: Any) -> bytes:
    """A socket of ours. Raises `TypeError` or `ValueError` for data that is no JSON."""
    dumps = WIRE_JSON.dumps
    return b'{"id":%b,"handshake":%b,"rooms":%b,"data":%b}' % (
        dumps(sid),
        _HANDSHAKE,
        dumps(list(rooms)),
        dumps(data),
    )


def of_rows(request_id: str, rows: Iterable[bytes]) -> bytes:
    """The answer to a fetch."""
    return b'{"requestId":%b,"sockets":[%b]}' % (WIRE_JSON.dumps(request_id), b",".join(rows))


def of_sids(request_id: str, sids: Iterable[Sid]) -> bytes:
    """The answer to the question for sids."""
    return WIRE_JSON.dumps({"requestId": request_id, "sockets": list(sids)})


def of_rooms(request_id: str, rooms: Iterable[Room]) -> bytes:
    """The answer to the question for all rooms."""
    return WIRE_JSON.dumps({"requestId": request_id, "rooms": list(rooms)})


def of_event(request_id: str, value: bytes) -> bytes:
    """What a handler of a server-side event has returned, in JSON."""
    return b'{"type":6,"requestId":%b,"data":%b}' % (WIRE_JSON.dumps(request_id), value)


def of_count(request_id: str, clients: int) -> bytes:
    """How many clients will acknowledge a broadcast."""
    kind = int(Kind.CLIENT_COUNT)
    return WIRE_JSON.dumps({"type": kind, "requestId": request_id, "clientCount": clients})


def of_done(request_id: str) -> bytes:
    """What an adapter before version 7 waits for: it is done."""
    return WIRE_JSON.dumps({"requestId": request_id})


def of_own(request_id: str) -> bytes:
    """The answer of a worker of ours to another: it is asked natively, and only counted here."""
    return b'{"own":1,"requestId":%b}' % WIRE_JSON.dumps(request_id)


class Response(NamedTuple):
    """An answer that came."""

    request_id: str
    is_own: bool
    """Whether it is of a worker of ours, which has answered natively."""
    value: Any
    """By what was asked: rows, sids, rooms, or the value of a handler."""


def decode(data: bytes, kind: Kind) -> Response:
    """The answer to a request of a kind. Raises `MalformedEnvelope`."""
    message = load(data)
    request_id = message.get("requestId")
    if not isinstance(request_id, str):
        raise MalformedEnvelope("an answer to no request")
    if message.get("own") == 1:
        return Response(request_id, is_own=True, value=None)
    return Response(request_id, is_own=False, value=_value(message, kind))


def _value(message: dict[Any, Any], kind: Kind) -> Any:
    match kind, message:
        case Kind.FETCH, {"sockets": list(sockets)}:
            return [_row(socket) for socket in sockets]
        case Kind.SOCKETS, {"sockets": list(sids)}:
            if all(isinstance(sid, str) for sid in sids):
                return sids
        case Kind.ALL_ROOMS, {"rooms": list(rooms)}:
            return list(rooms_of(rooms, limit=None))
        case Kind.SERVER_SIDE_EMIT, {"data": value}:
            return value
        case Kind.SERVER_SIDE_EMIT, _:
            return None
        case _:
            pass
    raise MalformedEnvelope("an answer to something else")


def _row(socket: Any) -> list[Any]:
    match socket:
        case {"id": str(sid), "rooms": list(rooms)} if rooms_of([sid]):
            data = socket.get("data")
            return [sid, list(rooms_of(rooms, limit=None)), data if isinstance(data, dict) else {}]
        case _:
            pass
    raise MalformedEnvelope("a socket without an id or rooms")
