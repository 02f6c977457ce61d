"""Server-sent events, by FastAPI's own response and by Starlette's."""

from __future__ import annotations

import http.client
from types import ModuleType

from starlette.testclient import TestClient

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import RedisServer
from tests.docs.conftest import Serve
from tests.docs.registry import shows
from tests.docs.sessions import post
from tests.integration.servers import wait_until


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


@shows("docs/howto/sse.md", "watcher.py")
def test_a_listener_in_the_background(example: ModuleType, redis_server: RedisServer) -> None:
    with TestClient(example.app) as client:
        wait_until(lambda: redis_server.numsub("rooms#/#coffee#") == 1)
        client.post("/say/coffee?text=ready")
        wait_until(lambda: example.kettles == ["coffee: ready"])
    wait_until(lambda: redis_server.numsub("rooms#/#coffee#") == 0)
