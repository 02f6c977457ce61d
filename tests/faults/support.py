"""What the tests of faults share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import redis

from fastapi_rooms import AdapterUnavailable, RedisAdapter, RoomManager
from fastapi_rooms.testing import Proxy, ProxyConnection, RedisServer, eventually
from fastapi_rooms.testing.waiting import TIMEOUT

HANGS = 60.0
"""Seconds after which something hangs, however busy the machine is. No speed is measured by it."""

NEVER = 3600.0
"""Seconds that a setting is given whose end a test does not wait for."""

QUICK: dict[str, Any] = {"publish_timeout": 0.2, "connect_timeout": 0.5, "probe_interval": 0.1}
"""Settings under which what is lost is given up soon."""


def manager(server: RedisServer, wire: Proxy | None = None, **options: Any) -> RoomManager:
    """A worker's manager, over the wire or straight to Redis. `options` are the adapter's."""
    url = server.url if wire is None else server.url_of(wire.host, wire.port)
    adapter = RedisAdapter(url, **options)
    return RoomManager(adapter, linger=0.05, max_rooms_per_socket=10_000)


def behind(wire: Proxy, server: RedisServer, kind: str) -> ProxyConnection:
    """The one connection on the wire that is a `pubsub` or a `normal` one to Redis."""
    addresses = {client["addr"] for client in server.connections(kind)}
    (connection,) = [c for c in wire.connections if "{}:{}".format(*c.server_side) in addresses]
    return connection


async def ready(*managers: RoomManager, after: int = 0) -> None:
    """Wait until all are, after so many reconnections at least."""

    def all_are() -> bool:
        return all(m.health.ready and m.health.reconnects >= after for m in managers)

    await eventually(all_are, what="all are ready")


class Said(NamedTuple):
    """What became of one message. Times are seconds since the epoch."""

    begun: float
    answered: float
    accepted: bool


class Talk:
    """Somebody who says numbers in a room without a pause, and notes which were accepted.

    `name` is said before each number, to tell it from the numbers of others.
    """

    def __init__(self, rooms: RoomManager, room: str, name: str = "") -> None:
        self._operator = rooms.to(room)
        self._name = name
        self.answers: dict[str, Said] = {}
        self.accepted: list[str] = []
        self.refused: list[str] = []
        self.said = 0
        self.is_over = False

    async def goes_on(self) -> None:
        """Wait until fifty more have been accepted."""
        enough = len(self.accepted) + 50
        await eventually(lambda: len(self.accepted) >= enough)

    async def run(self) -> None:
        """Talk until told to stop; what was said has been answered by then."""
        while not self.is_over:
            numbers = [f"{self._name}{self.said + n}" for n in range(10)]
            self.said += 10
            begun = time.time()
            results = await asyncio.gather(
                *(self._operator.send_text(number) for number in numbers), return_exceptions=True
            )
            for number, result in zip(numbers, results, strict=True):
                if result is None:
                    self.accepted.append(number)
                elif isinstance(result, AdapterUnavailable):
                    self.refused.append(number)
                else:
                    raise result
                self.answers[number] = Said(begun, time.time(), result is None)
            await asyncio.sleep(0.001)


@asynccontextmanager
async def talking(rooms: RoomManager, room: str, name: str = "") -> AsyncIterator[Talk]:
    """Talk in the background; at the end, stop after what was said has been answered."""
    talk = Talk(rooms, room, name)
    task = asyncio.create_task(talk.run())
    try:
        await talk.goes_on()
        yield talk
        talk.is_over = True
        async with asyncio.timeout(TIMEOUT):
            await task
    finally:
        if not task.cancel():
            task.result()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def busy(server: RedisServer) -> AsyncIterator[None]:
    """Have Redis run a script without an end, and refuse everything else with BUSY."""
    server.admin.config_set("lua-time-limit", 20)
    with redis.Redis(port=server.port, socket_timeout=60) as client:
        script = asyncio.create_task(asyncio.to_thread(client.eval, "while true do end", 0))
        await eventually(lambda: _is_busy(server), what="Redis is busy")
        yield
        server.admin.script_kill()
        with pytest.raises(redis.ResponseError, match="killed by user"):
            await script


def _is_busy(server: RedisServer) -> bool:
    try:
        server.admin.echo("are you busy?")
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False
