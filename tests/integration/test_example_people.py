"""Who is in a room of the example application, as its page says."""

from __future__ import annotations

import json
import os
import signal

import pytest
from playwright.async_api import BrowserContext, expect
from playwright.async_api import Error as BrowserError

from fastapi_rooms import AsyncEmitter
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.example import Scene, Servers, program

pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser


async def test_people_are_listed_once_with_their_name_and_worker(scene: Scene) -> None:
    _, ann, bob = scene
    for tab in (ann, bob):
        await tab.sees("Ann", "Bob")
        for other in (ann, bob):
            worker = await other.worker()
            await expect(tab.person(other.name)).to_have_attribute("data-worker", worker)

    await bob.click("rename")
    await bob.at("name-input").fill("Robert")
    await bob.click("name-submit")
    for tab in (ann, bob):
        await tab.sees("Ann", "Robert")
    await expect(ann.at("event").filter(has_text="Bob is now Robert")).to_have_count(1)
    async with bob.connects_anew():
        await bob.click("reconnect")
    await ann.page.reload()  # the list is asked for anew, by which he has his new name
    await ann.sees("Ann", "Robert")

    await bob.go_to("tea")
    await bob.click(bob.page.locator('[data-room="lobby"]').get_by_test_id("room-leave"))
    await ann.sees("Ann")
    await bob.go_to("lobby")
    await ann.sees("Ann", "Robert")
    await bob.sees("Ann", "Robert")


async def test_who_crashes_is_not_listed_any_more(scene: Scene) -> None:
    _, ann, bob = scene
    await ann.sees("Ann", "Bob")
    with pytest.raises(BrowserError, match="crash"):
        await bob.page.goto("chrome://crash")
    await ann.sees("Ann")


async def test_the_people_of_a_killed_worker_are_not_listed_any_more(own_scene: Scene) -> None:
    server, ann, bob = own_scene
    there = await bob.worker()
    await bob.page.close()
    async with program(server, there, "Cid") as cid:
        await cid.send(json.dumps({"type": "join", "room": "lobby"}))
        await ann.sees("Ann", "Cid")
        os.kill(int(there.split(":")[-1]), signal.SIGKILL)
        await ann.sees("Ann")
    await expect(ann.page.locator(f'[data-testid="worker"][data-worker="{there}"]')).to_have_count(
        0
    )


async def test_after_one_worker_was_cut_off_the_lists_are_right_on_all(
    own_scene: Scene, own_redis: RedisServer
) -> None:
    server, ann, bob = own_scene
    missed = {"type": "people", "room": "lobby", "version": 1}
    gus = {"sid": "1", "name": "Gus", "worker": "w:1"}
    async with AsyncEmitter(own_redis.url) as outside:
        # As if he had gone unheard since.
        await outside.to("room:lobby").send_json({**missed, "people": [gus]})
    for tab in (ann, bob):
        await tab.sees(tab.name, "Gus")
    one = await cut_off_a_worker(own_redis)
    told = [tab.at("event").filter(has_text="lost touch") for tab in (ann, bob)]

    async def is_told() -> bool:
        return any([await each.count() for each in told])

    await eventually(is_told)
    cut_off, other = (ann, bob) if await told[0].count() else (bob, ann)
    await cut_off.sees("Ann", "Bob")
    assert sorted([await each.count() for each in told]) == [0, 1], one
    async with program(server, await other.worker(), "Eve") as eve:
        await eve.send(json.dumps({"type": "join", "room": "lobby"}))
        for tab in (ann, bob):  # the other one finds out that it has missed something
            await tab.sees("Ann", "Bob", "Eve")


async def test_a_list_of_people_and_the_changes_to_it_fit_together(
    window: BrowserContext, servers: Servers
) -> None:
    server = servers("uvicorn")
    page = await window.new_page()
    await page.goto(server.url("/", "http"))
    found = await page.evaluate(
        """async () => {
            const { Room } = await import("/static/rooms.js");
            const person = (name) => ({ name, worker: "w:1" });
            const row = (sid) => ({ sid, ...person(sid) });
            const room = new Room("tea");
            room.change(4, "gone", null);
            room.change(6, "came", person("came"));
            room.areNow(["stayed", "left"].map(row), 5);
            const first = [...room.names].sort();
            room.change(5, "came", null);
            const next = room.change(7, "left", null);
            const hole = room.change(9, "later", person("later"));
            return [first, next, hole, [...room.names].sort()];
        }"""
    )
    assert found == [["came", "left", "stayed"], True, False, ["came", "stayed"]]


async def cut_off_a_worker(redis: RedisServer) -> str:
    """Close the connection by which one of the workers listens; returns what Redis says of it."""
    await eventually(lambda: len(redis.admin.client_list(_type="pubsub")) == 2)
    one, _ = redis.admin.client_list(_type="pubsub")
    redis.admin.client_kill_filter(_id=one["id"])
    return str(one)
