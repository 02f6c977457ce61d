"""Node servers for the tests of this folder, and what is different in each test: who is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from fastapi_rooms import RedisAdapter, SocketIO
from fastapi_rooms.testing import Cluster, RedisServer
from tests.integration.socketio.scene import NodeServers, Scene

KEY = "sockets"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One of the file's own: Node servers stay subscribed on it, and rooms leave their history."""
    with RedisServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(redis_server: RedisServer) -> AsyncIterator[NodeServers]:
    """Two servers, which the tests of a file share."""
    async with NodeServers.started(redis_server, KEY) as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene(node: NodeServers, redis_server: RedisServer) -> AsyncIterator[Scene]:
    """Two workers beside them, and everyone in their rooms: nobody may be sent away for good."""
    settings = SocketIO(key=KEY, namespaces=["/", "/chat"])
    async with Cluster(2, adapter=lambda: RedisAdapter(redis_server.url), socketio=settings) as two:
        scene = Scene(node, two)
        await scene.fill()
        yield scene
        assert await node.run("return faults") == []
        await scene.empty()
