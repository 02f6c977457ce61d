"""Finds uvicorn's connection behind a `WebSocket`, and checks that it is as the tests know it."""

from __future__ import annotations

import asyncio
import os
from typing import Any, NamedTuple

from starlette.websockets import WebSocket, WebSocketState

from fastapi_rooms.servers.uvicorn.inbox import Inbox
from fastapi_rooms.servers.uvicorn.server import is_tested_uvicorn

_IMPLEMENTATIONS = {
    "uvicorn.protocols.websockets.websockets_sansio_impl": "WebSocketsSansIOProtocol",
    "uvicorn.protocols.websockets.wsproto_impl": "WSProtocol",
}

_SOCKET_TRANSPORTS = {
    ("asyncio.selector_events", "_SelectorSocketTransport"),
    ("uvloop.loop", "TCPTransport"),
    ("uvloop.loop", "UnixTransport"),
}
"""Transports that do nothing but write to a socket, unlike those for TLS."""


class Connection(NamedTuple):
    """The objects that uvicorn has for one connection."""

    protocol: Any
    transport: asyncio.Transport
    conn: Any
    """The WebSocket state machine."""
    open_state: object
    """Its `state` while messages can be sent."""


def connection_of(websocket: WebSocket) -> Connection | None:
    """The connection of an accepted `WebSocket`, or `None` if anything is not as expected."""
    protocol = getattr(getattr(websocket, "_receive", None), "__self__", None)
    kind = type(protocol)
    if _IMPLEMENTATIONS.get(kind.__module__) != kind.__name__ or not is_tested_uvicorn():
        return None
    transport: Any = getattr(protocol, "transport", None)
    conn = getattr(protocol, "conn", None)
    state = getattr(conn, "state", None)
    if (
        not (isinstance(transport, asyncio.Transport) or _is_uvloop_transport(transport))
        or getattr(state, "name", None) != "OPEN"
        or getattr(protocol, "handshake_complete", None) is not True
        or transport.get_protocol() is not protocol
        or "pause_writing" in vars(protocol)  # another `UvicornTransport` has this connection
        or transport.is_closing()
        or transport.get_write_buffer_size()
        or not isinstance(getattr(protocol, "queue", None), asyncio.Queue | Inbox)
        or getattr(protocol.queue, "_getters", None)  # a task waits for this queue
        or not isinstance(getattr(protocol, "read_paused", None), bool)
        or not isinstance(getattr(protocol, "close_sent", None), bool)
        or not hasattr(getattr(protocol, "config", None), "timeout_graceful_shutdown")
        or not callable(getattr(kind, "shutdown", None))
    ):
        return None
    return Connection(protocol, transport, conn, state)


def is_closing(websocket: WebSocket) -> bool:
    """Whether the connection is one of uvicorn's, and known to be lost or about to be closed."""
    protocol = getattr(getattr(websocket, "_receive", None), "__self__", None)
    kind = type(protocol)
    transport: Any = getattr(protocol, "transport", None)
    return (
        _IMPLEMENTATIONS.get(kind.__module__) == kind.__name__
        and is_tested_uvicorn()
        and (isinstance(transport, asyncio.Transport) or _is_uvloop_transport(transport))
        and bool(transport.is_closing())
    )


def has_starlettes_receive(websocket: WebSocket) -> bool:
    """Whether `receive` is Starlette's own, which after the handshake only reads from the inbox."""
    return (
        type(websocket).receive is WebSocket.receive
        and "receive" not in vars(websocket)
        and websocket.client_state is WebSocketState.CONNECTED
    )


def _is_uvloop_transport(transport: object) -> bool:
    """Uvloop's transports behave like asyncio's, but are not instances of `asyncio.Transport`."""
    return type(transport).__module__ in ("uvloop.loop", "uvloop.sslproto")


def socket_fd_of(transport: asyncio.Transport) -> int | None:
    """The descriptor of the socket that this transport writes to; `None` with TLS."""
    kind = type(transport)
    sock = transport.get_extra_info("socket")
    is_plain = (kind.__module__, kind.__name__) in _SOCKET_TRANSPORTS
    if os.name != "posix" or not is_plain or sock is None:
        return None
    fd: int = sock.fileno()
    return fd if fd >= 0 else None
