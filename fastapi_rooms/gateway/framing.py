"""The framing of one client of an edge: it is said hello once, whichever backends it has.

At a worker the framing is spoken by `rooms.connect`, where that accepts the client. That is in the
backend here; but the rooms are the edge's, and so are positions and the hello.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.websockets import WebSocket

from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.wire import client_framing
from fastapi_rooms.worker.connection import Connection
from fastapi_rooms.worker.framed_transport import FramedTransport
from fastapi_rooms.worker.local_namespace import LocalNamespace


class ClientFraming:
    """Whether it speaks the framing, and the last transport by which that is spoken."""

    def __init__(self, query: bytes) -> None:
        self._is_asked = client_framing.is_asked_for(query)
        self._namespace: str | None = None
        self.transport: FramedTransport | None = None

    @property
    def is_due(self) -> bool:
        """Whether the hello is to come, before anything of the client is read."""
        return self._is_asked and self.transport is None

    def accepted(self, *, by_rooms: bool) -> None:
        """An endpoint has accepted it. Where `rooms.connect` did not, no hello follows."""
        if self.is_due and not by_rooms:
            self._is_asked = False

    def over(self, namespace: str, inner: Transport) -> FramedTransport | None:
        """The transport for a socket of it. In namespaces but the first, it is a plain one."""
        if not self._is_asked:
            return None
        if self._namespace is None:
            self._namespace = namespace
        return FramedTransport(inner) if namespace == self._namespace else None

    def bring(self, positions: Iterable[tuple[Room, str]]) -> None:
        """Its socket leaves these rooms, of which the client knows nothing: another goes on."""
        if self.transport is not None:
            self.transport.positions = {**self.transport.positions, **dict(positions)}


class EdgeConnection(Connection):
    """The block of a socket whose endpoint is in a backend, where the client was accepted."""

    __slots__ = ("_framing",)

    def __init__(
        self,
        namespace: LocalNamespace,
        websocket: WebSocket,
        sid: Sid,
        data: dict[str, Any],
        framing: ClientFraming,
    ) -> None:
        super().__init__(namespace, websocket, sid, data, None, None)
        self._framing = framing

    @property
    def is_being_closed(self) -> bool:
        """Whether the socket was disconnected: its client is closed, once it has what was sent."""
        disconnects = self._namespace.clients.disconnects
        return self._closer is not None or self.socket.sid in disconnects

    async def closed_by_others(self) -> None:
        """Return when its client is closed, if it is being closed: with the code that was said."""
        self._namespace.clients.disconnects.begin(self)
        if self._closer is not None:
            await asyncio.wait((self._closer,))

    def _framed_over(self, transport: Transport) -> FramedTransport | None:
        return self._framing.over(self._namespace.name, transport)

    async def _greet(self, framed: FramedTransport) -> bool:
        before, self._framing.transport = self._framing.transport, framed
        if before is None:
            return await super()._greet(framed)
        framed.go_on_for(before)
        return True
