"""Deployment, cluster, namespaces and the like: their files do what is said of them."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import yaml
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import RedisServer
from tests.docs.conftest import Serve
from tests.docs.pages import blocks
from tests.docs.registry import shows
from tests.docs.sessions import joined
from tests.integration.servers import wait_until


@shows("docs/howto/deployment/servers.md", "app.py")
def test_a_chat_that_reads_its_address_from_the_environment(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, "/chat/tea", "/chat/tea") as (ann, bob),
    ):
        ann.send_text("hello")
        assert bob.receive_text() == "hello"


@shows("docs/howto/deployment/health.md", "app.py")
def test_readiness_is_not_liveness(example: ModuleType) -> None:
    with RedisServer() as redis:
        rooms = RoomManager(redis.url)
        example.app.dependency_overrides[example.rooms] = lambda: rooms
        example.app.router.lifespan_context = rooms.lifespan
        with TestClient(example.app) as client:
            assert client.get("/health/ready").status_code == 200
            assert client.get("/health/ready").json()["connected"] is True
            redis.kill()
            wait_until(lambda: client.get("/health/ready").status_code == 503)
            assert client.get("/health/live").status_code == 200
            redis.start()
            wait_until(lambda: client.get("/health/ready").status_code == 200)


@shows("docs/howto/deployment/outages.md", "admit.py")
def test_clients_are_admitted(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer() as redis:
        rooms = example.rooms.clone(redis.url, publish_timeout=0.2)
        monkeypatch.setattr(example, "rooms", rooms)
        example.app.router.lifespan_context = rooms.lifespan
        with TestClient(example.app) as client:
            redis.kill()
            wait_until(lambda: not rooms.health.connected)
            with client.websocket_connect("/chat/tea") as ann:
                ann.send_text("hello")
                assert ann.receive_text() == "hello"
                assert ann.receive_json() == {"only heard": "on this server"}
                redis.start()
                assert ann.receive_json().keys() == {"reload since"}
                ann.send_text("hello again")
                assert ann.receive_text() == "hello again"


@shows("docs/howto/deployment/outages.md", "routes.py")
def test_routes_say_that_redis_is_away(example: ModuleType) -> None:
    with RedisServer() as redis:
        rooms = example.rooms.clone(redis.url, publish_timeout=0.2)
        example.app.dependency_overrides[example.rooms] = lambda: rooms
        example.app.router.lifespan_context = rooms.lifespan
        with TestClient(example.app) as client:
            assert client.post("/announce/tea?text=hello").status_code == 200
            redis.kill()
            wait_until(lambda: not rooms.health.connected)
            answer = client.post("/announce/tea?text=hello")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert client.post("/hint/tea?text=hello").status_code == 200


@shows("docs/howto/deployment/shutdown.md", "drain.py")
def test_the_hook_of_kubernetes_drains(example: ModuleType, serve: Serve) -> None:
    (hook,) = (block for block in blocks("yaml") if "preStop" in block.code)
    python, *arguments = yaml.safe_load(hook.code)["lifecycle"]["preStop"]["exec"]["command"]
    assert python == "python"
    address = serve(example.app)
    arguments = [argument.replace("localhost:8000", address) for argument in arguments]
    subprocess.run([sys.executable, *arguments], check=True, timeout=60)
    assert not example.rooms.health.ready


@shows("docs/howto/deployment/shutdown.md", "drain.py")
def test_draining(example: ModuleType) -> None:
    rooms = RoomManager(drain_timeout=0.1)  # the client does not answer while it posts
    example.app.dependency_overrides[example.rooms] = lambda: rooms
    example.app.router.lifespan_context = rooms.lifespan

    async def chat(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            async for _ in socket.iter_text():
                pass

    example.app.add_api_websocket_route("/chat", chat)
    with TestClient(example.app) as client, client.websocket_connect("/chat") as ann:
        assert client.post("/drain").status_code == 200
        assert ann.receive() == {
            "type": "websocket.close",
            "code": 1012,
            "reason": "service restart",
        }
        assert not rooms.health.ready


@shows("docs/howto/namespaces.md", "app.py")
def test_namespaces(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        joined(client, example.chat, "/chat/1", "/chat/1", room="1") as (ann, bob),
        joined(client, example.board, "/board/1", room="1") as (cem,),
    ):
        ann.send_text("hello")
        assert bob.receive_text() == "hello"
        client.post("/closing")
        for session in (ann, bob, cem):
            assert session.receive_text() == "We close in five minutes."


@shows("docs/howto/namespaces.md", "tenants.py")
def test_a_namespace_for_each_tenant(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        for tenant in ("acme", "umbrella"):
            path, namespace = f"/{tenant}/1", example.rooms.of(tenant)
            with joined(client, namespace, path, path, room="1") as (ann, bob):
                ann.send_text(tenant)
                assert bob.receive_text() == tenant
                assert set(example.rooms._runtime.namespaces) == {"/", f"/{tenant}"}
        wait_until(lambda: set(example.rooms._runtime.namespaces) == {"/"})


@shows("docs/howto/cluster.md", "app.py")
def test_the_whole_cluster(example: ModuleType, redis_server: RedisServer) -> None:
    other = RoomManager(redis_server.url)
    heard: list[object] = []
    other.on_server_side("settings")(lambda *change: heard.append(change))
    with (
        TestClient(FastAPI(lifespan=other.lifespan)),
        TestClient(example.app) as client,
        client.websocket_connect("/chat/tea?user=ann") as ann,
        client.websocket_connect("/chat/tea?user=bob") as bob,
    ):
        wait_until(lambda: len(example.rooms.rooms.get("user:bob", ())) == 1)
        assert client.get("/rooms/tea").json() == ["ann", "bob"]
        assert client.post("/rooms/tea/move?to=bar").json() == 2
        assert client.get("/rooms/tea").json() == []
        assert client.get("/rooms/bar").json() == ["ann", "bob"]
        assert ann.receive_text() == bob.receive_text() == "this is bar"
        assert client.put("/settings/motto?value=hi").json() == [None]
        assert heard == [("motto", "hi")]
        assert example.settings == {"motto": "hi"}
        client.post("/users/bob/logout")
        assert bob.receive_text() == "You have been logged out."
        with pytest.raises(WebSocketDisconnect) as end:
            bob.receive_text()
        assert (end.value.code, end.value.reason) == (4003, "logged out")
        assert client.get("/rooms/bar").json() == ["ann"]


@shows("docs/howto/native-websockets.md", "app.py")
def test_native_websockets(example: ModuleType, serve: Serve) -> None:
    address = f"ws://{serve(example.app)}/chat/tea"
    with connect(address) as ann, connect(address) as bob:
        assert ann.recv(timeout=10) == bob.recv(timeout=10) == "welcome"
        wait_until(lambda: len(example.rooms.rooms["tea"]) == 2)
        ann.send("hello")
        assert bob.recv(timeout=10) == "hello"
        bob.send("bye")
        with pytest.raises(ConnectionClosed):
            bob.recv(timeout=10)
        assert (bob.close_code, bob.close_reason) == (1000, "bye")
        wait_until(lambda: len(example.rooms.sids) == 1)


@shows("docs/howto/native-websockets.md", "starlette_app.py")
def test_plain_starlette(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, "/chat/tea", "/chat/tea") as (ann, bob),
    ):
        ann.send_text("hello")
        assert bob.receive_text() == "hello"


@shows("docs/howto/native-websockets.md", "mounted.py")
def test_a_mounted_application(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, "/inner/chat", "/inner/chat") as (ann, bob),
    ):
        ann.send_text("hello")
        assert ann.receive_text() == bob.receive_text() == "hello"


@shows("docs/howto/migrating.md", "before.py")
def test_migrating_from_this(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        clients_hear_each_other(client)


@shows("docs/howto/migrating.md", "after.py")
def test_migrating_to_this(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        clients_hear_each_other(client, lambda: len(example.rooms.sids) == 2)


def clients_hear_each_other(
    client: TestClient, both_are_in: Callable[[], bool] = lambda: True
) -> None:
    with client.websocket_connect("/ws/1") as ann:
        with client.websocket_connect("/ws/2") as bob:
            wait_until(both_are_in)
            ann.send_text("hello")
            assert ann.receive_text() == bob.receive_text() == "1 says: hello"
        assert ann.receive_text() == "2 has left"


@shows("docs/howto/migrating.md", "by_event.py")
def test_migrating_event_names(example: ModuleType) -> None:
    enter = {"event": "enter", "room": "tea"}
    with (
        TestClient(example.app) as client,
        client.websocket_connect("/ws") as ann,
        client.websocket_connect("/ws") as bob,
    ):
        for session in (ann, bob):
            session.send_json(enter)
            assert session.receive_json() == {"event": "entered", "room": "tea"}
        ann.send_json({"event": "say", "room": "tea", "text": "hello"})
        said = bob.receive_json()
        assert (said["event"], said["text"]) == ("said", "hello")
        ann.send_json({"event": "sing"})
        assert ann.receive_json() == {"event": "error", "about": {"event": "sing"}}


@shows("docs/reference/events.md", "app.py")
def test_events(example: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="chat")
    with TestClient(example.app) as client:
        with client.websocket_connect("/chat/tea") as ann:
            assert ann.receive_json()["here"] == 1
            with client.websocket_connect("/chat/tea") as bob:
                assert bob.receive_json() == ann.receive_json()
        wait_until(lambda: len(caplog.messages) == 2)
        assert caplog.messages[1].endswith("has gone, 0 are here")


@shows("docs/reference/events.md", "lost.py")
def test_lost_workers(example: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, "/chat/tea", "/chat/tea") as (ann, bob),
    ):
        assert client.portal is not None
        client.portal.call(example.rooms._here.worker_lost, "0a0657e0d0001936", ("bar", "tea"))
        assert ann.receive_json() == bob.receive_json() == {"reload": "some of us may be gone"}
    assert caplog.messages == ["Worker 0a0657e0d0001936 is lost, with members of 2 rooms"]
