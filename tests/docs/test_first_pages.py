"""The README and the tutorial: their files do what is said of them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from playwright.async_api import BrowserContext, expect
from starlette.testclient import TestClient, WebSocketTestSession

from tests.docs.conftest import Serve
from tests.docs.registry import shows
from tests.docs.sessions import joined


@shows("README.md", "app.py")
def test_readme(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        with joined(client, example.rooms, "/chat/tea", "/chat/tea") as (ann, bob):
            ann.send_text("hello")
            assert bob.receive_text() == "hello"
            client.post("/announce/tea")
            assert ann.receive_json() == bob.receive_json() == {"hello": "tea"}
        assert not example.rooms.rooms


@shows("docs/tutorial/first-chat.md", "app.py")
def test_tutorial_a_room(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        assert "<form>" in client.get("/").text
        with joined(client, example.rooms, "/chat/tea", "/chat/tea") as (ann, bob):
            ann.send_text("hello")
            assert ann.receive_json() == bob.receive_json() == {"from": "someone", "text": "hello"}


@shows("docs/tutorial/first-chat.md", "app.py", version=2)
def test_tutorial_names(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        names_come_and_go(client)


def names_come_and_go(client: TestClient) -> list[Any]:
    def said(sender: str, text: str) -> dict[str, str]:
        return {"from": sender, "text": text}

    def heard(session: WebSocketTestSession) -> Any:
        message = session.receive_json()
        workers.append(message.pop("worker", None))
        return message

    workers: list[Any] = []
    with client.websocket_connect("/chat/tea?name=ann") as ann:
        assert heard(ann) == said("chat", "you are in tea")
        with client.websocket_connect("/chat/tea?name=bob") as bob:
            assert heard(bob) == said("chat", "you are in tea")
            assert heard(ann) == said("chat", "bob is here")
            ann.send_text("hello")
            assert heard(ann) == heard(bob) == said("ann", "hello")
            client.post("/chat/tea?text=The+kettle+is+on")
            assert heard(ann) == heard(bob) == said("chat", "The kettle is on")
        assert heard(ann) == said("chat", "bob has gone")
    return workers


@shows("docs/tutorial/first-chat.md", "app.py", version=3)
def test_tutorial_two_workers(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        workers = names_come_and_go(client)
    assert workers[0] is not None


@shows("docs/tutorial/first-chat.md", "app.py", version=3)
@pytest.mark.asyncio(loop_scope="session")  # that of the browser
async def test_tutorial_two_tabs(example: ModuleType, serve: Serve, window: BrowserContext) -> None:
    address = f"http://{serve(example.app)}"
    ann, bob = await window.new_page(), await window.new_page()
    for tab, name in ((ann, "ann"), (bob, "bob")):
        await tab.goto(f"{address}/?name={name}")
        await expect(tab.locator("li").first).to_contain_text("chat: you are in tea (worker ")
    await ann.locator("input").fill("hello <b>")
    await ann.locator("button").click()
    for tab in (ann, bob):
        await expect(tab.locator("li").last).to_contain_text("ann: hello <b> (worker ")
    await expect(ann.locator("input")).to_have_value("")
