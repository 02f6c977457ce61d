"""A redis-server of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from fastapi_rooms.testing import RedisNotInstalled, RedisServer, eventually
from fastapi_rooms.testing import redis as server_module


def test_without_the_program_it_says_how_to_get_it() -> None:
    with pytest.raises(RedisNotInstalled, match=r"apt-get install redis-server.*brew install"):
        RedisServer(executable="no-such-redis").start()


def test_a_server_that_does_not_start_shows_its_log() -> None:
    server = RedisServer(arguments=["--maxclients", "none"])
    with pytest.raises(RuntimeError, match="did not start"), server:
        pytest.fail("it started")


def test_it_leaves_no_process_and_no_file() -> None:
    with RedisServer() as server:
        process = Path(f"/proc/{server.pid}")
        socket = Path(server.unix_url.removeprefix("unix://"))
        assert process.exists()
        assert socket.exists()
    assert not process.exists()
    assert not socket.parent.exists()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


def test_a_restart_keeps_the_port_and_nothing_else() -> None:
    with RedisServer() as server:
        port, pid = server.port, server.pid
        server.admin.set("key", "value")
        server.restart()
        assert (server.port, server.admin.dbsize()) == (port, 0)
        assert server.pid != pid
        server.stop()
        with pytest.raises(redis.ConnectionError):
            redis.Redis.from_url(f"redis://127.0.0.1:{port}").ping()
        server.start()
        assert server.port == port


def test_a_port_that_another_took_meanwhile_is_exchanged_for_the_next(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = server_module.free_port
    taken = [redis_server.port, find()]
    monkeypatch.setattr(server_module, "free_port", lambda: taken.pop(0) if taken else find())
    with RedisServer() as server:
        assert server.port != redis_server.port
        assert server.admin.info("server")["process_id"] == server.pid


def test_a_frozen_one_answers_nothing_until_it_thaws(own_redis: RedisServer) -> None:
    own_redis.freeze()
    with redis.Redis.from_url(own_redis.url, socket_timeout=0.05) as client:
        with pytest.raises(redis.TimeoutError):
            client.ping()
        own_redis.thaw()
        assert client.ping()


def test_a_frozen_one_can_be_ended() -> None:
    with RedisServer() as server:
        server.freeze()


async def test_it_says_who_is_connected_and_subscribed(own_redis: RedisServer) -> None:
    assert own_redis.connections() == []
    with redis.Redis.from_url(own_redis.url) as client, client.pubsub() as pubsub:
        pubsub.subscribe("news", b"\xff")
        await eventually(lambda: own_redis.numsub("news") == 1)
        assert own_redis.numsub(b"\xff") == 1
        assert sorted(own_redis.channels()) == [b"news", b"\xff"]
        assert len(own_redis.connections("pubsub")) == len(own_redis.connections()) == 1
        assert own_redis.calls("subscribe") == 1
        assert own_redis.calls("publish") == 0
        assert own_redis.kill_connections("normal") == 0
        assert own_redis.kill_connections() == 1
        assert own_redis.numsub("news") == 0
