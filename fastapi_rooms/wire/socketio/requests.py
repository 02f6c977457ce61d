"""What one server asks of the others: JSON, or MessagePack where bytes may be in it."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

from fastapi_rooms.core.json_codec import WIRE_JSON
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.wire.socketio.msgpack import unpack
from fastapi_rooms.wire.socketio.names import as_sent, of_target, rooms_of
from fastapi_rooms.wire.socketio.packets import UID_PREFIX

MAX_ID_CHARACTERS: Final = 128
"""How long the id of a server, or of a request, may be: they are 6 characters, and ours 22."""


class Kind(IntEnum):
    """The type of a request or response; the values are the protocol's."""

    SOCKETS = 0
    """The sids of the sockets in some rooms."""
    ALL_ROOMS = 1
    JOIN = 2
    LEAVE = 3
    DISCONNECT = 4
    FETCH = 5
    """The sockets in some rooms, and what is known of them."""
    SERVER_SIDE_EMIT = 6
    BROADCAST = 7
    """A broadcast whose clients are to acknowledge it."""
    CLIENT_COUNT = 8
    """How many clients will acknowledge a broadcast: only a response."""


class Request(NamedTuple):
    """A request that came."""

    kind: Kind
    uid: str | None
    """Who asks; `None` if that does not matter."""
    id: str | None
    """What the answer is to name; `None` if nothing is to be answered."""
    target: Target = Target()
    """Whom it is about."""
    rooms: tuple[Room, ...] = ()
    """Rooms to join, or to leave."""
    data: list[Any] = []  # noqa: RUF012 -- never changed
    """The event of a server-side emit: its name and arguments."""
    packet: dict[Any, Any] = {}  # noqa: RUF012
    opts: Any = None
    """Both of a broadcast."""
    sid: Sid | None = None
    """The one socket that it is about, by an adapter before version 7."""


_OWN: Final = b'{"uid":"%b' % UID_PREFIX.encode()
_ID_AT: Final = len(_OWN) + 16
_ID: Final = b'","requestId":"'


def is_own(data: bytes) -> bool:
    """Whether a worker or emitter of ours asks: its peers have been asked natively."""
    return data.startswith(_OWN)


def own_question(data: bytes) -> tuple[str, str] | None:
    """Who of ours asks, and the id that the answer is to name, if it is to be answered."""
    if not data.startswith(_ID, _ID_AT):
        return None
    start = _ID_AT + len(_ID)
    node = data[len(_OWN) : _ID_AT].decode("ascii", "replace")
    return UID_PREFIX + node, data[start : start + 16].decode("ascii", "replace")


def encode(
    uid: str,
    kind: Kind,
    target: Target = Target(()),  # noqa: B008 -- immutable
    *,
    request_id: str | None = None,
    rooms: tuple[Room, ...] = (),
    data: list[Any] | None = None,
) -> bytes:
    """A request. Raises `TypeError` or `ValueError` for data that is no JSON."""
    message: dict[str, Any] = {"uid": uid}
    if request_id is not None:
        message["requestId"] = request_id
    message["type"] = int(kind)
    named = as_sent(target.rooms or ())
    if kind is Kind.SOCKETS:
        message["rooms"] = named
    elif kind in (Kind.JOIN, Kind.LEAVE, Kind.DISCONNECT, Kind.FETCH):
        message["opts"] = {"rooms": named, "except": as_sent(target.except_)}
    if kind is Kind.JOIN:
        message["rooms"] = list(rooms)
    elif kind is Kind.LEAVE:
        message["rooms"] = as_sent(rooms)
    elif kind is Kind.DISCONNECT:
        message["close"] = True
    elif kind is Kind.SERVER_SIDE_EMIT:
        message["data"] = data
    return WIRE_JSON.dumps(message)


def decode(data: bytes) -> Request | None:
    """A request; `None` of a type that is not known. Raises `MalformedEnvelope`."""
    message = load(data)
    number = message.get("type")
    if type(number) is not int or not 0 <= number <= Kind.BROADCAST:
        return None
    kind = Kind(number)
    uid, request_id = _id(message.get("uid")), _id(message.get("requestId"))
    if kind is Kind.SOCKETS:
        return Request(kind, uid, request_id, of_target(message.get("rooms"), None))
    if kind is Kind.ALL_ROOMS:
        return Request(kind, uid, request_id)
    if kind is Kind.SERVER_SIDE_EMIT:
        return Request(kind, uid, request_id, data=_event(message.get("data")))
    if kind is Kind.BROADCAST:
        packet = _object(message.get("packet"))
        return Request(kind, uid, request_id, packet=packet, opts=message.get("opts"))
    if "sid" in message and kind is not Kind.FETCH:
        return _about_one(kind, uid, request_id, message)
    opts = _object(message.get("opts"))
    target = of_target(opts.get("rooms"), opts.get("except"))
    return Request(kind, uid, request_id, target, rooms_of(message.get("rooms")))


def _event(data: Any) -> list[Any]:
    if isinstance(data, list) and data and isinstance(data[0], str):
        return data
    raise MalformedEnvelope("an event without a name")


def _object(value: Any) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    raise MalformedEnvelope("a request without its packet, or its options")


def _about_one(
    kind: Kind, uid: str | None, request_id: str | None, message: dict[Any, Any]
) -> Request:
    rooms = rooms_of([message["room"]] if "room" in message else None)
    sids = rooms_of([message["sid"]])
    return Request(kind, uid, request_id, Target(()), rooms, sid=sids[0] if sids else "")


def load(data: bytes) -> dict[Any, Any]:
    """What is asked or answered, JSON or MessagePack. Raises `MalformedEnvelope`."""
    if data.startswith(b"{"):
        try:
            message = WIRE_JSON.loads(data)
        except ValueError as error:
            raise MalformedEnvelope(f"no JSON: {error}") from None
    else:
        message = unpack(data)
    if not isinstance(message, dict):
        raise MalformedEnvelope("neither a request nor a response: no object")
    return message


def _id(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARACTERS and value.isprintable():
        return value
    raise MalformedEnvelope("an id that is no short string")
