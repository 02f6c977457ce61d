"""Server-sent events, by FastAPI's own response and by Starlette's."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from fastapi_rooms import Emitter, RoomManager
from fastapi_rooms.testing import RedisServer
from tests.docs.conftest import Serve
from tests.docs.registry import shows
from tests.docs.sessions import post
from tests.integration.servers import wait_until
from tests.integration.uvicorn_thread import uvicorn_thread

PAGE = "docs/recipes/server-sent-events.md"
CHANNEL = "rooms#/#tea#"


@contextmanager
def answer(address: str, path: str) -> Iterator[http.client.HTTPResponse]:
    """What comes of a GET; at the end of the block the client goes."""
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    yield response
    response.close()
    connection.close()


@contextmanager
def stream(address: str) -> Iterator[http.client.HTTPResponse]:
    with answer(address, "/events/tea") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield response


def event(response: http.client.HTTPResponse) -> list[bytes]:
    """The lines of the next event."""
    lines = [response.readline()]
    while lines[-1] != b"\n":
        lines.append(response.readline())
    return lines[:-1]


@shows(PAGE, "app.py")
def test_server_sent_events(example: ModuleType, serve: Serve, redis_server: RedisServer) -> None:
    address = serve(example.app)
    with stream(address) as response:
        assert event(response) == [b": listening\n"]
        post(address, "/events/tea", {"kettle": "on"})
        assert event(response) == [b'data: {"kettle":"on"}\n']
        assert redis_server.numsub(CHANNEL) == 1
    wait_until(lambda: redis_server.numsub(CHANNEL) == 0)  # with the client goes the listener


@shows(PAGE, "app.py")
def test_a_client_that_reads_nothing_and_goes_takes_its_listener_with_it(
    example: ModuleType, serve: Serve, redis_server: RedisServer
) -> None:
    address = serve(example.app)
    with stream(address) as response:
        assert event(response) == [b": listening\n"]
        for _ in range(40):  # more than the server keeps for it, so that the stream has to wait
            post(address, "/events/tea", "x" * 256 * 1024)
    wait_until(lambda: redis_server.numsub(CHANNEL) == 0)


def slow_client(address: str, redis: RedisServer) -> bytes:
    """What a client is sent that reads nothing until more than a MiB waits for it."""
    with stream(address) as response, Emitter(redis.url) as emitter:
        assert event(response) == [b": listening\n"]
        for _ in range(40):
            emitter.to("tea").send_text("x" * 256 * 1024)
        wait_until(lambda: redis.numsub(CHANNEL) == 0)
        return response.read()  # raises if the response does not end as it should


@shows(PAGE, "app.py")
def test_a_slow_client_gets_what_waited_and_is_no_error(
    example: ModuleType,
    serve: Serve,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert slow_client(serve(example.app), redis_server).count(b"data: ") >= 3
    assert caplog.records == []
    assert "Traceback" not in capsys.readouterr().err


@shows(PAGE, "app.py")
def test_a_quiet_response_is_kept_open(
    example: ModuleType, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.01)
    with stream(serve(example.app)) as response:
        events = [event(response) for _ in range(10)]
    assert sorted(events) == [[b": listening\n"], *[[b": ping\n"]] * 9]


@shows(PAGE, "app.py")
def test_a_stream_ends_when_the_server_stops(example: ModuleType) -> None:
    with (
        uvicorn_thread(example.app, lifespan="on", log_level="warning") as port,
        stream(f"127.0.0.1:{port}") as response,
    ):
        assert event(response) == [b": listening\n"]
        port.stop()
        assert response.read() == b""
        wait_until(port.stopped)


@contextmanager
def answer_without_redis(example: ModuleType, serve: Serve) -> Iterator[http.client.HTTPResponse]:
    with RedisServer() as redis:
        rooms = RoomManager(redis.url, join_timeout=0.3)
        example.app.dependency_overrides[example.rooms] = lambda: rooms
        example.app.router.lifespan_context = rooms.lifespan
        address = serve(example.app)
        redis.kill()
        wait_until(lambda: not rooms.health.ready)
        with answer(address, "/events/tea") as response:
            yield response


@shows(PAGE, "app.py")
def test_server_sent_events_without_redis(example: ModuleType, serve: Serve) -> None:
    with answer_without_redis(example, serve) as response:
        assert response.status == 503


@shows(PAGE, "by_hand.py")
def test_events_by_hand_without_redis(example: ModuleType, serve: Serve) -> None:
    with answer_without_redis(example, serve) as response:
        assert response.read() == b"event: unavailable\ndata:\n\n"


@shows(PAGE, "by_hand.py")
def test_events_by_hand(example: ModuleType, serve: Serve, redis_server: RedisServer) -> None:
    address = serve(example.app)
    with stream(address) as response, Emitter(redis_server.url) as emitter:
        assert event(response) == [b": listening\n"]
        emitter.to("tea").send_json({"kettle": "on"})
        assert event(response) == [b'data: {"kettle":"on"}\n']
    wait_until(lambda: redis_server.numsub(CHANNEL) == 0)


@shows(PAGE, "by_hand.py")
def test_a_slow_client_of_events_by_hand_gets_what_waited_and_is_no_error(
    example: ModuleType,
    serve: Serve,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert slow_client(serve(example.app), redis_server).count(b"data: ") >= 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Traceback" not in capsys.readouterr().err


@shows(PAGE, "by_hand.py")
async def test_a_quiet_stream_is_kept_open(example: ModuleType) -> None:
    async with RoomManager() as rooms:
        stream = example.stream(rooms, "tea", silence=0.01)
        assert await anext(stream) == ": listening\n\n"
        assert await anext(stream) == ": still here\n\n"
        await rooms.to("tea").send_text("hello")
        lines = [await anext(stream)]
        while lines[-1] == ": still here\n\n":
            lines.append(await anext(stream))
        assert lines[-1] == "data: hello\n\n"
    assert [line async for line in stream if line != ": still here\n\n"] == []  # and ends


@shows(PAGE, "watcher.py")
def test_a_listener_in_the_background(example: ModuleType, redis_server: RedisServer) -> None:
    with TestClient(example.app) as client:
        wait_until(lambda: redis_server.numsub("rooms#/#coffee#") == 1)
        client.post("/say/coffee?text=ready")
        wait_until(lambda: example.kettles == ["coffee: ready"])
    wait_until(lambda: redis_server.numsub("rooms#/#coffee#") == 0)
