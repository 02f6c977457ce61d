"""Emitters: send to rooms from a process that has no manager, a task queue's worker or a script.

[fastapi_rooms.wire.drafts][] writes the messages as drafts, and `EmitOperator` sends them
by the `Outlet` it was given. Whether a verb blocks or has to be awaited is the only difference
between the two emitters, so sending a draft, and asking a question, is all that each of them does
by itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from fastapi_rooms.adapters.redis.emit_clients.access import AsyncClient, SyncClient
from fastapi_rooms.adapters.redis.presence.questions import PresenceQuestions, Question
from fastapi_rooms.adapters.urls import Url
from fastapi_rooms.core.checks import check_count, check_positive
from fastapi_rooms.core.names import Channels, check_namespace
from fastapi_rooms.emitter.carriers import (
    AsyncSender,
    SyncSender,
    async_access_of,
    async_sender,
    socketio_drafts,
    sync_access_of,
    sync_sender,
)
from fastapi_rooms.emitter.operators import EmitNamespace, Outlet
from fastapi_rooms.emitter.presence import Sent
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.wire.drafts import Draft, Drafts, ForeignDraft
from fastapi_rooms.wire.socketio.settings import SocketIO

R = TypeVar("R")
T = TypeVar("T")
Owner: TypeAlias = tuple[int, asyncio.AbstractEventLoop]
"""A process, and an event loop in it, to which a sender belongs."""


class _Emitter(EmitNamespace[R]):
    """What both emitters have."""

    __slots__ = ("_prefix", "_timeout")

    def __init__(
        self,
        send: Callable[[Draft | ForeignDraft | None], R],
        ask: Callable[[Question[Any]], Any],
        *,
        access: Any,
        prefix: str,
        timeout: float,
        max_message_bytes: int,
        socketio: SocketIO | None,
    ) -> None:
        check_positive("timeout", timeout)
        check_count("max_message_bytes", max_message_bytes, "bytes")
        self._timeout = timeout
        channels = Channels(prefix, sharded=access.sharded)
        self._prefix = channels.prefix
        foreign = socketio_drafts(access, channels.prefix, socketio)
        drafts = Drafts(channels, max_message_bytes, foreign)
        questions = PresenceQuestions(channels.prefix, sharded=access.sharded)
        super().__init__(Outlet(drafts, send, ask, questions), "/")

    def of(self, namespace: str) -> EmitNamespace[R]:
        """Another namespace. `of("/")` is the emitter's own.

        Raises:
            InvalidNamespace: the name is not a string of 1 to 255 UTF-8 bytes without `#`.
        """
        return EmitNamespace(self._outlet, check_namespace(namespace))


class Emitter(_Emitter[None]):
    """Sends to rooms from a process without a manager, and blocks until it is accepted.

        emitter = Emitter("redis://localhost:6379")
        emitter.to("lobby").send_json({"report": "ready"})

    Making one opens nothing, so it may stand at the top of a module. Threads can share it; what
    they send goes out one by one. It survives a fork (Celery's prefork pool, multiprocessing):
    the child sends by a connection of its own, as an origin of its own.

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `rediss+sentinel://`,
            `redis+cluster://`, `rediss+cluster://`, `amqp://`, `amqps://`), or a `redis.Redis` or
            `redis.RedisCluster` of your own, which is used as it is and never closed here.
        prefix: that of the workers' manager.
        timeout: seconds that connecting, and each answer of Redis or RabbitMQ, may take; and
            seconds to wait for the turn, where threads share the emitter. A client of your own has
            its own limits for the former.
        max_message_bytes: the longest message that may be sent, in bytes.
        socketio: that of the workers' manager: what is sent goes to Socket.IO's clients as well,
            and commands about sockets to their servers.

    Raises:
        ConfigurationError: for a URL or client that cannot be used, or these settings.
    """

    __slots__ = ("_access", "_sender")

    def __init__(
        self,
        redis: Url | SyncClient,
        *,
        prefix: str = "rooms",
        timeout: float = 5.0,
        max_message_bytes: int = 16 * 1024 * 1024,
        socketio: SocketIO | None = None,
    ) -> None:
        self._access: Any = sync_access_of(redis, timeout)
        super().__init__(
            self._publish,
            self._ask,
            access=self._access,
            prefix=prefix,
            timeout=timeout,
            max_message_bytes=max_message_bytes,
            socketio=socketio,
        )
        self._sender: Any = sync_sender(self._access, self._prefix, timeout)

    def _publish(self, draft: Draft | ForeignDraft | None) -> None:
        if draft is None:
            return
        with suppress(*[AdapterUnavailable] * draft.volatile):
            self._own_sender().send(draft)

    def _ask(self, question: Question[T]) -> T:
        return self._own_sender().ask(question)

    def _own_sender(self) -> SyncSender:
        """That of this process."""
        sender: SyncSender = self._sender
        if sender.owner != os.getpid():
            sender = self._sender = sync_sender(self._access, self._prefix, self._timeout)
        return sender

    def close(self) -> None:
        """Close its connection. It opens another when it is used again."""
        if self._sender.owner == os.getpid():
            self._sender.close()

    def __enter__(self) -> Self:
        """Itself; `close` comes at the end of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


