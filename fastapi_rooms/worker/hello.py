"""The beginning of a connection with a client that speaks the framing: hello, and its answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketState

from fastapi_rooms.transports import Transport
from fastapi_rooms.wire import client_framing
from fastapi_rooms.worker.framed_transport import FramedTransport

RESUME_TIMEOUT = 2.0
"""Seconds that a client has to send its resume frame after the hello."""


def framed_for(websocket: WebSocket, transport: Transport) -> FramedTransport | None:
    """The transport to a client that asks for the framing; `None` if it does not."""
    query = websocket.scope.get("query_string", b"")
    return FramedTransport(transport) if client_framing.is_asked_for(query) else None


async def say_hello(websocket: WebSocket, transport: FramedTransport, drain_window: float) -> bool:
    """Say hello, and wait for the resume frame, though not for long.

    A client without one, or with one that cannot be read, comes as one that was never here. Returns
    false if the client is gone.

    A worker that drains closes its clients over `drain_window` seconds, and they may come back at
    once. But what it does not write to directly is closed by the server, all at once: those clients
    are told to come back over as many seconds.
    """
    token, first = client_framing.new_token(), None
    answers = transport.answers_by_itself()
    window = 0 if transport.name == "uvicorn" else drain_window
    transport.write(client_framing.hello(token, answers=answers, window=window))
    with suppress(TimeoutError):
        async with asyncio.timeout(RESUME_TIMEOUT):
            first = await transport.receive_first()
    if _is_end(first):
        websocket.client_state = WebSocketState.DISCONNECTED
        return False
    transport.begin(token, first)
    return True


def _is_end(message: Message | None) -> bool:
    return message is not None and message["type"] == "websocket.disconnect"
