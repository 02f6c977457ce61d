"""The example application in a real browser: two tabs, on two different workers."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import BrowserContext, expect

from fastapi_rooms.testing import RedisServer
from tests.integration.browser import Tab, browser
from tests.integration.servers import Server, Start, gunicorn, uvicorn

EXAMPLE = "example_app.main:app"
COMMANDS = {
    "uvicorn": uvicorn("--workers", "2", app=EXAMPLE),
    "gunicorn --preload": gunicorn("-w", "2", "--preload", app=EXAMPLE),
}


@pytest.fixture
async def window(tmp_path: Path) -> AsyncIterator[BrowserContext]:
    """A browser's window; every tab is to be without an error at the end."""
    async with browser(tmp_path / "profile") as context:
        yield context


class Scene(NamedTuple):
    server: Server
    ann: Tab
    bob: Tab


@pytest.fixture(params=COMMANDS)
async def scene(
    request: pytest.FixtureRequest, start: Start, redis: RedisServer, window: BrowserContext
) -> AsyncIterator[Scene]:
    """Ann and Bob, each in a tab of their own, on two different workers."""
    server = start(COMMANDS[request.param], ROOMS_URL=redis.url)
    server.wait_for_workers(2)
    ann = await Tab.open(window, server.url("/", "http"), "Ann")
    bob = await Tab.open(window, server.url("/", "http"), "Bob")
    await bob.reload_until_not_on(await ann.worker())
    assert await ann.worker() != await bob.worker()
    yield Scene(server, ann, bob)
    assert ann.errors + bob.errors == []


async def test_two_tabs_on_two_workers_chat(scene: Scene) -> None:
    server, ann, bob = scene
    await ann.sees("Ann", "Bob")
    await bob.sees("Ann", "Bob")

    await ann.say("Hello, is anybody on the other worker?")
    await bob.hears("Hello, is anybody on the other worker?", "Ann")
    await bob.say("Yes ☕, <b>me</b>")
    await ann.hears("Yes ☕, <b>me</b>", "Bob")
    said = ann.message("Yes ☕, <b>me</b>", "Bob")
    await expect(said).to_have_attribute("data-worker", await bob.worker())

    await bob.at("composer").press_sequentially("I am about to")
    await expect(ann.at("typing")).to_contain_text("Bob is typing")
    await expect(bob.at("typing")).to_be_empty()
    await bob.at("composer").fill("")

    await bob.go_to("tea")
    await ann.sees("Ann", "Bob")  # he stays in the lobby while he looks at another room
    await bob.sees("Bob")
    await ann.go_to("tea")
    await bob.sees("Ann", "Bob")
    await bob.say("only in here")
    await ann.hears("only in here", "Bob")

    await announce(server, "tea", "The kettle is on")
    for tab in (ann, bob):
        await expect(tab.at("announcement")).to_contain_text("The kettle is on")

    await bob.page.close()
    await ann.sees("Ann")
    assert server.complaints == []


async def test_tabs_come_back_after_a_restart_of_the_server(
    scene: Scene, start: Start, redis: RedisServer, request: pytest.FixtureRequest
) -> None:
    server, ann, bob = scene
    await ann.say("before")
    await bob.hears("before", "Ann")
    old = {await ann.worker(), await bob.worker()}
    assert server.complaints == []

    await asyncio.to_thread(server.stop)
    for tab in (ann, bob):
        await expect(tab.at("status")).to_have_attribute("data-state", "waiting")
    command = COMMANDS[request.node.callspec.params["scene"]]
    again = start(command, server.port, ROOMS_URL=redis.url)
    await asyncio.to_thread(again.wait_for_workers, 2)
    for tab in (ann, bob):
        await tab.is_online()
    assert {await ann.worker(), await bob.worker()}.isdisjoint(old)

    await bob.reload_until_not_on(await ann.worker())
    await ann.sees("Ann", "Bob")
    await bob.sees("Ann", "Bob")
    await bob.say("after")
    await ann.hears("after", "Bob")
    await ann.hears("before", "Ann")
    await bob.hears("before", "Ann")
    assert again.complaints == []


async def announce(server: Server, room: str, text: str) -> None:
    """What a program says to the room, by HTTP."""
    request = urllib.request.Request(
        server.url(f"/announce/{room}", "http"),
        data=b'{"text": "%s"}' % text.encode(),
        headers={"Content-Type": "application/json"},
    )

    def post() -> int:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)

    assert await asyncio.to_thread(post) == 202
