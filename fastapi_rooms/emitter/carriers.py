"""What emitters send by: the senders of each carrier, by a URL or by a client of a user's."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, TypeVar

from fastapi_rooms.adapters.rabbitmq.extra import require
from fastapi_rooms.adapters.rabbitmq.links import access as rabbitmq
from fastapi_rooms.adapters.redis.emit_clients import access as redis
from fastapi_rooms.adapters.redis.emit_clients import senders as redis_senders
from fastapi_rooms.adapters.redis.emit_clients.access import (
    AsyncClient,
    SyncClient,
    async_access,
    sync_access,
)
from fastapi_rooms.adapters.redis.presence.questions import Question
from fastapi_rooms.adapters.schemes import Carrier, scheme_of
from fastapi_rooms.adapters.urls import Url, text_of
from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.wire.socketio.drafts import SocketIODrafts
from fastapi_rooms.wire.socketio.settings import SocketIO

T = TypeVar("T")
Access: TypeAlias = redis.Access | rabbitmq.Access
"""How a carrier is reached."""


class SyncSender(Protocol):
    """Sends, and asks, and blocks meanwhile."""

    owner: int

    def send(self, draft: Any) -> None:
        """Send a `Draft`, or on Redis a `ForeignDraft`.

        Raises `AdapterUnavailable`, or `UsageError` for what a history cannot take.
        """

    def ask(self, question: Question[T]) -> T:
        """Ask. Raises `AdapterUnavailable`, or `UsageError` where there is nobody to ask."""

    def close(self) -> None:
        """Close what it has opened."""


class AsyncSender(Protocol):
    """Sends, and asks, and is awaited."""

    async def send(self, draft: Any) -> None:
        """Send a `Draft`, or on Redis a `ForeignDraft`.

        Raises `AdapterUnavailable`, or `UsageError` for what a history cannot take.
        """

    async def ask(self, question: Question[T]) -> T:
        """Ask. Raises `AdapterUnavailable`, or `UsageError` where there is nobody to ask."""

    async def close(self) -> None:
        """Close what it has opened."""


def sync_access_of(where: Url | SyncClient, timeout: float) -> Access:
    """For an `Emitter`. Raises `ConfigurationError`."""
    return _rabbitmq(where, "Emitter") or sync_access(where, timeout)


def async_access_of(where: Url | AsyncClient, timeout: float) -> Access:
    """For an `AsyncEmitter`. Raises `ConfigurationError`."""
    return _rabbitmq(where, "AsyncEmitter") or async_access(where, timeout)


def _rabbitmq(where: Any, who: str) -> rabbitmq.Access | None:
    """For RabbitMQ, if that is where it leads."""
    url = text_of(where)
    scheme = None if url is None else scheme_of(url)
    if scheme is None or scheme.carrier is not Carrier.RABBITMQ:
        return None
    require(who)
    return rabbitmq.access_of(where, who)


def socketio_drafts(
    access: Access, prefix: str, socketio: SocketIO | None
) -> SocketIODrafts | None:
    """What makes drafts for Socket.IO's servers. Raises `ConfigurationError` where none can be."""
    if socketio is None:
        return None
    if not isinstance(access, redis.Access) or access.sharded:
        other = "a Redis Cluster" if isinstance(access, redis.Access) else "RabbitMQ"
        raise ConfigurationError(
            "socketio=… needs the Redis that the Socket.IO servers are on, alone or behind "
            f"sentinels (redis://, redis+sentinel://), not {other}."
        )
    socketio.check_prefix(prefix)
    return SocketIODrafts(socketio)


def sync_sender(access: Access, prefix: str, timeout: float) -> SyncSender:
    """A sender that blocks. It opens nothing before it is used."""
    if isinstance(access, rabbitmq.Access):
        from fastapi_rooms.adapters.rabbitmq.emit_clients import senders

        return senders.SyncSender(access, prefix, timeout)
    return redis_senders.SyncSender(access, prefix, timeout)


def async_sender(access: Access, prefix: str, timeout: float) -> AsyncSender:
    """A sender that is awaited. It opens nothing before it is used."""
    if isinstance(access, rabbitmq.Access):
        from fastapi_rooms.adapters.rabbitmq.emit_clients import senders

        return senders.AsyncSender(access, prefix, timeout)
    return redis_senders.AsyncSender(access, prefix, timeout)
