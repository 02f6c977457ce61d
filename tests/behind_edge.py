"""An application whose WebSockets go through an edge to a backend, all in one process."""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Scope, Send

from fastapi_rooms import Backend, Gateway, RoomManager
from fastapi_rooms.adapters import AdapterLike
from fastapi_rooms.testing import eventually


class BehindEdge:
    """Another ASGI application, which is served instead.

    Args:
        app: the application; its lifespan is that of `rooms`.
        rooms: its manager.
        edge: what the edge has as its adapter, or a manager.
    """

    def __init__(self, app: Any, rooms: RoomManager, edge: AdapterLike | RoomManager) -> None:
        self.app = app
        self.backend = Backend(app, name="app", adapter=rooms)
        self.edge = Gateway(edge, routes={"/": "app"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.edge(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._run(receive, send)
        else:
            await self.app(scope, receive, send)

    async def _run(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.app.router.lifespan_context(self.app), self.edge, self.backend:
            await eventually(lambda: self.edge.backends)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
