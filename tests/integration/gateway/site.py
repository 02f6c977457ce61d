"""Edges and backends of one process, on one carrier, and how clients get there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from fastapi_rooms import Backend, Gateway, RoomManager
from fastapi_rooms.testing import eventually
from tests.integration.gateway.apps import application

MakeApp = Callable[[RoomManager], FastAPI]


class Site:
    """Edges and backends on one carrier."""

    def __init__(self, stack: AsyncExitStack, url: str, settings: dict[str, Any]) -> None:
        self._stack = stack
        self.url = url
        self._settings = {"prefix": uuid4().hex} | settings
        self.backends: list[Backend] = []
        self.edges: list[Gateway] = []
        self.ports: list[int] = []

    def manager(self) -> RoomManager:
        """One more, on the same carrier."""
        return RoomManager(self.url, **self._settings)

    async def edge(self, **options: Any) -> int:
        """Start an edge; returns its port."""
        gateway = Gateway(self.manager(), **{"routes": {"/": "app"}, **options})
        port = await self.serve(gateway)
        self.edges.append(gateway)
        self.ports.append(port)
        return port

    async def serve(self, app: Any, **options: Any) -> int:
        """Serve an application; returns its port."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", **options))
        serving = asyncio.create_task(server.serve([listener]))

        async def stop() -> None:
            server.should_exit = True
            await serving
            listener.close()

        self._stack.push_async_callback(stop)
        await eventually(lambda: server.started)
        return int(listener.getsockname()[1])

    async def backend(
        self, make: MakeApp = application, *, name: str = "app", **options: Any
    ) -> Backend:
        """Start a backend, and have all edges know it."""
        rooms = self.manager()
        backend = Backend(make(rooms), name=name, adapter=rooms, **options)
        await backend.__aenter__()
        self.backends.append(backend)
        await eventually(lambda: all(self._knows(edge, backend) for edge in self.edges))
        return backend

    def _knows(self, edge: Gateway, backend: Backend) -> bool:
        return backend.manager.node in edge.backends

    async def stop(self, backend: Backend) -> None:
        """Stop a backend in order."""
        self.backends.remove(backend)
        await backend.__aexit__()

    def kill(self, backend: Backend) -> None:
        """Have a backend say and hear nothing more, as if it had been killed."""
        frames = backend.frames
        frames.receivers.remove(backend)
        frames.publish = unheard  # type: ignore[assignment, method-assign]  # nobody hears it any more

    def revive(self, backend: Backend) -> None:
        """Only so that it can be stopped in order, by endpoints that nobody hears any more."""
        backend._drain_timeout = 0.1
        del backend.frames.publish
        backend.frames.receivers.append(backend)


async def unheard(*_: Any) -> None:
    """Nobody hears it."""


@asynccontextmanager
async def site(url: str, **settings: Any) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        made = Site(stack, url, settings)
        yield made
        for backend in list(made.backends):
            await made.stop(backend)


def at(port: int, path: str) -> str:
    return f"ws://127.0.0.1:{port}{path}"


async def closed(client: ClientConnection) -> tuple[int, str]:
    with suppress(ConnectionClosed):
        while True:
            await client.recv()
    return client.close_code or 0, client.close_reason or ""
