"""Push, threads, JSON: the files of these pages do what is said of them."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fastapi_rooms.testing import RedisServer
from tests.docs.conftest import Serve
from tests.docs.pages import find
from tests.docs.registry import shows
from tests.docs.sessions import ends_with, joined
from tests.integration.servers import wait_until


@shows("docs/howto/push-only.md", "prices.py")
def test_everyone_gets_the_same_prices(example: ModuleType, serve: Serve) -> None:
    address = f"ws://{serve(example.app)}/prices"
    with connect(address) as ann, connect(address) as bob:
        assert 100 <= json.loads(ann.recv(timeout=10))["tea"] <= 200
        assert json.loads(bob.recv(timeout=10)).keys() == {"tea"}
        ann.send("this is read and ignored")
        ann.recv(timeout=10)
    wait_until(lambda: not example.rooms.rooms)


@shows("docs/howto/push-only.md", "ticks.py")
def test_each_client_has_a_task_beside_wait_closed(example: ModuleType, serve: Serve) -> None:
    with TestClient(example.app) as client, client.websocket_connect("/ticks?every=0") as ann:
        ann.send_text("this is read and ignored")
        assert ann.receive_json()["now"] <= ann.receive_json()["now"] <= time.time()
    with connect(f"ws://{serve(example.app)}/ticks") as ann:
        ann.recv(timeout=10)
        wait_until(lambda: len(example.rooms.sids) == 1)
    wait_until(lambda: not example.rooms.sids)


@shows("docs/howto/push-only.md", "ticks.py")
def test_a_ticker_is_no_ghost_and_holds_up_no_shutdown(
    example: ModuleType, serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    with connect(f"ws://{serve(example.app)}/ticks?every=3600") as ann:
        ann.recv(timeout=10)
        ann.socket.close()
        wait_until(lambda: not example.rooms.sids)
    assert "Traceback" not in capfd.readouterr().err  # uvicorn's log does not reach caplog


@shows("docs/howto/push-only.md", "ticks.py")
def test_a_ticker_that_fails_ends_its_endpoint(
    example: ModuleType, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise LookupError("no price")

    monkeypatch.setattr(example, "tick", broken)
    with connect(f"ws://{serve(example.app)}/ticks") as ann, pytest.raises(ConnectionClosed):
        ann.recv(timeout=10)
    wait_until(lambda: not example.rooms.sids)


@shows("docs/howto/threads.md", "app.py")
def test_def_routes_and_background_tasks_send(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, "/chat/tea", "/chat/tea") as (ann, bob),
    ):
        assert client.post("/announce/tea?text=hello").json() == 2
        assert client.post("/reports/tea").status_code == 202
        for session in (ann, bob):
            assert session.receive_text() == "hello"
            assert session.receive_json() == {"report": "ready"}


@shows("docs/howto/threads.md", "orders.py")
def test_a_callback_of_a_librarys_thread_sends(
    example: ModuleType, redis_server: RedisServer
) -> None:
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, "/orders", room="orders") as (ann,),
    ):
        assert redis_server.command("PUBLISH", "orders", "two cups") == 1
        assert ann.receive_bytes() == b"two cups"


@shows("docs/howto/json.md", "say.py")
def test_a_message_is_checked_by_pydantic(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, "/chat/tea", "/chat/tea") as (ann, bob),
    ):
        ann.send_json({"text": "x" * 1001})
        (error,) = ann.receive_json()["error"]
        assert error["loc"] == ["text"]
        ann.send_text("{")
        (error,) = ann.receive_json()["error"]
        assert error["type"] == "json_invalid"
        ann.send_json({"text": "hello"})
        assert bob.receive_json() == ann.receive_json() == {"text": "hello"}


@shows("docs/howto/json.md", "decimals.py")
def test_a_codec_of_the_standard_librarys(example: ModuleType) -> None:
    with TestClient(example.app) as client, client.websocket_connect("/double") as ann:
        ann.send_text("0.12345678901234567890")
        assert ann.receive_json() == {"twice": str(2 * Decimal("0.12345678901234567890"))}
        ann.send_text("{")
        assert ends_with(ann)[0] == 1007


def test_a_codec_of_msgspecs() -> None:
    block = find("docs/howto/json.md", "structs.py")
    names: dict[str, Any] = {}
    exec(compile(block.code, str(block), "exec"), names)
    with (
        TestClient(names["app"]) as client,
        joined(client, names["rooms"], "/chat/tea", "/chat/tea") as (ann, bob),
    ):
        ann.send_json({"type": "said", "text": "hello"})
        ann.send_json({"type": "typing"})
        assert bob.receive_json() == {"type": "said", "text": "hello"}
        assert bob.receive_json() == {"type": "typing"}
        ann.send_json({"type": "sung"})
        assert ends_with(ann)[0] == 1007
