"""Sentinels: asked which node is the master, and listened to for when that changes.

Every question opens connections of its own, to all sentinels at once, and closes them: so it binds
to no event loop, and a sentinel that is dead or frozen delays nothing. Sentinels may disagree while
a failover spreads among them; the answer with the highest configuration epoch is the newest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis.asyncio.connection import ConnectionPool
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from fastapi_rooms.adapters.redis.links.link import (
    Link,
    abort,
    connect,
    make_connection,
    pack,
)
from fastapi_rooms.adapters.redis.links.reasons import is_login_refused, reason_of

Address = tuple[str, int]

GRACE = 0.1
"""Seconds that the remaining sentinels have to answer once most have."""
CONNECT_TIMEOUT = 5.0
"""Seconds that connecting to a sentinel to listen to it may take."""


class Answer(NamedTuple):
    """What a sentinel reports of a master."""

    address: Address
    epoch: int
    """Of the failover that made it the master: the higher, the newer."""
    up: bool
    """Whether this sentinel reaches it."""
    peers: int
    """How many other sentinels this one knows of."""


def answer_of(reply: Any) -> Answer:
    """Parse the reply to `SENTINEL MASTER`. Raises `ValueError` if it is malformed."""
    if isinstance(reply, list):
        reply = {n: v for n, v in zip(reply[::2], reply[1::2], strict=False) if type(n) is bytes}
    try:
        host, port = reply[b"ip"].decode(), int(reply[b"port"])
        epoch, peers = int(reply[b"config-epoch"]), int(reply[b"num-other-sentinels"])
        flags = reply[b"flags"].split(b",")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("its answer is not that of a sentinel") from None
    if not host or not 0 < port < 65536:
        raise ValueError(f"it names no address: {host!r}, port {port}")
    up = b"master" in flags and not {b"s_down", b"o_down"} & set(flags)
    return Answer((host, port), epoch, up, peers)


def newest(answers: Sequence[Answer]) -> Address | None:
    """The master by the newest answers, if a sentinel that gives one of them reaches it."""
    epoch = max((answer.epoch for answer in answers), default=0)
    return next((a.address for a in answers if a.epoch == epoch and a.up), None)


class Sentinels:
    """The sentinels of a pool that redis-py's `Sentinel.master_for` has made."""

    def __init__(self, pool: SentinelConnectionPool) -> None:
        manager = pool.sentinel_manager
        self.name: str = pool.service_name
        self.pools: list[ConnectionPool] = [c.connection_pool for c in manager.sentinels]
        self._min_peers: int = manager.min_other_sentinels
        self._forced_host: str | None = getattr(manager, "_force_master_ip", None)

    async def master(self, timeout: float) -> Address:
        """The master's address. Waits `timeout` seconds at most for sentinels that do not answer.

        Raises:
            redis.AuthenticationError, redis.AuthorizationError: every sentinel rejects the login.
            redis.ConnectionError: none knows a master that is up.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        asked = [asyncio.create_task(self._ask(pool, timeout)) for pool in self.pools]
        pending = set(asked)
        address = None
        try:
            while pending and (left := deadline - asyncio.get_running_loop().time()) > 0:
                answers = [task.result() for task in asked if _succeeded(task)]
                address = newest(answers)
                enough = address is not None and len(answers) > len(asked) // 2
                done, pending = await asyncio.wait(
                    pending,
                    timeout=min(GRACE, left) if enough else left,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if enough and not done:
                    break
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        address = newest([task.result() for task in asked if _succeeded(task)])
        if address is None:
            raise self._failure(asked)
        return self._forced_host or address[0], address[1]

    async def _ask(self, pool: ConnectionPool, timeout: float) -> Answer:
        connection = make_connection(pool)
        try:
            async with asyncio.timeout(timeout):
                await connect(connection)
                await connection.send_command("SENTINEL", "MASTER", self.name)
                reply = await connection.read_response(disable_decoding=True)
            answer = answer_of(reply)
        finally:
            await abort(connection)
        if answer.peers < self._min_peers:
            raise ValueError(
                f"it sees {answer.peers} other sentinels, {self._min_peers} are wanted"
            )
        return answer

    def _failure(self, asked: Sequence[asyncio.Task[Answer]]) -> Exception:
        reports = []
        errors = []
        for pool, task in zip(self.pools, asked, strict=True):
            kwargs = pool.connection_kwargs
            name = f"{kwargs.get('host')}:{kwargs.get('port')}"
            if task.cancelled():
                reports.append(f"{name}: no answer")
            elif (error := task.exception()) is not None:
                errors.append(error)
                reports.append(f"{name}: {reason_of(error)}")
            else:
                reports.append(f"{name}: it is down")
        refused = len(errors) == len(asked) and all(is_login_refused(e) for e in errors)
        kind = AuthenticationError if refused else RedisConnectionError
        return kind(f"no sentinel knows a master {self.name!r} that is up ({'; '.join(reports)})")


def _succeeded(task: asyncio.Task[Answer]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


class SentinelWatch:
    """Listens to one sentinel; `switched` is called when the master may have changed."""

    def __init__(
        self, pool: ConnectionPool, name: str, switched: Callable[[], None], ping_interval: float
    ) -> None:
        self._pool = pool
        self._name = name.encode()
        self._switched = switched
        self._ping_interval = ping_interval
        self._ping: asyncio.TimerHandle | None = None
        self._is_pong_due = False

    async def open(self) -> Link:
        """A link whose messages arrive here."""
        return await Link.open(self._pool, self.reply, CONNECT_TIMEOUT)

    def link_up(self, link: Link) -> None:
        """Subscribe to switches, and start to ping."""
        link.write(pack(b"SUBSCRIBE", b"+switch-master"))
        self._is_pong_due = False
        self._check(link)
        link.lost.add_done_callback(self._stop_pings)

    def open_failed(self, error: Exception) -> None:
        """Nothing to do: the other sentinels are still listened to."""

    def link_down(self, reason: str) -> None:
        """Nothing to do: the other sentinels are still listened to."""

    def _stop_pings(self, _: object) -> None:
        """The link is lost, or was closed with the adapter, which does not call `link_down`."""
        if self._ping is not None:
            self._ping.cancel()

    def reply(self, reply: Any) -> None:
        """A switch; or a confirmation, before which a switch may have been missed."""
        self._is_pong_due = False
        with suppress(TypeError, ValueError, AttributeError, IndexError):
            kind, _, data = reply
            if kind == b"subscribe" or (kind == b"message" and data.split()[0] == self._name):
                self._switched()

    def _check(self, link: Link) -> None:
        """Ping now and then, and abort a link that has not answered by the next time."""
        if self._is_pong_due:
            link.abort(f"nothing came for {self._ping_interval} s")
            return
        self._is_pong_due = True
        link.write(pack(b"PING"))
        self._ping = asyncio.get_running_loop().call_later(self._ping_interval, self._check, link)
