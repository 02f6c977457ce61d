"""An edge and a backend, as the page about deploying them shows."""

from __future__ import annotations

from types import ModuleType

from fastapi_rooms import Gateway
from fastapi_rooms.testing import RedisServer, eventually
from tests.docs.registry import shows

PAGE = "docs/howto/deployment/edges.md"


@shows(PAGE, "edge.py")
async def test_the_edge_of_the_page_runs(example: ModuleType) -> None:
    async with example.app as edge:
        assert edge.manager.health.ready


@shows(PAGE, "app.py")
async def test_an_edge_finds_the_backend_in_the_lifespan_of_the_page(
    example: ModuleType, redis_server: RedisServer
) -> None:
    async with (
        example.app.router.lifespan_context(example.app),
        Gateway(redis_server.url, routes={"/chat": "chat"}) as edge,
    ):
        await eventually(lambda: "chat" in edge.backends.values())
