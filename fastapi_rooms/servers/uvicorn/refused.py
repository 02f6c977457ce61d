"""Waits until uvicorn is through with a client whose handshake was answered with an HTTP status.

uvicorn's default implementation takes the handshake for unanswered until that connection is lost.
An application that returns before is an error in its log: an entry for every scanner.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from starlette.types import Receive

from fastapi_rooms.servers.uvicorn.server import is_tested_uvicorn

PATIENCE = 1.0
"""Seconds to wait at most. uvicorn closes the connection at once, but TLS has the client answer."""

_IMPLEMENTATION = (
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "WebSocketsSansIOProtocol",
)


async def until_refused(receive: Receive) -> None:
    """Return when uvicorn has closed the connection, if it has answered with a status."""
    protocol = getattr(receive, "__self__", None)
    kind = type(protocol)
    if (kind.__module__, kind.__name__) != _IMPLEMENTATION or not is_tested_uvicorn():
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while _is_closing(protocol):
                await receive()


def _is_closing(protocol: Any) -> bool:
    answered = getattr(protocol, "initial_response", None) is not None
    return answered and not getattr(protocol, "disconnected", True)
