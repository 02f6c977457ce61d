"""Chat history: nothing is missed, whatever the order of things, and nothing is shown twice."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from playwright.async_api import BrowserContext
from starlette.testclient import TestClient

from fastapi_rooms.testing import WebSocketClient, eventually
from tests.docs.conftest import Serve
from tests.docs.pages import blocks
from tests.docs.registry import shows

PAGE = "docs/recipes/chat-history.md"


@shows(PAGE, "app.py")
def test_a_newcomer_is_sent_what_was_said_before(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        with client.websocket_connect("/chat/recipe") as ann:
            for text in ("one", "two", "three"):
                ann.send_text(text)
                assert ann.receive_text() == text
        with client.websocket_connect("/chat/recipe") as bob:
            assert [bob.receive_text() for _ in "123"] == ["one", "two", "three"]
            bob.send_text("four")
            assert bob.receive_text() == "four"


@shows(PAGE, "database.py")
def test_what_is_said_while_the_page_loads_is_read_or_replayed(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bob's reading is held up, before it and after it, until Ann has said something."""
    newest = example.newest
    before, after = threading.Event(), threading.Event()
    reading, has_read = threading.Event(), threading.Event()

    def slow(room: str) -> Any:
        reading.set()
        before.wait(10)
        rows = newest(room)
        has_read.set()
        after.wait(10)
        return rows

    with TestClient(example.app) as client:
        first = client.get("/chat/saved").json()
        assert first["messages"] == []
        path = "/chat/saved?user={}&since={}"
        with client.websocket_connect(path.format("ann", first["position"])) as ann:
            ann.send_text("one")
            one = ann.receive_json()
            assert one == {"id": one["id"], "room": "saved", "user": "ann", "text": "one"}
            monkeypatch.setattr(example, "newest", slow)
            pages: list[Any] = []
            loading = threading.Thread(
                target=lambda: pages.append(client.get("/chat/saved").json())
            )
            loading.start()
            assert reading.wait(10)
            ann.send_text("two")
            ann.receive_json()
            before.set()
            assert has_read.wait(10)
            ann.send_text("three")
            ann.receive_json()
            after.set()
            loading.join(10)
            (page,) = pages
            assert [message["text"] for message in page["messages"]] == ["one", "two"]
            with client.websocket_connect(path.format("bob", page["position"])) as bob:
                assert [bob.receive_json()["text"] for _ in "12"] == ["two", "three"]
                ann.send_text("four")
                assert bob.receive_json()["text"] == "four"
        with client.websocket_connect(path.format("bob", "0")) as bob:
            assert bob.receive_json() == {"reload": True}


@shows(PAGE, "database.py")
async def test_members_are_told_to_reload_when_redis_has_lost_the_messages(
    example: ModuleType,
) -> None:
    async with example.rooms as rooms:
        position = await rooms.position("chat-lost")
        path = f"/chat/lost?user=ann&since={position}"
        async with WebSocketClient(example.app, path) as ann:
            await eventually(lambda: "chat-lost" in rooms.rooms)
            await ann.send_text("one")
            assert (await ann.receive_json())["text"] == "one"
            rooms._here.recovery.lost("chat-lost")
            assert await ann.receive_json() == {"reload": True}


@shows(PAGE, "database.py")
@pytest.mark.asyncio(loop_scope="session")  # that of the browser
async def test_the_page_has_everything_once_whatever_is_cut(
    example: ModuleType, serve: Serve, window: BrowserContext
) -> None:
    app: FastAPI = example.app
    (script,) = blocks("javascript", page=PAGE)
    code = script.code.replace("wss://chat.example.com", "ws://${location.host}")
    code = code.replace("1000 + Math.random() * 4000", "20")
    preface = "window.shown = []; const show = (all) => (shown = all.map(({ text }) => text));"

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse('<script src="page.js"></script>')

    @app.get("/page.js")
    async def page_script() -> Response:
        return Response(preface + code, media_type="text/javascript")

    @app.post("/cut/{text}")
    async def cut(text: str) -> None:
        await example.rooms.to("chat-tea").disconnect_sockets(4000)
        await example.rooms.to("chat-tea").send_json(example.save("tea", "bob", text))

    address = serve(app)
    tab = await window.new_page()
    await tab.goto(f"http://{address}/")
    texts = [f"{number}" for number in range(5)]
    for count, text in enumerate(texts, 1):
        await tab.evaluate("text => fetch(`/cut/${text}`, { method: 'POST' })", text)
        await tab.wait_for_function("count => shown.length >= count", arg=count)
        assert await tab.evaluate("shown") == texts[:count]
