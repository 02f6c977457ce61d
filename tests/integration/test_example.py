"""The example application in a real browser: tabs on two different workers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache, partial
from http import HTTPMethod
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, expect
from playwright.async_api import Error as BrowserError
from websockets.asyncio.client import ClientConnection, connect

from fastapi_rooms import AsyncEmitter, RoomManager
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.browser import Tab, chromium
from tests.integration.browser import window as new_window
from tests.integration.clients import TIMEOUT
from tests.integration.servers import ROOT, Server, Start, gunicorn, starter, uvicorn

EXAMPLE = "example_app.main:app"
TOKEN = "open sesame"
COMMANDS = {
    "uvicorn": uvicorn("--workers", "2", app=EXAMPLE),
    "gunicorn --preload": gunicorn("-w", "2", "--preload", app=EXAMPLE),
}


pytestmark = pytest.mark.asyncio(loop_scope="module")  # that of the browser, which is started once

Servers = Callable[[str], Server]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def window(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser's window; every tab is to be without an error at the end."""
    async with new_window(browser) as context:
        yield context


@pytest.fixture(scope="module")
def servers(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers for tests that leave them whole: each is started when it is first asked for."""
    with starter(tmp_path_factory.mktemp("servers")) as start:

        @cache
        def server(kind: str) -> Server:
            return started(start, kind, redis)

        yield server


def started(start: Start, kind: str, redis: RedisServer) -> Server:
    server = start(COMMANDS[kind], ROOMS_URL=redis.url, ADMIN_TOKEN=TOKEN)
    server.wait_for_workers(2)
    return server


class Scene(NamedTuple):
    """Ann and Bob, each in a tab of their own, on two different workers of a server."""

    server: Server
    ann: Tab
    bob: Tab


@asynccontextmanager
async def ann_and_bob(server: Server, window: BrowserContext) -> AsyncIterator[Scene]:
    ann = await Tab.open(window, server.url("/", "http"), "Ann")
    bob = await Tab.open(window, server.url("/", "http"), "Bob")
    await bob.reload_until_not_on(await ann.worker())
    assert await ann.worker() != await bob.worker()
    yield Scene(server, ann, bob)
    assert ann.errors + bob.errors == []


@pytest_asyncio.fixture(params=["uvicorn"], loop_scope="module")
async def scene(
    request: pytest.FixtureRequest, servers: Servers, window: BrowserContext, redis: RedisServer
) -> AsyncIterator[Scene]:
    """Ann and Bob on a server that other tests meet, too, and that complains of nothing."""
    await forget(redis)
    server = servers(request.param)
    complaints = len(server.complaints)
    async with ann_and_bob(server, window) as scene:
        yield scene
    assert server.complaints[complaints:] == []


@pytest_asyncio.fixture(params=["uvicorn"], loop_scope="module")
async def own_scene(
    request: pytest.FixtureRequest, own_redis: RedisServer, start: Start, window: BrowserContext
) -> AsyncIterator[Scene]:
    """Ann and Bob on a server and a Redis for one test, which may do anything to both."""
    async with ann_and_bob(started(start, request.param, own_redis), window) as scene:
        yield scene


on_each = partial(pytest.mark.parametrize, argvalues=COMMANDS, indirect=True)


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


@on_each("own_scene")
async def test_tabs_come_back_after_a_restart_of_the_server(
    own_scene: Scene, start: Start, own_redis: RedisServer, request: pytest.FixtureRequest
) -> None:
    server, ann, bob = own_scene
    await ann.say("before")
    await bob.hears("before", "Ann")
    old = {await ann.worker(), await bob.worker()}
    assert server.complaints == []

    await asyncio.to_thread(server.stop)
    for tab in (ann, bob):
        await expect(tab.at("status")).to_have_attribute("data-state", "waiting")
    command = COMMANDS[request.node.callspec.params["own_scene"]]
    again = start(command, server.port, ROOMS_URL=own_redis.url)
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


async def test_a_browser_that_was_away_goes_on_where_it_was(
    scene: Scene, window: BrowserContext
) -> None:
    server, ann, bob = scene
    ada = await Tab.open(window, server.url("/?admin", "http"), "Ada")
    await ada.sign_in(TOKEN)
    await expect(ada.at("disconnect")).to_have_count(2)
    for tab in (ann, bob):
        await tab.go_to("trip")
    await ann.say("before")
    await bob.hears("before", "Ann")
    await ada.disconnect("Bob")
    await expect(bob.at("status")).to_have_attribute("data-state", "closed")
    for number in range(5):
        await ann.say(f"missed {number}")
    await bob.at("come-back").click()
    await bob.is_online()
    await bob.hears("missed 4", "Ann")
    words = bob.at("message").get_by_test_id("message-text")
    await expect(words).to_have_text(["before", *(f"missed {number}" for number in range(5))])
    await expect(bob.at("event").filter(has_text="missing")).to_have_count(0)
    await bob.page.reload()  # what it has is kept by the tab, and is not shown twice
    await bob.is_online()
    await expect(words).to_have_count(6)
    assert ada.errors == []


async def test_people_are_listed_once_with_their_name_and_worker(scene: Scene) -> None:
    _, ann, bob = scene
    for tab in (ann, bob):
        await tab.sees("Ann", "Bob")
        for other in (ann, bob):
            worker = await other.worker()
            await expect(tab.person(other.name)).to_have_attribute("data-worker", worker)

    await bob.at("rename").click()
    await bob.at("name-input").fill("Robert")
    await bob.at("name-submit").click()
    for tab in (ann, bob):
        await tab.sees("Ann", "Robert")
    await ann.page.reload()  # the list is asked for anew, by which he has his new name
    await ann.sees("Ann", "Robert")

    await bob.go_to("tea")
    await bob.page.locator('[data-room="lobby"]').get_by_test_id("room-leave").click()
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
    for tab in (ann, bob):
        await knows_both_workers(server, await tab.worker())
    missed = {"type": "here", "room": "lobby", "sid": "1", "name": "Gus", "worker": "w:1"}
    async with AsyncEmitter(own_redis.url) as outside:
        await outside.to("room:lobby").send_json(missed)  # as if he had gone unheard since
    for tab in (ann, bob):
        await tab.sees("Ann", "Bob", "Gus")
    one = await cut_off_a_worker(own_redis)
    for tab in (ann, bob):
        await tab.sees("Ann", "Bob")
    told = [await tab.at("event").filter(has_text="lost touch").count() for tab in (ann, bob)]
    assert sorted(told) == [0, 1], one


async def test_what_happens_during_a_roll_outranks_its_answer(
    window: BrowserContext, servers: Servers
) -> None:
    server = servers("uvicorn")
    page = await window.new_page()
    await page.goto(server.url("/", "http"))
    names = await page.evaluate(
        """async () => {
            const { Room } = await import("/static/rooms.js");
            const person = (name) => ({ name, worker: "w:1" });
            const row = (sid) => ({ sid, ...person(sid) });
            const room = new Room("tea");
            room.note("before", person("before"));
            room.rollBegins(1);
            room.note("came", person("came"));
            room.note("left", null);
            const first = room.rollEnds(1, ["left", "stayed"].map(row));
            const after = [...room.names].sort();
            room.rollBegins(2);
            room.rollBegins(3);
            const outdated = room.rollEnds(2, []);
            const meanwhile = [...room.names].sort();
            const latest = room.rollEnds(3, [row("stayed")]);
            return [first, after, outdated, meanwhile, latest, [...room.names]];
        }"""
    )
    assert names == [True, ["came", "stayed"], False, ["came", "stayed"], True, ["stayed"]]


async def test_an_admin_disconnects_somebody_on_another_worker(
    scene: Scene, window: BrowserContext
) -> None:
    server, ann, bob = scene
    ada = await Tab.open(window, server.url("/?admin", "http"), "Ada")
    other = bob if await ada.worker() == await ann.worker() else ann
    stays = ann if other is bob else bob
    await ada.sees("Ada", "Ann", "Bob")
    await ada.sign_in("open barley")
    await expect(ada.at("admin-wrong")).to_have_text("That is not the token")
    await expect(ada.at("disconnect")).to_have_count(0)
    await ada.sign_in(TOKEN)
    await expect(ada.at("disconnect")).to_have_count(2)
    await expect(ann.at("disconnect")).to_have_count(0)

    await ada.disconnect(other.name)
    await expect(other.at("ended")).to_contain_text("An admin has disconnected you")
    await ada.sees("Ada", stays.name)
    await stays.sees("Ada", stays.name)
    await other.page.evaluate('dispatchEvent(new Event("online"))')  # ends any waiting at once
    await expect(other.at("status")).to_have_attribute("data-state", "closed")

    await other.at("come-back").click()
    await other.is_online()
    await expect(other.at("ended")).to_be_hidden()
    await ada.sees("Ada", "Ann", "Bob")
    assert ada.errors == []


async def test_only_who_has_the_token_disconnects_anybody(scene: Scene) -> None:
    server, ann, _ = scene
    sid = await ann.person("Bob").get_attribute("data-sid")
    path = f"/admin/disconnect/{sid}"
    assert await post(server, path) == 401
    assert await post(server, path, token="open barley") == 401
    assert await post(server, "/admin/disconnect/room:lobby", token=TOKEN) == 422
    assert await post(server, "/admin/disconnect/nobody", token=TOKEN) == 404
    await ann.sees("Ann", "Bob")


async def test_without_a_token_there_is_no_admin(start: Start) -> None:
    server = start(uvicorn(app=EXAMPLE), ADMIN_TOKEN="")
    server.wait_for_workers()
    for token in ("", "guess"):
        assert await post(server, "/admin/disconnect/nobody", token=token) == 403


async def test_other_programs_announce_in_words_or_plain_text(
    scene: Scene, redis: RedisServer
) -> None:
    server, ann, bob = scene
    stream = await asyncio.to_thread(
        urllib.request.urlopen, server.url("/events/lobby", "http"), timeout=20
    )
    with stream:
        assert (await asyncio.to_thread(stream.readline)).startswith(b": listening")
        news = {"type": "announcement", "room": "lobby", "text": "We close\nat noon"}
        async with AsyncEmitter(redis.url) as outside:
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
    scene: Scene, redis: RedisServer
) -> None:
    _, ann, bob = scene
    readme = (ROOT / "example_app" / "README.md").read_text()
    commands = re.findall("^fastapi-rooms (emit .*)$", readme, re.MULTILINE)
    for tab in (ann, bob):
        await tab.go_to("tea")
    for command in commands:
        await command_line(redis, *shlex.split(command))
    for tab in (ann, bob):
        words = tab.at("announcement").get_by_test_id("message-text")
        told = ["The kettle is on", "The kettle is on", "We restart at noon"]
        await expect(words).to_have_text(told)


async def forget(redis: RedisServer) -> None:
    """Have the rooms forget what other tests have said."""
    rooms = RoomManager(redis.url)
    rooms.history("said:*")
    async with rooms:
        for room in ("lobby", "tea"):
            await rooms.clear_history(f"said:{room}")


async def command_line(redis: RedisServer, *arguments: str) -> None:
    """Run `fastapi-rooms`, which has to succeed."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastapi_rooms.cli", *arguments),
        cwd=ROOT,
        env=os.environ | {"ROOMS_URL": redis.url},
    )
    assert await program.wait() == 0


