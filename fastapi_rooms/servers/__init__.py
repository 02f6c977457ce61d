"""Everything that depends on internals of ASGI servers; the rest of the package does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.websockets import WebSocket

from fastapi_rooms.core.compression import Compression
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.servers.gateway import VirtualConnection, edge_of
from fastapi_rooms.servers.mux import ChannelTransport, MuxConnection, channel_of
from fastapi_rooms.servers.uvicorn.connection import is_closing
from fastapi_rooms.servers.uvicorn.refused import until_refused
from fastapi_rooms.servers.uvicorn.server import OnShutdown, on_server_shutdown
from fastapi_rooms.servers.uvicorn.transport import UvicornTransport
from fastapi_rooms.servers.worker_count import count_workers_here
from fastapi_rooms.transports import AsgiTransport, Transport

__all__ = [
    "MuxConnection",
    "UvicornTransport",
    "VirtualConnection",
    "channel_of",
    "count_workers_here",
    "edge_of",
    "on_server_shutdown",
    "open_transport",
    "until_refused",
]


def open_transport(
    websocket: WebSocket,
    policy: OutboxPolicy,
    on_overflow: Callable[[], None],
    on_lost: Callable[[], None],
    on_shutdown: OnShutdown,
    *,
    direct_writes: bool,
    compression: Compression | None,
) -> Transport:
    """Create the fastest transport that the server and `direct_writes` allow."""
    channel = channel_of(websocket.scope)
    if channel is not None:
        return ChannelTransport(websocket, channel, policy, on_overflow, on_lost)
    if direct_writes:
        transport = UvicornTransport.of(
            websocket, policy, on_overflow, on_shutdown, on_lost, compression
        )
        if transport is not None:
            return transport
        if is_closing(websocket):  # and perhaps nobody reads
            asyncio.get_running_loop().call_soon(on_lost)
    return AsgiTransport(websocket, policy, on_overflow, on_lost)
