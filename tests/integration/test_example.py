"""The example application in a real browser: tabs on two different workers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
import urllib.request

import pytest
from playwright.async_api import BrowserContext, expect

from fastapi_rooms import AsyncEmitter
from fastapi_rooms.testing import RedisServer
from tests.integration.browser import Tab
from tests.integration.example import Scene, announce, on_each
from tests.integration.servers import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser


@on_each("scene")
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


async def test_a_newcomer_on_any_worker_sees_what_was_said_before(
    scene: Scene, window: BrowserContext
) -> None:
    server, ann, bob = scene
    await ann.say("first")
    await bob.say("second")
    await announce(server, "lobby", "The kettle is on")
    await expect(ann.at("announcement")).to_contain_text("The kettle is on")
    cid = await Tab.open(window, server.url("/", "http"), "Cid")
    for other in (bob, ann):
        await cid.hears("first", "Ann")
        await cid.hears("second", "Bob")
        await expect(cid.at("announcement")).to_have_count(1)
        await expect(cid.at("unread-total")).to_be_hidden()
        await cid.reload_until_not_on(await other.worker())
    assert cid.errors == []


async def test_other_programs_announce_in_words_or_plain_text(
    scene: Scene, example_redis: RedisServer
) -> None:
    server, ann, bob = scene
    stream = await asyncio.to_thread(
        urllib.request.urlopen, server.url("/events/lobby", "http"), timeout=20
    )
    with stream:
        assert (await asyncio.to_thread(stream.readline)).startswith(b": listening")
        news = {"type": "announcement", "room": "lobby", "text": "We close\nat noon"}
        async with AsyncEmitter(example_redis.url) as outside:
            lobby = outside.to("room:lobby")
            await lobby.send_bytes(b"\xff is for other ears")
            await lobby.send_text("The kettle is on")
            await lobby.send_json(news)
        for tab in (ann, bob):
            words = tab.at("announcement").get_by_test_id("message-text")
            await expect(words).to_have_text(["The kettle is on", "We close\nat noon"])
        lines = [await asyncio.to_thread(stream.readline) for _ in range(4)]
        told = [
            json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data")
        ]
        assert told == [{"type": "announcement", "text": "The kettle is on"}, news]


async def test_the_command_line_announces_as_the_readme_says(
    scene: Scene, example_redis: RedisServer
) -> None:
    _, ann, bob = scene
    readme = (ROOT / "example_app" / "README.md").read_text()
    commands = re.findall("^fastapi-rooms (emit .*)$", readme, re.MULTILINE)
    for tab in (ann, bob):
        await tab.go_to("tea")
    for command in commands:
        await command_line(example_redis, *shlex.split(command))
    for tab in (ann, bob):
        words = tab.at("announcement").get_by_test_id("message-text")
        told = ["The kettle is on", "The kettle is on", "We restart at noon"]
        await expect(words).to_have_text(told)


async def command_line(redis: RedisServer, *arguments: str) -> None:
    """Run `fastapi-rooms`, which has to succeed."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastapi_rooms.cli", *arguments),
        cwd=ROOT,
        env=os.environ | {"ROOMS_URL": redis.url},
    )
    assert await program.wait() == 0
