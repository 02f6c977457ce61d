"""An edge and a backend, as the page about deploying them shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import ModuleType

import pytest
import yaml

from fastapi_rooms import Gateway
from fastapi_rooms.testing import RedisServer, eventually
from tests.docs.pages import blocks
from tests.docs.registry import shows
from tests.integration.terminal import run

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


def commands() -> list[list[str]]:
    """Those of the units of systemd, and of the containers."""
    units = [line for block in blocks("ini", page=PAGE) for line in block.code.splitlines()]
    started = [line.split("fastapi-rooms ")[1].split() for line in units if "ExecStart=" in line]
    for block in blocks("yaml", page=PAGE):
        (container,) = yaml.safe_load(block.code)["spec"]["template"]["spec"]["containers"]
        started.append(container["command"][1:])
    return started


@pytest.mark.parametrize("words", commands(), ids=" ".join)
async def test_the_commands_of_units_and_containers_have_such_options(words: list[str]) -> None:
    done = await run(*words, "--help")  # which finds out first what it does not know
    assert (done.code, done.err) == (0, "")


async def test_the_page_on_health_shows_what_an_edge_answers() -> None:
    (shown,) = blocks("json", page="docs/howto/deployment/health.md")
    health = Gateway(routes={"/chat": "chat"}).health
    assert [*json.loads(shown.code)] == [name for name in asdict(health) if name != "reason"]
