"""The inner loop of a fan-out: one message to many clients."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Literal

from fastapi_rooms.core.compression import Deflate
from fastapi_rooms.core.payload import Outgoing
from fastapi_rooms.transports.base import Transport

logger = logging.getLogger("fastapi_rooms")


def write(transports: Iterable[Transport], message: Outgoing, *, volatile: bool) -> None:
    """Write to every transport. One that fails does not affect the others."""
    deflate: Deflate | Literal["unknown"] | None = "unknown"
    frame, size = b"", 0
    write_to = os.write
    for transport in transports:
        try:
            fd = transport.fd
            if fd is not None:
                if transport.deflate is not deflate:
                    frame = message.frame_for(transport.deflate)
                    deflate, size = transport.deflate, len(frame)
                try:
                    sent = write_to(fd, frame)
                except OSError:  # full or broken: `transport.write` finds out which
                    sent = 0
                if sent != size:
                    transport.write(message, sent)
            elif volatile:
                transport.write_volatile(message)
            else:
                transport.write(message)
        except Exception:
            logger.exception("Writing to a socket failed; the other sockets still get the message")
