"""Chat history: nothing is missed, whatever the order of things, and nothing is shown twice."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession

from fastapi_rooms.testing import RedisProxy, WebSocketClient, eventually
from tests.docs.registry import shows

PAGE = "docs/recipes/chat-history.md"


def texts(session: WebSocketTestSession, count: int) -> list[str]:
    return [session.receive_json()["text"] for _ in range(count)]


@shows(PAGE, "app.py")
def test_a_newcomer_reads_what_was_said_before(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        with client.websocket_connect("/chat/tea?user=ann") as ann:
            for text in ("one", "two", "three"):
                ann.send_text(text)
            first, *_ = said = [ann.receive_json() for _ in "123"]
            assert first == {"id": first["id"], "room": "tea", "user": "ann", "text": "one"}
        with client.websocket_connect("/chat/tea?user=bob") as bob:
            assert [bob.receive_json() for _ in "123"] == said
        with client.websocket_connect(f"/chat/tea?user=bob&since={first['id']}") as bob:
            assert texts(bob, 2) == ["two", "three"]
        assert client.get(f"/chat/tea?since={first['id']}").json() == said[1:]
        assert client.get("/chat/coffee").json() == []


@shows(PAGE, "app.py")
def test_what_is_said_while_the_history_is_read_arrives(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bob's reading is held up, before it and after it, until Ann has said something."""
    read = example.read
    before, after = threading.Event(), threading.Event()
    reading, has_read = threading.Event(), threading.Event()

    def slow(room: str, since: int) -> Any:
        reading.set()
        before.wait(10)
        rows = read(room, since)
        has_read.set()
        after.wait(10)
        return rows

    with TestClient(example.app) as client, client.websocket_connect("/chat/tea?user=ann") as ann:
        ann.send_text("one")
        ann.receive_json()
        monkeypatch.setattr(example, "read", slow)
        with client.websocket_connect("/chat/tea?user=bob") as bob:
            assert reading.wait(10)
            ann.send_text("two")
            ann.receive_json()
            before.set()
            assert has_read.wait(10)
            ann.send_text("three")
            ann.receive_json()
            after.set()
            heard = {message["id"]: message for message in (bob.receive_json() for _ in "1234")}
            assert [message["text"] for message in heard.values()] == ["two", "three", "one"]


@shows(PAGE, "app.py")
async def test_members_are_told_to_reload_after_a_gap(
    example: ModuleType, redis_proxy: RedisProxy
) -> None:
    async with example.rooms.clone(redis_proxy.url) as rooms:
        example.app.dependency_overrides[example.rooms] = lambda: rooms
        async with WebSocketClient(example.app, "/chat/tea?user=ann") as ann:
            await eventually(lambda: "tea" in rooms.rooms)
            redis_proxy.cut()
            assert await ann.receive_json() == {"reload": True}
