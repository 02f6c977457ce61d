"""Where links come from: one address, or the master that sentinels report.

Both open links to masters only. The sentinels are also listened to: when they report another
master, links to the old one are aborted, though it may go on to answer for seconds.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from fastapi_rooms.adapters.redis.links.link import Link, connect
from fastapi_rooms.adapters.redis.links.role import ensure_master
from fastapi_rooms.adapters.redis.links.sentinels import Address, Sentinels, SentinelWatch
from fastapi_rooms.adapters.supervisor import supervise

FOLLOW_RETRY_DELAY = 1.0
"""Seconds until sentinels are asked again which node is the master, if none knew."""

RESOLVE_TIMEOUT = 1.0
"""Seconds that resolving a name may take, to compare it with the address of a link."""


class Source(Protocol):
    """Opens links."""

    async def open(self, on_reply: Callable[[Any], None], timeout: float) -> Link:
        """A link to a master. Raises `redis.RedisError`, `OSError` or `TimeoutError`."""

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run in parallel with the links, until it is cancelled."""


def source_of(pool: ConnectionPool, *, ping_interval: float) -> Source:
    """The source for a pool. Make it in the event loop in which it is used."""
    if isinstance(pool, SentinelConnectionPool):
        return SentinelSource(pool, ping_interval)
    return NodeSource(pool)


class NodeSource:
    """The node at the pool's address, whose name is resolved again for every link."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def open(self, on_reply: Callable[[Any], None], timeout: float) -> Link:
        """A link to it, if it is a master."""
        return await Link.open(self._pool, on_reply, timeout, self._connect)

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """None."""
        return []

    @staticmethod
    async def _connect(connection: AbstractConnection) -> None:
        await connect(connection)
        await ensure_master(connection)


class SentinelSource:
    """The master that sentinels report: asked for with every link, and followed when it changes."""

    def __init__(self, pool: SentinelConnectionPool, ping_interval: float) -> None:
        self._pool = pool
        self._ping_interval = ping_interval
        self._sentinels = Sentinels(pool)
        self._switched = asyncio.Event()
        self._links: dict[Link, Address] = {}
        self._attempts: dict[asyncio.Timeout, Address] = {}

    async def open(self, on_reply: Callable[[Any], None], timeout: float) -> Link:
        """A link to the present master."""
        found: list[Address] = []
        connect = partial(self._connect, timeout=timeout, found=found)
        link = await Link.open(self._pool, on_reply, timeout, connect)
        self._links[link] = found[0]
        link.lost.add_done_callback(lambda _: self._links.pop(link, None))
        return link

    async def _connect(
        self, connection: AbstractConnection, *, timeout: float, found: list[Address]
    ) -> None:
        address = await self._sentinels.master(timeout / 2)
        found.append(address)
        attempt = asyncio.timeout(None)
        self._attempts[attempt] = address
        try:
            async with attempt:
                # Not `connect`: that would ask the sentinels by clients that keep connections,
                # which belong to the event loop that first used them.
                await connection.connect_to(address)  # type: ignore[attr-defined]
                await ensure_master(connection)
        except TimeoutError:
            if not attempt.expired():
                raise
            raise RedisConnectionError(self._moved(address)) from None
        finally:
            self._attempts.pop(attempt, None)

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Listen to every sentinel, and follow the master."""
        watches = [
            SentinelWatch(pool, self._sentinels.name, self._switched.set, self._ping_interval)
            for pool in self._sentinels.pools
        ]
        return [*(supervise(watch) for watch in watches), self._follow()]

    async def _follow(self) -> None:
        """Abort links to other nodes, and attempts, which a frozen node would delay for long."""
        loop = asyncio.get_running_loop()
        while True:
            await self._switched.wait()
            self._switched.clear()
            try:
                master = await self._sentinels.master(self._ping_interval)
            except (RedisError, OSError):  # no sentinel knows: keep the present links for now
                await asyncio.sleep(FOLLOW_RETRY_DELAY)
                self._switched.set()
                continue
            for attempt, address in list(self._attempts.items()):
                if address != master:
                    del self._attempts[attempt]
                    attempt.reschedule(loop.time())
            for link, address in list(self._links.items()):
                if address == master:
                    continue
                if not await _leads_to(link, master):  # sentinels may spell it differently
                    link.abort(self._moved(address))

    def _moved(self, address: Address) -> str:
        return f"{address[0]}:{address[1]} is no longer the master of {self._sentinels.name!r}"


async def _leads_to(link: Link, address: Address) -> bool:
    """Whether a link leads to an address, under whatever name."""
    host, port = address
    peer = link.peer[:2] if isinstance(link.peer, tuple) else ()
    if peer[1:] != (port,):
        return False
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError):  # a TimeoutError is an OSError
        return False
    return peer in {sockaddr[:2] for *_, sockaddr in found}
