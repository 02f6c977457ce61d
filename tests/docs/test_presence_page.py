"""Who is present, as the page about it shows."""

from __future__ import annotations

import asyncio
import shlex
import sqlite3
from pathlib import Path
from types import ModuleType

import pytest
from playwright.async_api import BrowserContext, expect
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from fastapi_rooms import AdapterUnavailable, Presence, RoomManager
from fastapi_rooms.testing import RedisServer, WebSocketClient, eventually
from tests.docs.conftest import Serve, as_user
from tests.docs.pages import ROOT
from tests.docs.registry import shows
from tests.docs.sessions import ends_with, joined
from tests.integration.servers import wait_until
from tests.unit.support import app_of

PAGE = "docs/howto/presence.md"
GRACE = 0.1


@pytest.fixture(autouse=True)
def nobody(redis_server: RedisServer) -> None:
    """Nobody is there yet."""
    redis_server.command("FLUSHALL")


@shows(PAGE, "app.py")
def test_a_user_with_two_tabs_is_online_once(
    example: ModuleType, redis_server: RedisServer
) -> None:
    paths = [f"/chat/tea?name={name}" for name in ("bob", "ann", "ann")]
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, *paths, room="chat-tea") as (bob, *_),
    ):
        online = client.get("/chat/tea/online").json()
        bob.send_text("hello")
        said = bob.receive_json()
        sets = [
            line.split("'")[1]
            for line in (ROOT / PAGE).read_text().splitlines()
            if line.startswith("redis-cli smembers")
        ]
        found = [redis_server.command("SMEMBERS", key) for key in sets]
    assert online == ["ann", "bob"]
    assert said == {"from": "bob", "text": "hello"}
    sids, rooms = found
    assert len(sids) == 3
    assert list(rooms) == [b"/#chat-tea"]


@shows(PAGE, "live.py")
@pytest.mark.asyncio(loop_scope="session")  # that of the browser
async def test_the_page_shows_who_is_online_whatever_it_missed(
    example: ModuleType, serve: Serve, window: BrowserContext
) -> None:
    example.presence._rule.grace = GRACE
    address = serve(example.app)
    page = await window.new_page()
    await page.goto(f"http://{address}/?name=ann")
    online = page.locator("#online li")
    await expect(online).to_have_text(["ann"])
    other = await window.new_page()
    await other.goto(f"http://{address}/?name=bob")
    await expect(online).to_have_text(["ann", "bob"])
    await expect(other.locator("#online li")).to_have_text(["ann", "bob"])
    tab = await window.new_page()
    await tab.goto(f"http://{address}/?name=bob")
    await expect(tab.locator("#online li")).to_have_text(["ann", "bob"])
    # A change that belongs far behind what the page knows: it asks for the list again.
    send = example.rooms.sync.to("chat-tea").send_json
    missed = {"kind": "join", "user": "nobody", "version": 2**52}
    await asyncio.to_thread(send, missed)
    await tab.close()
    await other.close()
    await expect(online).to_have_text(["ann"])


@shows(PAGE, "last_seen.py")
def test_when_somebody_was_last_seen_is_noted(example: ModuleType, tmp_path: Path) -> None:
    def seen() -> list[str]:
        with sqlite3.connect(tmp_path / "people.db") as db:
            try:
                return [user for (user,) in db.execute("SELECT user FROM seen ORDER BY user")]
            except sqlite3.OperationalError:  # there is no table yet
                return []

    example.presence._rule.grace = GRACE
    saved: list[str] = []
    save = example.save

    def noted(user: str) -> None:
        save(user)
        saved.append(user)

    vars(example)["save"] = noted
    with TestClient(example.app) as client:
        with joined(client, example.rooms, "/chat/tea?name=ann", room="chat-tea"):
            wait_until(lambda: saved == ["ann"])
            assert seen() == ["ann"]
        wait_until(lambda: saved == ["ann", "ann"])


@shows(PAGE, "limit.py")
def test_a_user_has_only_so_many_sessions(example: ModuleType) -> None:
    paths = ["/feed?name=ann"] * example.LIMIT
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, *paths, room="sessions-ann"),
    ):
        with client.websocket_connect(paths[0]) as one_more:
            assert ends_with(one_more) == (4403, "too many sessions")
        with client.websocket_connect("/feed?name=bob"):
            wait_until(lambda: "sessions-bob" in example.rooms.rooms)


async def test_the_acl_rule_shown_for_presence_is_enough_and_no_more() -> None:
    lines = (ROOT / "docs/howto/deployment/redis.md").read_text().splitlines()
    rule, more = (
        shlex.split(next(line for line in lines if line.startswith("ACL") and words in line))
        for words in (" +publish", " +zrangebyscore")
    )
    async with RedisServer() as server:
        for right in ("", *more[3:]):  # each is taken away once
            if right:
                server.command("ACL", "DELUSER", "rooms")
            server.command(*rule, *more[3:])
            if right.startswith("+"):
                server.command("ACL", "SETUSER", "rooms", f"-{right[1:]}")
            elif right:
                server.command("ACL", "SETUSER", "rooms", "resetkeys")
            rooms = RoomManager(as_user(server.url, "rooms"), join_timeout=5)
            presence = rooms.presence("chat-*", grace=0)
            async with rooms:
                if right:
                    with pytest.raises(AdapterUnavailable, match=right.lstrip("+~").split(":")[0]):
                        await presence.count("chat-tea")
                    continue

                async def endpoint(websocket: WebSocket, rooms: RoomManager = rooms) -> None:
                    async with rooms.connect(websocket) as socket:
                        await socket.join("chat-tea")
                        await socket.wait_closed()

                async with WebSocketClient(app_of(endpoint)):

                    async def is_there(presence: Presence = presence) -> bool:
                        return await presence.count("chat-tea") == 1

                    await eventually(is_there)
                    assert len((await presence.users("chat-tea")).users) == 1
