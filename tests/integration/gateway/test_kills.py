"""A SIGKILL at any step of an opening: the client has a connection, a sid and its room once."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.gateway.dying import STEPS, dead, dying_backend
from tests.integration.gateway.site import at, site

MOMENTS = ["asked", *(f"{when} {step}" for step in STEPS for when in ("before", "after"))]


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_client_outlives_a_sigkill_of_its_backend_at_any_step_of_an_opening(
    redis: RedisServer, moment: str
) -> None:
    prefix = uuid4().hex
    async with site(redis.url, prefix=prefix) as here:
        port = await here.edge()
        (edge,) = here.edges
        with dying_backend(redis.url, prefix, moment) as victim:
            await eventually(lambda: edge.backends, what="the edge knows it")
            connecting = asyncio.create_task(connect(at(port, "/chat/tea")).__aenter__())
            await dead(victim)
        await here.backend()
        client = await connecting
        if moment == "after greet":
            assert await client.recv() == "hello 0"
        was_accepted = moment not in ("asked", "before accept")
        assert await client.recv() == f"hello {int(was_accepted)}"
        await client.send("hi")
        assert await client.recv() == "hi", "once, and before anything else"
        assert len(edge.manager.rooms["tea"]) == len(edge.manager.sids) == 1
        await client.close()
        await eventually(lambda: not edge.manager.rooms)
