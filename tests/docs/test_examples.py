"""Every file that the pages have a reader save does what they say of it."""

from __future__ import annotations

import http.client
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from types import ModuleType
from typing import Any, TypeVar

import pytest
import yaml
from fastapi import FastAPI
from playwright.async_api import expect
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import RedisServer
from tests.docs.conftest import Serve
from tests.docs.pages import Block, blocks, find
from tests.integration.browser import chromium, window
from tests.integration.servers import wait_until

Test = TypeVar("Test", bound=Callable[..., Any])

SHOWN: list[Block] = []

RUN_ELSEWHERE = {
    "docs/howto/emitting.md": "test_emitting.py",
    "docs/howto/testing.md": "test_test_files.py",
    "docs/howto/deployment/servers.md-worker.py": "test_commands.py",
    "docs/howto/threads.md-render.py": "test_commands.py",
    "docs/howto/json.md-structs.py": "below, if msgspec is installed",
    "docs/tutorial/first-chat.md-two_workers.py": "test_commands.py",
}


def shows(page: str, title: str, version: int = 1) -> Callable[[Test], Test]:
    """Decorate the test of one file; the test gets it, imported, as `example`."""
    block = find(page, title, version=version)
    SHOWN.append(block)
    return pytest.mark.parametrize("example", [block], indirect=True, ids=[f"{block}-{version}"])


def test_every_file_is_run_by_a_test() -> None:
    forgotten = [
        str(block)
        for block in blocks("python")
        if block.title
        and block not in SHOWN
        and str(block) not in RUN_ELSEWHERE
        and block.page not in RUN_ELSEWHERE
    ]
    assert forgotten == []


@contextmanager
def joined(
    client: TestClient, rooms: RoomManager, *paths: str, room: str = "tea"
) -> Iterator[list[WebSocketTestSession]]:
    """Clients, of which the manager knows that they are in the room."""
    sessions = [client.websocket_connect(path) for path in paths]
    for session in sessions:
        session.__enter__()
    wait_until(lambda: len(rooms.rooms.get(room, ())) == len(paths))
    yield sessions
    for session in sessions:
        session.__exit__(None, None, None)
    wait_until(lambda: not rooms.sids)


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
async def test_tutorial_two_tabs(example: ModuleType, serve: Serve) -> None:
    address = f"http://{serve(example.app)}"
    async with chromium() as browser, window(browser) as context:
        ann, bob = await context.new_page(), await context.new_page()
        for tab, name in ((ann, "ann"), (bob, "bob")):
            await tab.goto(f"{address}/?name={name}")
            await expect(tab.locator("li").first).to_contain_text("chat: you are in tea (worker ")
        await ann.locator("input").fill("hello <b>")
        await ann.locator("button").click()
        for tab in (ann, bob):
            await expect(tab.locator("li").last).to_contain_text("ann: hello <b> (worker ")
        await expect(ann.locator("input")).to_have_value("")


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


SESSION = {"cookie": "session=s3cret", "origin": "https://chat.example.com"}