class AsyncEmitter(_Emitter[Sent]):
    """Sends to rooms from a process without a manager: an `Emitter` whose verbs are awaited.

        async with AsyncEmitter("redis://localhost:6379") as emitter:
            await emitter.to("lobby").send_json({"report": "ready"})

    Making one opens nothing, so it may stand at the top of a module. Tasks can share it; what they
    send goes out in the order in which they call. In another event loop, or after a fork, it opens
    a connection of its own there, and keeps one for each loop; each loop has to `close` its own.

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `rediss+sentinel://`,
            `redis+cluster://`, `rediss+cluster://`, `amqp://`, `amqps://`), or a
            `redis.asyncio.Redis` or `redis.asyncio.RedisCluster` of your own, which is used as it
            is and never closed here.
        prefix: that of the workers' manager.
        timeout: seconds that Redis, or RabbitMQ, has to accept a message, those before it
            included.
        max_message_bytes: the longest message that may be sent, in bytes.
        socketio: that of the workers' manager: what is sent goes to Socket.IO's clients as well,
            and commands about sockets to their servers.

    Raises:
        ConfigurationError: for a URL or client that cannot be used, or these settings.
    """

    __slots__ = ("_access", "_senders")

    def __init__(
        self,
        redis: Url | AsyncClient,
        *,
        prefix: str = "rooms",
        timeout: float = 5.0,
        max_message_bytes: int = 16 * 1024 * 1024,
        socketio: SocketIO | None = None,
    ) -> None:
        self._access: Any = async_access_of(redis, timeout)
        super().__init__(
            self._publish,
            self._ask,
            access=self._access,
            prefix=prefix,
            timeout=timeout,
            max_message_bytes=max_message_bytes,
            socketio=socketio,
        )
        self._senders: dict[Owner, AsyncSender] = {}

    async def _publish(self, draft: Draft | ForeignDraft | None) -> None:
        if draft is None:
            return
        with suppress(*[AdapterUnavailable] * draft.volatile):
            await self._own_sender().send(draft)

    async def _ask(self, question: Question[T]) -> T:
        return await self._own_sender().ask(question)

    def _own_sender(self) -> AsyncSender:
        """That of this process and event loop."""
        owner = (os.getpid(), asyncio.get_running_loop())
        sender = self._senders.get(owner)
        if sender is None:
            self._forget_dead_owners()
            sender = async_sender(self._access, self._prefix, self._timeout)
            self._senders[owner] = sender
        return sender

    def _forget_dead_owners(self) -> None:
        for owner in list(self._senders):  # other threads may change it meanwhile
            pid, loop = owner
            if pid != os.getpid() or loop.is_closed():
                self._senders.pop(owner, None)

    async def close(self) -> None:
        """Close its connection in this event loop. It opens another when it is used again."""
        sender = self._senders.pop((os.getpid(), asyncio.get_running_loop()), None)
        if sender is not None:
            await sender.close()

    async def __aenter__(self) -> Self:
        """Itself; `close` comes at the end of the block."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()
