"""The example application behind two edges: its backend is replaced, and people talk on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from functools import partial

import pytest
from playwright.async_api import BrowserContext, expect

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.browser import Tab
from tests.integration.gateway.processes import free_port
from tests.integration.terminal import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser


async def line_with(process: Process, words: str) -> str:
    """The next line with these words that a process writes."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        async for line in process.stdout:
            if words in line.decode():
                return line.decode()
    pytest.fail(f"it did not write {words!r}")


def counted(tab: Tab) -> list[str]:
    """Connections that a tab makes from now on."""
    connections: list[str] = []
    tab.page.on("websocket", lambda socket: connections.append(socket.url))
    return connections


async def test_people_talk_on_while_the_backend_is_replaced(
    own_redis: RedisServer, window: BrowserContext
) -> None:
    ports = [free_port(), free_port()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "example_app.edges", "--every", "3"),
        *("--ports", ",".join(map(str, ports))),
        env={**os.environ, "ROOMS_URL": own_redis.url},
        cwd=ROOT,
        stdout=PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        await line_with(process, "runs the endpoints")
        ann, bob = [
            await Tab.open(window, f"http://127.0.0.1:{port}/", name)
            for port, name in zip(ports, ("Ann", "Bob"), strict=True)
        ]
        connections = counted(ann) + counted(bob)
        await ann.say("before")
        await bob.hears("before", "Ann")
        there = await ann.worker()
        for tab in (ann, bob):
            await expect(tab.at("worker-badge")).not_to_have_attribute("data-worker", there)
        await bob.say("after")
        await ann.hears("after", "Bob")
        for tab in (ann, bob):
            await tab.sees("Ann", "Bob")
        assert connections == ann.errors == bob.errors == []
        await expect(ann.at("event").filter(has_text="left")).to_have_count(0)
        process.send_signal(signal.SIGINT)
        await line_with(process, "It ends.")
        assert await process.wait() == 0
        await eventually(lambda: not own_redis.connections("pubsub"))
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
