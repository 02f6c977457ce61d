"""Every file that the pages have a reader save does what they say of it."""

from __future__ import annotations

import http.client
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest
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
from tests.integration.browser import browser
from tests.integration.servers import wait_until

Test = TypeVar("Test", bound=Callable[..., Any])

SHOWN: list[Block] = []

RUN_ELSEWHERE = {
    "docs/howto/emitting.md": "test_emitting.py",
    "docs/howto/testing.md": "test_test_files.py",
    "docs/howto/deployment.md-worker.py": "test_commands.py",
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
async def test_tutorial_two_tabs(example: ModuleType, serve: Serve, tmp_path: Path) -> None:
    address = f"http://{serve(example.app)}"
    async with browser(tmp_path / "profile") as context:
        ann, bob = await context.new_page(), await context.new_page()
        for tab, name in ((ann, "ann"), (bob, "bob")):
            await tab.goto(f"{address}/?name={name}")
            await expect(tab.locator("li").first).to_contain_text("chat: you are in tea (worker ")
        await ann.locator("input").fill("hello <b>")
        await ann.locator("button").click()
        for tab in (ann, bob):
            await expect(tab.locator("li").last).to_contain_text("ann: hello <b> (worker ")
        await expect(ann.locator("input")).to_have_value("")


@shows("docs/howto/deployment.md", "app.py")
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


@shows("docs/howto/deployment.md", "drain.py")
def test_draining(example: ModuleType) -> None:
    rooms = RoomManager()
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


DOOR = {"origin": "https://chat.example.com"}
ANN, BOB = ({**DOOR, "cookie": f"session={session}"} for session in ("s3cret", "pa55"))


@shows("docs/howto/security.md", "app.py")
def test_the_door(example: ModuleType) -> None:
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
            assert ends_with(bob) == (1008, "too many messages")
        with client.websocket_connect("/chat", headers={**BOB}) as bob:
            bob.send_text("x" * 16_385)
            assert ends_with(bob) == (1008, "too many messages")
        assert not example.rooms.sids


def ends_with(session: WebSocketTestSession) -> tuple[int, str]:
    with pytest.raises(WebSocketDisconnect) as end:
        session.receive_text()
    return end.value.code, end.value.reason


@shows("docs/howto/security.md", "app.py")
def test_the_door_for_strangers(example: ModuleType, serve: Serve) -> None:
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


@shows("docs/howto/native-websockets.md", "ticks.py")
def test_a_task_beside_the_loop(example: ModuleType) -> None:
    with TestClient(example.app) as client, client.websocket_connect("/ticks") as ann:
        assert ann.receive_json()["now"] <= ann.receive_json()["now"] <= time.time()


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
