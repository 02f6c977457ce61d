"""Rooms that remember, as the page about them shows: nothing is missed, and nothing comes twice."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from playwright.async_api import BrowserContext, Page
from starlette.testclient import TestClient

from fastapi_rooms.testing import RedisServer, WebSocketClient, eventually
from tests.docs.conftest import Serve
from tests.docs.pages import blocks
from tests.docs.registry import shows

PAGE = "docs/howto/history.md"


@shows(PAGE, "app.py")
def test_a_newcomer_gets_the_last_messages_and_then_what_follows(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        with client.websocket_connect("/chat/app") as ann:
            for number in range(60):
                ann.send_text(f"{number}")
            assert [ann.receive_text() for _ in range(60)] == [f"{n}" for n in range(60)]
        with client.websocket_connect("/chat/app") as bob:
            assert [bob.receive_text() for _ in range(50)] == [f"{n}" for n in range(10, 60)]
            bob.send_text("next")
            assert bob.receive_text() == "next"


async def _until_position(client: WebSocketClient) -> list[Any]:
    messages = [await client.receive_json()]
    while "position" not in messages[-1]:
        messages.append(await client.receive_json())
    return messages


@shows(PAGE, "resume.py")
async def test_a_client_goes_on_where_it_was_on_another_worker(
    example: ModuleType, redis_server: RedisServer
) -> None:
    async with example.rooms, example.rooms.clone(redis_server.url) as other:
        async with WebSocketClient(example.app, "/chat/resume") as ann:
            (hello,) = await _until_position(ann)
            assert hello["recovered"] is None
            await ann.send_text("one")
            assert (await ann.receive_json())["text"] == "one"
            await ann.send_text("position")
            position = (await ann.receive_json())["position"]
        await example.rooms.to("chat-resume").send_json({"id": "2", "text": "two"})
        example.app.dependency_overrides[example.rooms] = lambda: other
        async with WebSocketClient(example.app, f"/chat/resume?since={position}") as ann:
            *missed, hello = await _until_position(ann)
            assert [message["text"] for message in missed] == ["two"]
            assert hello == {
                "recovered": True,
                "position": await other.position("chat-resume"),
            }
        async with WebSocketClient(example.app, "/chat/resume?since=nonsense") as ann:
            *recent, hello = await _until_position(ann)
            assert [message["text"] for message in recent] == ["one", "two"]
            assert hello["recovered"] is False


@shows(PAGE, "resume.py")
@pytest.mark.asyncio(loop_scope="session")  # that of the browser
async def test_the_page_s_script_shows_everything_once_whatever_is_cut(
    example: ModuleType, serve: Serve, redis_server: RedisServer, window: BrowserContext
) -> None:
    app: FastAPI = example.app
    rooms = example.rooms
    (script,) = blocks("javascript", page=PAGE)
    code = script.code.replace("wss://chat.example.com", "ws://${location.host}")
    code = code.replace("1000 + Math.random() * 4000", "20")
    preface = "window.shown = []; const show = ({ text }) => shown.push(text);"

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse('<script src="resume.js"></script>')

    @app.get("/resume.js")
    async def resume() -> Response:
        return Response(preface + code, media_type="text/javascript")

    @app.post("/say/{first}/{count}")
    async def say(first: int, count: int) -> None:
        for number in range(first, first + count):
            await rooms.to("chat-tea").send_json({"id": f"{number}", "text": f"{number}"})

    @app.post("/cut")
    async def cut() -> None:
        await rooms.to("chat-tea").disconnect_sockets(4000)

    @app.get("/here")
    async def here() -> int:
        return len(rooms.rooms.get("chat-tea", ()))

    async with rooms.clone(redis_server.url) as clone:
        await clone.clear_history("chat-tea")  # of what other tests have said
    address = serve(app)
    tab = await window.new_page()
    await tab.goto(f"http://{address}/")
    sent = 0
    for count in (3, 25, 1, 30):  # more and less than until it asks for a position
        await eventually(lambda: call(address, "GET", "/here") == "1")
        call(address, "POST", f"/say/{sent}/{count}")
        sent += count
        await _shows(tab, sent)
        call(address, "POST", "/cut")
        call(address, "POST", f"/say/{sent}/2")
        sent += 2
        await _shows(tab, sent)


async def _shows(tab: Page, count: int) -> None:
    await tab.wait_for_function("count => window.shown.length >= count", arg=count)
    assert await tab.evaluate("shown") == [f"{number}" for number in range(count)]


def call(address: str, method: str, path: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request(method, path)
    response = connection.getresponse()
    assert response.status == 200
    body = response.read().decode()
    connection.close()
    return body


@contextmanager
def stream(address: str, path: str, last_event_id: str = "") -> Iterator[Iterator[dict[str, str]]]:
    """An event stream: each event's fields."""
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request(
        "GET", path, headers={"Last-Event-ID": last_event_id} if last_event_id else {}
    )
    response = connection.getresponse()
    assert response.status == 200

    def events() -> Iterator[dict[str, str]]:
        fields: dict[str, str] = {}
        while line := response.readline().decode():
            if line != "\n":
                name, _, value = line.rstrip("\n").partition(":")
                fields[name] = value.strip()
            elif fields:
                yield fields
                fields = {}

    yield events()
    response.close()
    connection.close()


