"""An edge, its one client, and whatever backends that has one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.websockets import WebSocket

from fastapi_rooms import (
    Backend,
    Gateway,
    RoomManager,
    Socket,
)
from fastapi_rooms.gateway.socket import EdgeSocket, owner_of
from fastapi_rooms.testing import WebSocketClient
from tests.unit.gateway.support import Site


async def nothing(_: Socket) -> None:
    """Joins nothing."""


class Scene:
    """An edge, its one client, and whatever backends that has one after the other."""

    def __init__(self, site: Site, edge: Gateway) -> None:
        self._site = site
        self.edge = edge
        self.client = WebSocketClient(edge, "/")
        self.sockets: list[Socket] = []
        """Those of the endpoints."""
        self.told: list[str] = []
        """What handlers in backends were told."""
        self.opened = 0
        self.may_enter = asyncio.Event()
        self.may_enter.set()
        self.inside: Callable[[Socket], Awaitable[None]] = nothing
        """What an endpoint does, once it has entered."""
        self.namespaces = ["/"]

    @property
    def socket(self) -> Socket:
        """That of the last endpoint."""
        return self.sockets[-1]

    @property
    def sid(self) -> str:
        return self.socket.sid

    @property
    def others(self) -> RoomManager:
        """Whoever is not the endpoint."""
        return self.edge.manager

    def seen(self) -> list[str]:
        """The rooms in which the endpoint sees its client."""
        return [room for room in self.socket.rooms if room != self.sid]

    def held(self, namespace: str = "/") -> list[str]:
        """The rooms in which the edge has it."""
        sids = self.others.of(namespace).sids
        return sorted(room for room in sids.get(self.sid, ()) if room != self.sid)

    def found(self) -> EdgeSocket:
        """What the edge has of the socket."""
        found = owner_of(self.others._here.clients[self.sid].socket)
        assert found is not None
        return found

    async def backend(self) -> Backend:
        """One more, whose endpoint is in once this returns, if it may."""
        rooms = self._site.manager()
        rooms.on("connect")(lambda _: self.told.append("connect"))
        for name in self.namespaces:
            for event in ("join-room", "leave-room"):
                rooms.of(name).on(event)(self._tell(event.removesuffix("-room")))
        return await self._site.backend(self._endpoint, rooms)

    def _tell(self, event: str) -> Callable[[str, Socket], None]:
        return lambda room, _: self.told.append(f"{event} {room}")

    async def _endpoint(self, rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        self.opened += 1
        await self.may_enter.wait()
        async with rooms.connect(websocket) as socket:
            for name in self.namespaces[1:]:
                await rooms.of(name).connect(websocket).__aenter__()
            self.sockets.append(socket)
            await self.inside(socket)
            await socket.send_text("in")
            async for text in socket.iter_text():
                await socket.send_text(text)

    async def is_in(self) -> None:
        """Return when the next endpoint has entered."""
        assert await self.client.receive() == "in"

    async def heard_all(self) -> None:
        """Return when the endpoint has heard what the edge has told before."""
        await self.client.send_text("heard?")
        assert await self.client.receive() == "heard?"
