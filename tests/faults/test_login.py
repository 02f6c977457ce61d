"""Redis is there, and does not let us in."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Iterator

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    AsyncEmitter,
    Emitter,
    RoomManager,
)
from fastapi_rooms.testing import Member, RedisServer, eventually
from tests.faults.support import ready


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"])
async def test_a_wrong_password_is_told_at_the_start(
    locked_redis_server: RedisServer, login: str, protocol: int
) -> None:
    server = locked_redis_server
    rooms = RoomManager(f"redis://{login}{server.host}:{server.port}?protocol={protocol}")
    tasks = len(asyncio.all_tasks())
    with pytest.raises(AdapterUnavailable, match="Redis rejects the login"):
        async with rooms:
            pytest.fail("it started")
    assert not rooms.health.ready
    await eventually(lambda: len(asyncio.all_tasks()) == tasks)
    await eventually(lambda: not server.connections())


@pytest.mark.parametrize(
    ("login", "told"),
    [
        ("", r"wants a password.*\(NOAUTH\).*redis://:password@"),
        (":wrong@", r"\(WRONGPASS\).*percent-encoded: redis://user:password@"),
    ],
)
async def test_the_cure_of_a_login_is_told_by_manager_log_and_emitters(
    locked_redis_server: RedisServer, login: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"redis://{login}{locked_redis_server.host}:{locked_redis_server.port}"
    with pytest.raises(AdapterUnavailable, match=told):
        async with RoomManager(url):
            pytest.fail("it started")
    assert re.search(told, caplog.text)
    with Emitter(url) as emitter, pytest.raises(AdapterUnavailable, match=told):
        emitter.send_text("hello")
    async with AsyncEmitter(url) as emitter2:
        with pytest.raises(AdapterUnavailable, match=told):
            await emitter2.send_text("hello")


@pytest.fixture(scope="module")
def no_hello() -> Iterator[RedisServer]:
    """Redis as a proxy may let it be seen: without the command that asks for RESP3."""
    with RedisServer(password="sesame", arguments=["--rename-command", "HELLO", ""]) as server:
        yield server


async def test_a_redis_without_hello_is_spoken_to_by_what_it_knows(no_hello: RedisServer) -> None:
    near, far = RoomManager(no_hello.url), RoomManager(no_hello.url)
    async with near, far, Member(near, "lobby") as here:
        await far.to("lobby").send_text("from far")
        with Emitter(no_hello.url) as emitter:
            emitter.to("lobby").send_text("emitted")
        async with AsyncEmitter(no_hello.url) as emitter2:
            await emitter2.to("lobby").send_text("and awaited")
        received = [await here.receive() for _ in range(3)]
        assert received == ["from far", "emitted", "and awaited"]


async def test_where_hello_is_wanted_its_lack_is_told_without_the_password_it_carries(
    no_hello: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{no_hello.url}?protocol=3"
    async with RoomManager(url) as rooms:
        reason = rooms.health.reason
    assert "RESP2" in reason
    assert "protocol=2" in reason
    with Emitter(url) as emitter, pytest.raises(AdapterUnavailable, match="RESP2") as raised:
        emitter.send_text("hello")
    assert "RESP2" in caplog.text
    shown = "".join(traceback.format_exception(raised.value))
    assert "sesame" not in reason + caplog.text + shown


async def test_a_password_withdrawn_and_given_again_is_survived(own_redis: RedisServer) -> None:
    near, far = RoomManager(own_redis.url), RoomManager(own_redis.url)
    async with near, far, Member(near, "lobby") as here:
        own_redis.admin.config_set("requirepass", "secret")
        own_redis.kill_connections()
        await eventually(lambda: not near.health.ready and not far.health.ready)
        own_redis.admin.config_set("requirepass", "")
        await ready(near, far)
        await far.to("lobby").send_text("hello again")
        assert await here.receive() == "hello again"