async def cut_off_a_worker(redis: RedisServer) -> str:
    """Close the connection by which one of the workers listens; returns what Redis says of it."""
    await eventually(lambda: len(redis.admin.client_list(_type="pubsub")) == 2)
    one, _ = redis.admin.client_list(_type="pubsub")
    redis.admin.client_kill_filter(_id=one["id"])
    return str(one)


async def announce(server: Server, room: str, text: str) -> None:
    """What a program says to the room, by HTTP."""
    assert await post(server, f"/announce/{room}", {"text": text}) == 202


async def post(server: Server, path: str, body: Any = None, token: str | None = None) -> int:
    """Post JSON; returns the status."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(
        server.url(path, "http"), json.dumps(body).encode(), headers, method=HTTPMethod.POST
    )

    def send() -> int:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code

    return await asyncio.to_thread(send)


@asynccontextmanager
async def program(server: Server, worker: str, name: str) -> AsyncIterator[ClientConnection]:
    """A connection to that worker which does not come back if it ends."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            connection = await connect(server.url(f"/ws?name={name}"))
            if json.loads(await connection.recv())["worker"] == worker:
                break
            await connection.close()
    yield connection
    await connection.close()


async def knows_both_workers(server: Server, worker: str) -> None:
    """Wait until that worker has seen that there are two, and has called the roll for it."""
    async with program(server, worker, "Eve") as connection, asyncio.timeout(TIMEOUT):
        async for message in connection:
            told = json.loads(message)
            if told["type"] == "workers" and len(told["workers"]) == 2:
                return
