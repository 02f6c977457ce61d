"""Publishing by a plain redis-py client, synchronous or not, for processes without a manager.

Strategy: what is sent to Redis is decided by one generator, `_commands`, which yields commands and
is sent the replies. Two short loops run it, one that blocks and one that awaits, and do nothing
else.

A sender publishes one message at a time, and signs the next one only when the last one is accepted:
two messages in flight on two connections of a pool could overtake each other, and receivers drop a
message with a lower number as a duplicate. What redis-py sends again has the same number, so that
receivers drop it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, Final, NamedTuple, TypeAlias

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.retry
import redis.sentinel
from redis.asyncio.connection import SSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from fastapi_rooms.adapters.redis.links import role
from fastapi_rooms.adapters.redis.links.canonical import canonical_url
from fastapi_rooms.adapters.redis.links.clients import refusal
from fastapi_rooms.adapters.redis.links.reasons import cause_of, reason_of
from fastapi_rooms.adapters.redis.links.urls import parse_sentinel_url, pool_of
from fastapi_rooms.adapters.redis.sharded.access import access_of
from fastapi_rooms.adapters.schemes import EMITTER_CARRIERS, Carrier, required_scheme
from fastapi_rooms.adapters.urls import Url, text_of
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.wire.drafts import Draft, Origin

SyncClient: TypeAlias = "redis.Redis | redis.RedisCluster"
AsyncClient: TypeAlias = "redis.asyncio.Redis | redis.asyncio.RedisCluster"

_Command: TypeAlias = tuple[bytes | str, ...]

ROLE_INTERVAL: Final = 10.0
"""Seconds until a node is asked again whether it is a master; workers ask as often."""

FAILURES: Final = (RedisError, RedisClusterException, OSError)
"""What redis-py raises for a command that failed."""


class _Flavour(NamedTuple):
    """One half of redis-py: its classes have the same names, and take the same arguments."""

    client: Any
    cluster: Any
    node: Any
    sentinel: Any
    retry: Any
    name: str
    emitter: str


_SYNC = _Flavour(
    redis.Redis,
    redis.RedisCluster,
    redis.cluster.ClusterNode,
    redis.sentinel.Sentinel,
    redis.retry.Retry,
    "redis",
    "Emitter",
)
_ASYNC = _Flavour(
    redis.asyncio.Redis,
    redis.asyncio.RedisCluster,
    redis.asyncio.cluster.ClusterNode,
    redis.asyncio.sentinel.Sentinel,
    redis.asyncio.retry.Retry,
    "redis.asyncio",
    "AsyncEmitter",
)


class Access(NamedTuple):
    """How a client is made, and closed."""

    open: Callable[[], Any]
    """Makes a client; a cluster's synchronous one connects at once."""
    owned: bool
    """Whether the emitter has made it, and closes it."""
    sharded: bool
    """Whether it is a cluster's, whose messages go to the node of their channel."""
    all_of: Callable[[Any], list[Any]] = lambda client: [client]
    """A client, and the clients to close with it."""


def sync_access(where: Url | SyncClient, timeout: float) -> Access:
    """For a `SyncSender`. Raises `ConfigurationError`."""
    return _access(where, _SYNC, timeout)


def async_access(where: Url | AsyncClient, timeout: float) -> Access:
    """For an `AsyncSender`. Raises `ConfigurationError`."""
    return _access(where, _ASYNC, timeout)


def _access(where: object, flavour: _Flavour, timeout: float) -> Access:
    if isinstance(where, flavour.client | flavour.cluster):
        sharded = isinstance(where, flavour.cluster)
        return Access(lambda: where, owned=False, sharded=sharded)
    url = text_of(where)
    if url is None:
        takes = f"a URL, a {flavour.name}.Redis or a {flavour.name}.RedisCluster"
        raise refusal(where, flavour.emitter, takes)
    scheme = required_scheme(url, flavour.emitter, *EMITTER_CARRIERS)
    url = canonical_url(url)
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    # Redis may have closed a connection that was idle: that is no reason for an error.
    retry_once = {
        "retry": flavour.retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        "retry_on_error": [RedisConnectionError],  # redis-py 5 needs both
    }
    if scheme.carrier is Carrier.REDIS_CLUSTER:
        return _cluster(url, flavour, limits)
    pool_of(url)  # raises for a URL that cannot be used
    if scheme.carrier is Carrier.REDIS_SENTINEL:
        return _sentinel(url, flavour, limits, retry_once)
    return Access(
        lambda: flavour.client.from_url(url, **limits, **retry_once), owned=True, sharded=False
    )


def _cluster(url: str, flavour: _Flavour, limits: dict[str, Any]) -> Access:
    seeds, options, connection_class, _ = access_of(url)
    options = {**limits, **options, "ssl": issubclass(connection_class, SSLConnection)}
    del options["retry"]  # a cluster's client has its own way to retry

    def connect() -> Any:
        nodes = [flavour.node(seed.host, seed.port) for seed in seeds]
        return flavour.cluster(startup_nodes=nodes, **options)

    return Access(connect, owned=True, sharded=True)


