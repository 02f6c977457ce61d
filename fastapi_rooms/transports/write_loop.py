"""The write loop: one message to many clients."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from fastapi_rooms.core.payload import Outgoing
from fastapi_rooms.transports.base import Transport

logger = logging.getLogger("fastapi_rooms")

FAILURE = "A socket could not be written to; the others were"


def write(transports: Iterable[Transport], message: Outgoing, *, volatile: bool) -> None:
    """Write to each member; whatever is wrong with one harms no other."""
    frame = message.frame
    size = len(frame)
    write_to = os.write
    for transport in transports:
        try:
            fd = transport.fd
            if fd is not None:
                try:
                    sent = write_to(fd, frame)
                except OSError:  # it is full, or broken, and the transport will find out which
                    sent = 0
                if sent != size:
                    transport.write(message, sent)
            elif volatile:
                transport.write_volatile(message)
            else:
                transport.write(message)
        except Exception:
            logger.exception(FAILURE)
