"""Several workers on one Redis, and clients on the worker that a test asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.integration.clients import TIMEOUT, Client, http
from tests.integration.servers import Server

# What the fixture `connect` gives: it takes what `Client.connect` does.
Connect = Callable[..., Awaitable[Client]]


class Workers:
    """The workers behind some servers, numbered from 0; a number too high starts over."""

    def __init__(self, servers: dict[int, Server]) -> None:
        self._servers = servers
        self.pids = list(servers)

    @classmethod
    def of(cls, server: Server, count: int) -> Workers:
        """The workers of one server, once all of them answer."""
        return cls(dict.fromkeys(server.wait_for_workers(count), server))

    @classmethod
    def each_of(cls, servers: list[Server]) -> Workers:
        """Servers of one worker each, once all of them answer."""
        return cls({server.wait_for_workers()[0]: server for server in servers})

    def __len__(self) -> int:
        return len(self.pids)

    def server(self, worker: int) -> Server:
        """The server that a worker belongs to."""
        return self._servers[self._pid(worker)]

    async def connect(
        self, connect: Connect, worker: int, path: str = "/ws", **options: Any
    ) -> Client:
        """A client on that very worker: tries until the server has chosen it."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                client = await connect(self.server(worker), path, **options)
                if client.worker == self._pid(worker):
                    return client
                await client.close()

    async def state(self, worker: int) -> dict[str, Any]:
        """What that worker holds; asks until that one answers."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                state: dict[str, Any] = await http(self.server(worker), "/state")
                if state["worker"] == self._pid(worker):
                    return state

    def _pid(self, worker: int) -> int:
        return self.pids[worker % len(self.pids)]
