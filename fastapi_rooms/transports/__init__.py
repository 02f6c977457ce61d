"""Transports carry messages to one client; [fastapi_rooms.transports.base][] is their contract."""

from __future__ import annotations

from collections.abc import Callable

from starlette.websockets import WebSocket

from fastapi_rooms.outbox import OutboxPolicy
from fastapi_rooms.transports.asgi import AsgiTransport
from fastapi_rooms.transports.base import Transport
from fastapi_rooms.transports.uvicorn import UvicornTransport
from fastapi_rooms.transports.uvicorn_server import OnShutdown, on_server_shutdown

__all__ = ["AsgiTransport", "Transport", "UvicornTransport", "on_server_shutdown", "open_transport"]


def open_transport(
    websocket: WebSocket,
    policy: OutboxPolicy,
    on_overflow: Callable[[], None],
    on_shutdown: OnShutdown,
    *,
    direct: bool,
) -> Transport:
    """The best transport for an accepted connection: the server's own if `direct` and possible."""
    if direct:
        transport = UvicornTransport.of(websocket, policy, on_overflow, on_shutdown)
        if transport is not None:
            return transport
    return AsgiTransport(websocket, policy, on_overflow)