def _sentinel(
    url: str, flavour: _Flavour, limits: dict[str, Any], retry_once: dict[str, Any]
) -> Access:
    sentinels, master, options, sentinel_options = parse_sentinel_url(url)

    def connect() -> Any:
        manager = flavour.sentinel(
            sentinels, sentinel_kwargs={**limits, **sentinel_options, **retry_once}
        )
        return manager.master_for(master, **{**limits, **options, **retry_once})

    def all_of(client: Any) -> list[Any]:
        return [client, *client.connection_pool.sentinel_manager.sentinels]

    return Access(connect, owned=True, sharded=False, all_of=all_of)


class _Sender:
    """What both senders have: a client, and an origin of their own."""

    def __init__(self, access: Access, timeout: float) -> None:
        self._access = access
        self._timeout = timeout
        self._origin = Origin()
        self._client: Any = None
        self._ask_role_at = 0.0
        """When the node is asked again whether it is a master, by `monotonic`."""

    def _commands(self, draft: Draft) -> Generator[_Command, Any, None]:
        """The commands that publish a draft on a node that is no replica.

        The node may be demoted, or redis-py may silently reconnect to another one; so the node is
        asked from time to time.
        """
        if not self._access.sharded and monotonic() >= self._ask_role_at:
            for command in (("HELLO",), ("ROLE",)):  # without a number HELLO changes nothing
                try:
                    reply = yield command
                except ResponseError:
                    continue
                if problem := role.why_not_master(reply):
                    raise AdapterUnavailable(f"Redis cannot be used: {problem}")
                break
            self._ask_role_at = monotonic() + ROLE_INTERVAL
        verb = "SPUBLISH" if self._access.sharded else "PUBLISH"
        yield verb, draft.channel, self._origin.encode(draft)

    def _failure(self, error: BaseException) -> AdapterUnavailable:
        self._ask_role_at = 0.0  # it may be another node the next time
        why = reason_of(error)
        if isinstance(error, ResponseError):
            return AdapterUnavailable(f"Redis refused to publish: {why}")
        return AdapterUnavailable(f"Redis did not accept it: {why}")

    def _timed_out(self) -> AdapterUnavailable:
        return AdapterUnavailable(f"Redis did not accept it in {self._timeout:g} s.")


class SyncSender(_Sender):
    """Blocks. Threads of one process may share it; after a fork, make another."""

    def __init__(self, access: Access, timeout: float) -> None:
        super().__init__(access, timeout)
        self.owner = os.getpid()
        """The process it belongs to."""
        self._turn = threading.Lock()

    def send(self, draft: Draft) -> None:
        """Publish. Raises `AdapterUnavailable`."""
        if not self._turn.acquire(timeout=self._timeout):
            raise self._timed_out()
        try:
            if self._client is None:
                self._client = self._access.open()
            self._run(self._commands(draft))
        except FAILURES as error:
            raise self._failure(error) from cause_of(error)
        finally:
            self._turn.release()

    def _run(self, commands: Generator[_Command, Any, None]) -> None:
        command = next(commands, None)
        while command is not None:
            try:
                reply = self._client.execute_command(*command, NEVER_DECODE=True)
            except ResponseError as error:
                command = _raise_error(commands, error)
            else:
                command = _send_reply(commands, reply)

    def close(self) -> None:
        """Close the connections, unless the client is the user's."""
        with self._turn:
            client, self._client = self._client, None
            if client is not None and self._access.owned:
                for each in self._access.all_of(client):
                    each.close()


class AsyncSender(_Sender):
    """Awaits. Belongs to one event loop of one process."""

    def __init__(self, access: Access, timeout: float) -> None:
        super().__init__(access, timeout)
        self._turn = asyncio.Lock()

    async def send(self, draft: Draft) -> None:
        """Publish. Raises `AdapterUnavailable`."""
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit, self._turn:
                if self._client is None:
                    self._client = self._access.open()
                await self._run(self._commands(draft))
        except TimeoutError as error:
            if limit.expired():
                raise self._timed_out() from None
            raise self._failure(error) from cause_of(error)
        except FAILURES as error:
            raise self._failure(error) from cause_of(error)

    async def _run(self, commands: Generator[_Command, Any, None]) -> None:
        command = next(commands, None)
        while command is not None:
            try:
                reply = await self._client.execute_command(*command, NEVER_DECODE=True)
            except ResponseError as error:
                command = _raise_error(commands, error)
            else:
                command = _send_reply(commands, reply)

    async def close(self) -> None:
        """Close the connections, unless the client is the user's."""
        async with self._turn:
            client, self._client = self._client, None
            if client is not None and self._access.owned:
                for each in self._access.all_of(client):
                    await each.aclose()


def _send_reply(commands: Generator[_Command, Any, None], reply: Any) -> _Command | None:
    """Continue with a reply: the next command, `None` at the end."""
    try:
        return commands.send(reply)
    except StopIteration:
        return None


def _raise_error(commands: Generator[_Command, Any, None], error: ResponseError) -> _Command | None:
    """Continue with an error reply, which is raised here unless the generator handles it."""
    try:
        return commands.throw(error)
    except StopIteration:
        return None
