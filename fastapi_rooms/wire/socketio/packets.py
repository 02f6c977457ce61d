"""Broadcasts: an array of who says it, the packet, and whom it is for.

    [uid, {type: 2, data: [event, ...args], nsp}, {rooms, except, flags}]

The type is always 2, with bytes, too: by any other, Node servers disconnect their clients.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import MalformedEnvelope, UsageError
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire.socketio.events import EventCodec
from fastapi_rooms.wire.socketio.msgpack import pack, unpack
from fastapi_rooms.wire.socketio.names import as_sent, of_target
from fastapi_rooms.wire.socketio.values import (
    check_name,
    pack_event,
    received_values,
)

UID_PREFIX: Final = "rooms."
_OWN: Final = b"\x93\xb6rooms."
"""How broadcasts of workers and emitters of ours begin: an array of three, a string of 22 bytes."""

_EVENT_TYPES: Final = (2, 5)


def uid_of(node: NodeId) -> str:
    """What a worker is called among Node servers."""
    return UID_PREFIX + node


def is_own(data: bytes) -> bool:
    """Whether a worker or emitter of ours has sent a broadcast: its peers have it natively."""
    return data.startswith(_OWN)


class EventPayload(Payload):
    """A message that is also an event: encoded once for each side."""

    __slots__ = ("packed",)

    def __init__(
        self, data: bytes, *, binary: bool, packed: bytes, text: str | None = None
    ) -> None:
        super().__init__(data, binary=binary, text=text)
        self.packed = packed
        """The event, as MessagePack."""


def packed_event(name: str, args: list[Any]) -> bytes:
    """An event as MessagePack. Raises `UsageError` for what would harm those who get it."""
    return pack_event([check_name(name), *args])


def event_payload(name: str, args: list[Any], codec: EventCodec) -> EventPayload | bytes:
    """An event for both sides; for Socket.IO's alone, in MessagePack, if the codec says so.

    Raises `UsageError` for what cannot be sent.
    """
    packed = packed_event(name, args)
    message = codec.to_native(name, args)
    if message is None:
        return packed
    native = _native(message)
    return EventPayload(native.data, binary=native.binary, packed=packed)


def packed_payload(payload: Payload, codec: EventCodec) -> bytes | None:
    """The event that a native message is, as MessagePack; `None` if it is none."""
    if isinstance(payload, EventPayload):
        return payload.packed
    event: Any = codec.to_event(payload.data if payload.binary else payload.text)
    if event is None:
        return None
    if not isinstance(event, list) or not event:
        raise UsageError(
            "The codec's `to_event` has to return a list of an event's name and its arguments, or "
            f"None, not {event!r}."
        )
    check_name(event[0])
    try:
        return pack_event(event, lossy=True)
    except TypeError as error:
        raise UsageError(
            f"The codec's `to_event` has returned what Node servers cannot have: {error}."
        ) from error


def native_payload(event: list[Any], codec: EventCodec) -> Payload | None:
    """What native clients get of an event; `None` if they get nothing."""
    message = codec.to_native(event[0], event[1:])
    return None if message is None else _native(message)


def _native(message: str | bytes) -> Payload:
    return Payload.of_text(message) if isinstance(message, str) else Payload.of_bytes(message)


def encode(uid: str, namespace: str, target: Target, packed: bytes, *, volatile: bool) -> bytes:
    """A broadcast of an event that is packed already."""
    flags = {"volatile": True} if volatile else {}
    rooms, except_ = as_sent(target.rooms or ()), as_sent(target.except_)
    opts = pack({"rooms": rooms, "except": except_, "flags": flags})
    return b"\x93%b\x83\xa4type\x02\xa4data%b\xa3nsp%b%b" % (
        pack(uid),
        packed,
        pack(namespace),
        opts,
    )


class Broadcast(NamedTuple):
    """A broadcast that came."""

    target: Target
    event: list[Any]
    """The name, and the arguments."""
    volatile: bool


def decode(data: bytes, namespace: str) -> Broadcast | None:
    """A broadcast to a namespace; `None` if it is to another. Raises `MalformedEnvelope`."""
    match unpack(data):
        case [_, dict(packet), opts, *_]:
            return read(packet, opts, namespace)
        case _:
            pass
    raise MalformedEnvelope("a broadcast is an array of three")


def read(packet: dict[Any, Any], opts: Any, namespace: str) -> Broadcast | None:
    """The same of a packet and its options."""
    if packet.get("nsp", "/") != namespace:
        return None
    if packet.get("type") not in _EVENT_TYPES:
        raise MalformedEnvelope("its packet is no event")
    match packet.get("data"):
        case [str(name), *args]:
            pass
        case [int(number), *args] if not isinstance(number, bool):
            name = str(number)
        case _:
            raise MalformedEnvelope("its event has no name")
    if not isinstance(opts, dict):
        if opts not in (None, ""):
            raise MalformedEnvelope("its options are no map")
        opts = {}
    flags = opts.get("flags")
    volatile = isinstance(flags, dict) and flags.get("volatile") is True
    target = of_target(opts.get("rooms"), opts.get("except"))
    return Broadcast(target, [name, *received_values(args)], volatile)
