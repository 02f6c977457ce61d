"""Publishing by a plain redis-py client, synchronous or not, for processes without a manager.

Strategy: what is sent to Redis is decided by one generator, `_commands`, which yields commands and
is sent the replies. Two short loops run it, one that blocks and one that awaits, and do nothing
else.

A sender publishes one message at a time, and signs the next one only when the last one is accepted:
two messages in flight on two connections of a pool could overtake each other, and receivers drop a
message with a lower number as a duplicate. What redis-py sends again has the same number, so that
receivers drop it.

What goes to a room that remembers is appended by the commands of `history.emitted`, in its turn.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
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
from redis.exceptions import (
    ClusterDownError,
    ClusterError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from fastapi_rooms.adapters.redis.history.emitted import Command, EmittedHistory
from fastapi_rooms.adapters.redis.links import role
from fastapi_rooms.adapters.redis.links.canonical import canonical_url
from fastapi_rooms.adapters.redis.links.clients import refusal
from fastapi_rooms.adapters.redis.links.reasons import cause_of, reason_of
from fastapi_rooms.adapters.redis.links.urls import parse_sentinel_url, pool_of
from fastapi_rooms.adapters.redis.sharded.access import access_of
from fastapi_rooms.adapters.schemes import EMITTER_CARRIERS, Carrier, required_scheme
from fastapi_rooms.adapters.urls import Url, text_of
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.drafts import Draft, Origin
from fastapi_rooms.wire.envelope import Broadcast

SyncClient: TypeAlias = "redis.Redis | redis.RedisCluster"
AsyncClient: TypeAlias = "redis.asyncio.Redis | redis.asyncio.RedisCluster"

ROLE_INTERVAL: Final = 10.0
"""Seconds until a node is asked again whether it is a master; workers ask as often."""

MOVING_DELAY: Final = 0.05
"""Seconds until a cluster is asked again whose slot is on its way from one node to another."""

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


class _Attempt:
    """To send one draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.uncertain = False
        """Whether it may be in a history already, although nothing has said so."""


class _Sender:
    """What both senders have: a client, and an origin of their own."""

    def __init__(self, access: Access, prefix: str, timeout: float) -> None:
        self._access = access
        self._timeout = timeout
        self._origin = Origin()
        self._history = EmittedHistory(prefix, timeout, sharded=access.sharded)
        self._client: Any = None
        self._ask_role_at = 0.0
        """When the node is asked again whether it is a master, by `monotonic`."""

    def _commands(self, attempt: _Attempt) -> Generator[Command, Any, None]:
        """The commands that send a draft, to a node that is no replica.

        The node may be demoted, or redis-py may silently reconnect to another one; so the node is
        asked from time to time.
        """
        draft, sharded = attempt.draft, self._access.sharded
        if not sharded and monotonic() >= self._ask_role_at:
            for command in (("HELLO",), ("ROLE",)):  # without a number HELLO changes nothing
                try:
                    reply = yield command
                except ResponseError:
                    continue
                if problem := role.why_not_master(reply):
                    raise AdapterUnavailable(f"Redis cannot be used: {problem}")
                break
            self._ask_role_at = monotonic() + ROLE_INTERVAL
        if isinstance(draft.message, Broadcast):
            retention = yield from self._history.retention(draft.message)
            if retention is not None:
                yield from self._history.ensure_rights()
                message = self._origin.number(draft)
                assert isinstance(message, Broadcast)
                attempt.uncertain = True
                yield from self._history.append(draft.channel, message, retention)
                return
        verb = "SPUBLISH" if sharded else "PUBLISH"
        yield verb, draft.channel, codec.encode(self._origin.number(draft))

    def _failure(self, error: BaseException, attempt: _Attempt) -> AdapterUnavailable:
        why = reason_of(error)
        # Of these, what was sent before them may have been carried out, at a node that went away.
        is_late = isinstance(error, ClusterDownError | ReadOnlyError)
        if isinstance(error, ResponseError) and not is_late:
            return AdapterUnavailable(f"Redis refused to publish: {why}")
        return AdapterUnavailable(f"Redis did not accept it: {why}", uncertain=attempt.uncertain)

    def _failed(self) -> None:
        """It may be another node the next time, or other rights."""
        self._ask_role_at = 0.0
        self._history.doubt()

    def _timed_out(self, *, uncertain: bool) -> AdapterUnavailable:
        late = f"Redis did not accept it in {self._timeout:g} s."
        return AdapterUnavailable(late, uncertain=uncertain)