@shows("docs/howto/authentication.md", "app.py")
def test_authentication(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        with client.websocket_connect("/chat/tea", headers={**SESSION}) as ann:
            ann.send_text("hello")
            assert ann.receive_json() == {"from": "ann", "text": "hello"}
        with pytest.raises(WebSocketDenialResponse) as denial:
            client.websocket_connect("/chat/tea", headers={**SESSION, "cookie": ""}).__enter__()
        assert denial.value.status_code == 401
        with pytest.raises(WebSocketDisconnect) as disconnect:
            client.websocket_connect("/chat/tea", headers={**SESSION, "origin": "evil"}).__enter__()
        assert disconnect.value.code == 1008
        with client.websocket_connect("/chat/secrets", headers={**SESSION}) as ann:
            with pytest.raises(WebSocketDisconnect) as disconnect:
                ann.receive_text()
            assert (disconnect.value.code, disconnect.value.reason) == (1008, "not a member")


@shows("docs/howto/authentication.md", "app.py")
def test_what_a_client_sees_when_it_is_turned_away(example: ModuleType, serve: Serve) -> None:
    address = f"ws://{serve(example.app)}/chat"
    for headers, status in (
        ({**SESSION, "origin": "https://evil.example.com"}, 403),
        ({**SESSION, "cookie": "session=guessed"}, 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{address}/tea", additional_headers=headers)
        assert refused.value.response.status_code == status
    with connect(f"{address}/secrets", additional_headers={**SESSION}) as client:
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
        assert client.close_code == 1008


@shows("docs/howto/authentication.md", "notify.py")
def test_one_user_has_several_tabs(example: ModuleType) -> None:
    def tab(session: str) -> WebSocketTestSession:
        return client.websocket_connect("/notifications", headers={"cookie": f"session={session}"})

    with (
        TestClient(example.app) as client,
        tab("s3cret") as first,
        tab("s3cret") as second,
        tab("pa55") as bob,
    ):
        wait_until(lambda: len(example.rooms.rooms.get("user:ann", ())) == 2)
        assert client.post("/users/ann/notify?text=hello").json() == 2
        assert client.post("/users/bob/notify?text=bye").json() == 1
        assert client.post("/users/cem/notify?text=hello").json() == 0
        for session, text in ((first, "hello"), (second, "hello"), (bob, "bye")):
            assert session.receive_json() == {"notification": text}


ORIGIN = {"origin": "https://chat.example.com"}
ANN, BOB = ({**ORIGIN, "cookie": f"session={session}"} for session in ("s3cret", "pa55"))


@shows("docs/howto/security.md", "app.py")
def test_security(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        with (
            client.websocket_connect("/chat", headers={**ANN}) as ann,
            client.websocket_connect("/chat", headers={**BOB, "origin": "http://localhost"}) as bob,
        ):
            for session in (ann, bob):
                session.send_text("join public-tea")
                assert session.receive_text() == "you are in public-tea"
            ann.send_text("join private-tea")
            assert ann.receive_text() == "you are in private-tea"
            ann.send_text("say public-tea hello, Bob")
            assert bob.receive_text() == "hello, Bob"
            bob.send_text("join private-tea")
            assert ends_with(bob) == (1008, "not allowed to join 'private-tea'")
            ann.send_text("join secrets")
            assert ends_with(ann) == (1008, "not allowed to join 'secrets'")
        with client.websocket_connect("/chat", headers={**BOB}) as bob:
            for number in range(21):
                bob.send_text(f"say nothing {number}")
            assert ends_with(bob) == (4429, "too many messages")
        with client.websocket_connect("/chat", headers={**BOB}) as bob:
            bob.send_text("x" * 16_385)
            assert ends_with(bob) == (4429, "too many messages")
        assert not example.rooms.sids


def ends_with(session: WebSocketTestSession) -> tuple[int, str]:
    with pytest.raises(WebSocketDisconnect) as end:
        session.receive_text()
    return end.value.code, end.value.reason


@shows("docs/howto/security.md", "app.py")
def test_security_refuses_other_sites_and_unknown_users(example: ModuleType, serve: Serve) -> None:
    address = f"ws://{serve(example.app)}/chat"
    for headers, status in (
        ({**ANN, "origin": "https://evil.example"}, 403),
        ({**ANN, "origin": "http://chat.example.com"}, 403),
        ({**ANN, "cookie": ""}, 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(address, additional_headers=headers)
        assert refused.value.response.status_code == status


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


@shows("docs/howto/sse.md", "app.py")
def test_server_sent_events(example: ModuleType, serve: Serve, redis_server: RedisServer) -> None:
    address = serve(example.app)
    stream = http.client.HTTPConnection(address, timeout=10)
    stream.request("GET", "/events/tea")
    response = stream.getresponse()
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert [response.readline(), response.readline()] == [b": listening\n", b"\n"]
    post(address, "/events/tea", {"kettle": "on"})
    assert [response.readline(), response.readline()] == [b'data: {"kettle":"on"}\n', b"\n"]
    assert redis_server.numsub("rooms#/#tea#") == 1
    response.close()
    stream.close()  # the client goes, and with it the listener
    wait_until(lambda: redis_server.numsub("rooms#/#tea#") == 0)


@shows("docs/howto/sse.md", "app.py")
def test_server_sent_events_without_redis(example: ModuleType, serve: Serve) -> None:
    with RedisServer() as redis:
        rooms = RoomManager(redis.url, join_timeout=0.3)
        example.app.dependency_overrides[example.rooms] = lambda: rooms
        example.app.router.lifespan_context = rooms.lifespan
        address = serve(example.app)
        redis.kill()
        wait_until(lambda: not rooms.health.ready)
        stream = http.client.HTTPConnection(address, timeout=10)
        stream.request("GET", "/events/tea")
        assert stream.getresponse().read() == b"event: unavailable\ndata:\n\n"
        stream.close()


def post(address: str, path: str, value: object) -> None:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("POST", path, json.dumps(value), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()


@shows("docs/howto/sse.md", "watcher.py")
def test_a_listener_in_the_background(example: ModuleType, redis_server: RedisServer) -> None:
    with TestClient(example.app) as client:
        wait_until(lambda: redis_server.numsub("rooms#/#coffee#") == 1)
        client.post("/say/coffee?text=ready")
        wait_until(lambda: example.kettles == ["coffee: ready"])
    wait_until(lambda: redis_server.numsub("rooms#/#coffee#") == 0)


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
    example: ModuleType, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(f"ws://{serve(example.app)}/ticks?every=3600") as ann:
        ann.recv(timeout=10)
        ann.socket.close()
        wait_until(lambda: not example.rooms.sids)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


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


@shows("docs/howto/threads.md", "schedule.py")
def test_a_scheduled_job_sends(example: ModuleType) -> None:
    with TestClient(example.app) as client, client.websocket_connect("/clock") as ann:
        assert ann.receive_text().startswith("20")
        assert ann.receive_text().startswith("20")


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