@shows(PAGE, "events.py")
def test_an_event_stream_goes_on_by_its_last_event_id(example: ModuleType, serve: Serve) -> None:
    app: FastAPI = example.app

    @app.post("/say/{text}")
    async def say(text: str) -> None:
        await example.rooms.to("news-tea").send_text(text)

    address = serve(example.app)
    with stream(address, "/events/tea") as events:
        first = next(events)  # nothing heard yet, and one can go on from there
    call(address, "POST", "/say/one")
    call(address, "POST", "/say/two")
    with stream(address, "/events/tea", first["id"]) as events:
        assert next(events)["id"] == first["id"]
        one, two = next(events), next(events)
        assert [one["data"], two["data"]] == ["one", "two"]
    with stream(address, "/events/tea", one["id"]) as events:
        next(events)
        assert next(events) == two
        call(address, "POST", "/say/three")
        assert next(events)["data"] == "three"
    with stream(address, "/events/tea", "nonsense") as events:
        next(events)
        assert next(events)["event"] == "reload"


@shows(PAGE, "page.py")
async def test_a_rendered_page_has_the_position_of_its_last_message(example: ModuleType) -> None:
    rooms, name = example.rooms, "chat-page"
    with TestClient(example.app) as client:
        empty = re.findall('data-position="(.*?)"', client.get("/chat/page").text)
    async with rooms:
        assert empty == [await rooms.position(name)]
        for text in ("<b>", "two"):
            await rooms.to(name).send_json({"text": text})
        position = await rooms.position(name)
    with TestClient(example.app) as client:
        page = client.get("/chat/page").text
        assert "<li>&lt;b&gt;</li><li>two</li>" in page
        assert f'data-position="{position}"' in page
        assert client.delete("/chat/page").status_code == 200
        assert "<li>" not in client.get("/chat/page").text


@shows(PAGE, "database.py")
async def test_what_changes_while_the_page_loads_is_not_missed(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = example.load
    changed = False

    async def slow(
        order: str,
    ) -> Any:  # it has read, and something changes before the page is there
        nonlocal changed
        row = dict(await load(order))
        if not changed:
            changed = True
            await example.change(order, "paid", example.rooms)
        return row

    async with example.rooms:
        monkeypatch.setattr(example, "load", slow)
        read = await example.read("7", example.rooms)
        assert read["order"]["state"] == "new"
        path = f"/orders/7/changes?since={read['position']}"
        async with WebSocketClient(example.app, path) as client:
            assert await client.receive_json() == {"id": "7", "state": "paid"}
        async with WebSocketClient(example.app, "/orders/7/changes?since=gone") as client:
            assert await client.receive_json() == {"reload": True}
