"""Compressing long messages in steps, so that the event loop is free for others in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastapi_rooms.core.compression import MAX_AT_ONCE
from fastapi_rooms.core.payload import Outgoing, Payload
from fastapi_rooms.transports.base import Transport
from fastapi_rooms.wire.client_framing import framed_payload
from fastapi_rooms.worker.framed_transport import FramedTransport

_BYTES_PER_WRITE = 256
"""What zlib compresses in the time of a write."""

_MIN_WRITES = 16
"""Less than so many writes' worth is not counted."""


def compressing(transports: Iterable[Transport], message: Outgoing) -> Iterator[None]:
    """The steps after which some transports are written a message compressed; most need none."""
    if isinstance(message, Payload) and len(message.data) > MAX_AT_ONCE:
        for transport in transports:
            is_framed = isinstance(transport, FramedTransport)
            theirs = framed_payload(message) if is_framed else message
            yield from theirs.compressing(transport.deflate)


def is_to_be_compressed_in_steps(transports: Iterable[Transport], message: Payload) -> bool:
    """Whether `compressing` has anything to do, by the length of the message."""
    return len(message.data) > MAX_AT_ONCE and any(t.deflate is not None for t in transports)


def cost_of_compressing(transports: Iterable[Transport], message: Payload) -> int:
    """What it takes, roughly, in writes to one member each. Little is not counted."""
    writes = len(message.data) // _BYTES_PER_WRITE
    return writes if writes >= _MIN_WRITES and any(t.deflate is not None for t in transports) else 0
