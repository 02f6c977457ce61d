"""Which uvicorn tells us that it begins to stop, and that it stops whatever we do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from fastapi_rooms.servers.uvicorn.server import OnShutdown, on_server_shutdown
from fastapi_rooms.testing import eventually


class Application:
    """Asks to be told from inside its lifespan, and notes what it is told, and the end."""

    def __init__(self, on_shutdown: OnShutdown | None = None) -> None:
        self.told: list[float | None] = []
        self.on_shutdown = on_shutdown or self.note
        self.hooked: bool | None = None
        self.ended = False

    def note(self, within: float | None) -> None:
        self.told.append(within)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        self.hooked = on_server_shutdown(self.on_shutdown) is not None
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.ended = True
        await send({"type": "lifespan.shutdown.complete"})


class Stoppable(uvicorn.Server):
    """A server of one's own, of which nothing can be known."""


class Running(NamedTuple):
    """A server under way in this very loop."""

    server: uvicorn.Server
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """Have it stop; return when it has."""
        self.server.should_exit = True
        await self.task


@asynccontextmanager
async def serving(
    *apps: Application, kind: type[uvicorn.Server] = uvicorn.Server
) -> AsyncIterator[list[Running]]:
    """Run a server for each, all started at once; they have stopped at the end of the block.

    The last to start is stopped first, so that each gives back the signal handlers that it found.
    """
    running = []
    for app in apps:
        config = uvicorn.Config(
            app, port=0, lifespan="on", ws="none", log_config=None, timeout_graceful_shutdown=7
        )
        server = kind(config)
        running.append(Running(server, asyncio.create_task(server.serve())))
    try:
        await eventually(lambda: all(server.started or task.done() for server, task in running))
        yield running
    finally:
        for one in reversed(running):
            await one.stop()


async def test_a_server_tells_when_it_begins_to_stop_and_for_how_long_it_waits() -> None:
    app = Application()
    async with serving(app):
        assert app.hooked
        assert app.told == []
    assert app.told == [7]


async def test_a_server_in_a_thread_tells_as_well() -> None:
    app = Application()

    async def serve_for_a_while() -> None:
        async with serving(app):
            assert app.hooked

    await asyncio.to_thread(asyncio.run, serve_for_a_while())
    assert app.told == [7]


async def test_of_two_servers_in_one_loop_each_tells_its_own_application_only() -> None:
    first, second = Application(), Application()
    async with serving(first, second) as [goes_on, stops]:
        await stops.stop()
        assert first.told == [], "its server goes on"
        assert not goes_on.task.done()
        assert second.told == [7]
    assert second.told == [7]


async def test_what_is_started_beside_the_lifespan_is_told_nothing() -> None:
    app, beside = Application(), Application()
    async with serving(app):
        assert on_server_shutdown(beside.note) is None
    assert beside.told == []


async def test_a_server_of_ones_own_kind_is_left_alone() -> None:
    app = Application()
    async with serving(app, kind=Stoppable) as [(server, _)]:
        assert app.hooked is False
        assert "shutdown" not in vars(server)
    assert app.told == []


async def test_a_server_stops_although_draining_cannot_begin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(within: float | None) -> None:
        raise RuntimeError("no")

    app = Application(fail)
    with caplog.at_level(logging.ERROR, "fastapi_rooms"):
        async with serving(app):
            assert app.hooked
    assert app.ended, "the server's own shutdown has run"
    [record] = [r for r in caplog.records if r.name == "fastapi_rooms"]
    assert record.exc_info is not None
