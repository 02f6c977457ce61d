"""The name of Redis leads somewhere else, and the connections do not all move there at once."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastapi_rooms import Gap, RedisAdapter, RoomManager
from fastapi_rooms.testing import Member, RedisServer, eventually
from tests.faults.support import ready, talking

NAME = "redis.rooms.test"


class Names:
    """A name server that knows one name, for as long as it answers with this address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: Any, *rest: Any, **more: Any) -> Any:
        return self._real(self.address if host == NAME else host, *rest, **more)


@pytest.fixture
def names(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Names:
    """The name leads to the Redis of the test, until told otherwise."""
    names = Names(own_redis.host)
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names


@pytest.fixture
async def new_redis(own_redis: RedisServer) -> AsyncIterator[RedisServer]:
    """Another Redis, on the same port of another address."""
    server = RedisServer()
    server.host, server.port = "127.0.0.2", own_redis.port
    async with server:
        yield server


def by_name(server: RedisServer) -> RoomManager:
    return RoomManager(RedisAdapter(f"redis://{NAME}:{server.port}", probe_interval=0.2))


async def test_workers_whose_publishers_have_moved_follow_them_with_their_subscribers(
    own_redis: RedisServer, new_redis: RedisServer, names: Names
) -> None:
    near, far = by_name(own_redis), by_name(own_redis)
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        await near.to("lobby").send_text("by the old one")
        assert await here.receive() == await there.receive() == "by the old one"
        names.address = new_redis.host
        own_redis.kill_connections("normal")
        await eventually(lambda: len(new_redis.connections("pubsub")) == 2)
        await ready(near, far, after=1)
        await near.to("lobby").send_text("by the new one")
        assert await here.receive() == await there.receive() == "by the new one"
        assert own_redis.connections() == []


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
async def test_a_worker_that_is_split_between_two_notices_though_it_hears_others(
    own_redis: RedisServer, new_redis: RedisServer, names: Names, kind: str
) -> None:
    moving, staying = by_name(own_redis), RoomManager(own_redis.url)
    moved = RoomManager(new_redis.url)
    gaps: list[Gap] = []
    moving.on("gap")(gaps.append)
    async with moving, staying, moved, Member(moving, "lobby") as here:
        async with talking(staying, "lobby"), talking(moved, "lobby"):
            names.address = new_redis.host
            own_redis.kill_connections(kind)
            await eventually(lambda: len(new_redis.connections()) == 4)
            await ready(moving, after=1)
        async with Member(moved, "lobby") as there:
            await moving.to("lobby").send_text("hello again")
            await there.receive_until("hello again")
            await here.receive_until("hello again")
        assert len(gaps) == moving.health.reconnects