class SyncSender(_Sender):
    """Blocks. Threads of one process may share it; after a fork, make another."""

    def __init__(self, access: Access, prefix: str, timeout: float) -> None:
        super().__init__(access, prefix, timeout)
        self.owner = os.getpid()
        """The process it belongs to."""
        self._turn = threading.Lock()

    def send(self, draft: Draft) -> None:
        """Send. Raises `AdapterUnavailable`, or `UsageError` for what a history cannot take."""
        if not self._turn.acquire(timeout=self._timeout):
            raise self._timed_out(uncertain=False)
        attempt = _Attempt(draft)
        try:
            if self._client is None:
                self._client = self._access.open()
            self._run(self._commands(attempt))
        except FAILURES as error:
            self._failed()
            raise self._failure(error, attempt) from cause_of(error)
        except AdapterUnavailable:
            self._failed()
            raise
        finally:
            self._turn.release()

    def _run(self, commands: Generator[Command, Any, None]) -> None:
        command = next(commands, None)
        while command is not None:
            try:
                reply = self._execute(command)
            except FAILURES as error:
                command = _raise_error(commands, error)
            else:
                command = _send_reply(commands, reply)

    def _execute(self, command: Command) -> Any:
        end = monotonic() + self._timeout
        while True:
            try:
                return self._client.execute_command(*command, NEVER_DECODE=True)
            except ClusterError as error:
                if not _is_moving(error) or monotonic() >= end:
                    raise
            time.sleep(MOVING_DELAY)

    def close(self) -> None:
        """Close the connections, unless the client is the user's."""
        with self._turn:
            client, self._client = self._client, None
            if client is not None and self._access.owned:
                for each in self._access.all_of(client):
                    each.close()


class AsyncSender(_Sender):
    """Awaits. Belongs to one event loop of one process."""

    def __init__(self, access: Access, prefix: str, timeout: float) -> None:
        super().__init__(access, prefix, timeout)
        self._turn = asyncio.Lock()

    async def send(self, draft: Draft) -> None:
        """Send. Raises `AdapterUnavailable`, or `UsageError` for what a history cannot take."""
        limit, attempt = asyncio.timeout(self._timeout), _Attempt(draft)
        try:
            async with limit, self._turn:
                if self._client is None:
                    self._client = self._access.open()
                await self._run(self._commands(attempt))
        except FAILURES as error:  # the limit's `TimeoutError` is one, too
            if isinstance(error, TimeoutError) and limit.expired():
                raise self._timed_out(uncertain=attempt.uncertain) from None
            self._failed()
            raise self._failure(error, attempt) from cause_of(error)
        except AdapterUnavailable:
            self._failed()
            raise

    async def _run(self, commands: Generator[Command, Any, None]) -> None:
        command = next(commands, None)
        while command is not None:
            try:
                reply = await self._execute(command)
            except FAILURES as error:
                command = _raise_error(commands, error)
            else:
                command = _send_reply(commands, reply)

    async def _execute(self, command: Command) -> Any:
        while True:
            try:
                return await self._client.execute_command(*command, NEVER_DECODE=True)
            except ClusterError as error:
                if not _is_moving(error):
                    raise
            await asyncio.sleep(MOVING_DELAY)

    async def close(self) -> None:
        """Close the connections, unless the client is the user's."""
        async with self._turn:
            client, self._client = self._client, None
            if client is not None and self._access.owned:
                for each in self._access.all_of(client):
                    await each.aclose()


def _is_moving(error: ClusterError) -> bool:
    """Whether a slot is moving, and the client has tried it at both nodes as often as it does.

    Nothing was done, and it would be done once if it is repeated.
    """
    return not isinstance(error, ResponseError)


def _send_reply(commands: Generator[Command, Any, None], reply: Any) -> Command | None:
    """Continue with a reply: the next command, `None` at the end."""
    try:
        return commands.send(reply)
    except StopIteration:
        return None


def _raise_error(commands: Generator[Command, Any, None], error: BaseException) -> Command | None:
    """Continue with an error, which is raised here unless the generator handles it."""
    try:
        return commands.throw(error)
    except StopIteration:
        return None
