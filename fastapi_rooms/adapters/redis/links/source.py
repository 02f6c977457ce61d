"""Where links come from: one address, or the master that sentinels tell of.

Both give a link only to a node that is a master. What sentinels report is followed besides: a link
to a master that is one no more is given up, though it may answer for seconds as if it still were.
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

RESOLVE_TIMEOUT = 1.0
"""Seconds that a name may take to be resolved, to see whether it is where a link leads already."""


class Source(Protocol):
    """Opens links."""

    async def open(self, on_reply: Callable[[Any], None], timeout: float) -> Link:
        """A link to a master. Raises `redis.RedisError`, `OSError` or `TimeoutError`."""

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the links, until it is cancelled."""


def source_of(pool: ConnectionPool, *, ping_interval: float) -> Source:
    """The source for a pool, to be made in the event loop in which it is used."""
    if isinstance(pool, SentinelConnectionPool):
        return SentinelSource(pool, ping_interval)
    return NodeSource(pool)


class NodeSource:
    """The node at the pool's address, whose name is resolved anew for every link."""

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
    """The master of which sentinels tell, asked anew for every link, and followed when it moves."""

    def __init__(self, pool: SentinelConnectionPool, ping_interval: float) -> None:
        self._pool = pool
        self._ping_interval = ping_interval
        self._sentinels = Sentinels(pool)
        self._news = asyncio.Event()
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
                # What the pool's connections are for; their `connect` would ask the sentinels by
                # clients that keep connections, which belong to the loop that first used them.
                await connection.connect_to(address)  # type: ignore[attr-defined]
                await ensure_master(connection)
        except TimeoutError:
            if not attempt.expired():
                raise
            raise RedisConnectionError(self._moved(address)) from None
        finally:
            self._attempts.pop(attempt, None)

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Listen to every sentinel, and go where they say."""
        watches = [
            SentinelWatch(pool, self._sentinels.name, self._news.set, self._ping_interval)
            for pool in self._sentinels.pools
        ]
        return [*(supervise(watch) for watch in watches), self._follow()]

    async def _follow(self) -> None:
        """Give up what leads elsewhere, attempts included: a frozen node holds those for long."""
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                master = await self._sentinels.master(self._ping_interval)
            except (RedisError, OSError):
                continue  # nobody knows better: what is connected stays so
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
    """Whether that is where a link leads, by whatever name."""
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
