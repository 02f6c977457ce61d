"""Emitters: send to rooms from a process that has no manager, a task queue's worker or a script.

[fastapi_rooms.wire.drafts][] writes the messages as drafts, and `EmitOperator` sends them
by the `Outlet` it was given. Whether a verb blocks or has to be awaited is the only difference
between the two emitters, so sending a draft is the only thing that each of them does by itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeAlias, TypeVar

from fastapi_rooms.adapters.redis.emit_clients import (
    AsyncClient,
    AsyncSender,
    SyncClient,
    SyncSender,
    async_access,
    sync_access,
)
from fastapi_rooms.adapters.urls import Url
from fastapi_rooms.core.checks import check_count, check_positive
from fastapi_rooms.core.close_codes import check_close
from fastapi_rooms.core.names import Channels, check_namespace, check_rooms
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.operators.addressing import Addressing
from fastapi_rooms.types import Room
from fastapi_rooms.wire.drafts import Draft, Drafts
from fastapi_rooms.wire.verbs import Verb

R = TypeVar("R")
Sent: TypeAlias = Coroutine[Any, Any, None]
"""Nothing is sent before it is awaited."""
Owner: TypeAlias = tuple[int, asyncio.AbstractEventLoop]
"""A process, and an event loop in it, to which a sender belongs."""


class Outlet(NamedTuple, Generic[R]):
    """What the operators of one emitter share."""

    drafts: Drafts
    send: Callable[[Draft | None], R]
    """Publishes a draft; does nothing for `None`."""


class EmitOperator(Addressing["EmitOperator[R]"], Generic[R]):
    """Whom to send to, or do something with. Chain it in any order, keep it, use it again.

        emitter.to("lobby", "bar").except_("muted").send_json({"hello": "everyone"})

    A socket in several of the rooms gets the message once. Without `to`, everyone in the
    namespace gets it. What is sent to a room with a history is numbered and kept there, as far as
    workers have told Redis of it; such a room is addressed alone. Each verb returns when Redis has
    accepted it; that of an `AsyncEmitter` has to be awaited. Nobody answers: what workers make of
    it, and whether there are any, is not known.

    All verbs raise:

    * `AdapterUnavailable` when Redis cannot be reached, refuses, or does not accept it in time. If
      `uncertain`, a message to a room with a history may be in it all the same, once.
    * `UsageError`, or one of its kinds, for what cannot be sent, and for a room with a history
      among several.
    """

    __slots__ = ("_namespace", "_outlet", "_volatile")

    def __init__(
        self,
        outlet: Outlet[R],
        namespace: str,
        target: Target = Target(),  # noqa: B008 -- immutable
        *,
        volatile: bool = False,
    ) -> None:
        super().__init__(target)
        self._outlet = outlet
        self._namespace = namespace
        self._volatile = volatile

    @property
    def volatile(self) -> EmitOperator[R]:
        """Skip sockets that cannot take a message now; do not raise `AdapterUnavailable`.

        Such a message is not kept, whether or not the room has a history.
        """
        return EmitOperator(self._outlet, self._namespace, self._target, volatile=True)

    def send_text(self, data: str) -> R:
        """Send text. Raises `MessageTooLarge` for what is over the emitter's limit."""
        return self._send(Payload.of_text(data))

    def send_bytes(self, data: bytes | bytearray | memoryview) -> R:
        """Send bytes, as `send_text` does text."""
        return self._send(Payload.of_bytes(data))

    def send_json(self, data: Any) -> R:
        """Send `data` as JSON, as a text message, as `send_text` does."""
        return self._send(Payload.of_json(data))

    def sockets_join(self, *names: Room) -> R:
        """Put the sockets into rooms, once each worker gets to it.

        A message to such a room that is sent next may be too early for them: send it to where they
        are already.
        """
        return self._request(Verb.JOIN, {"rooms": list(check_rooms(names))})

    def sockets_leave(self, *names: Room) -> R:
        """Take the sockets out of rooms, once each worker gets to it."""
        return self._request(Verb.LEAVE, {"rooms": list(check_rooms(names))})

    def disconnect_sockets(self, code: int = 1000, reason: str = "") -> R:
        """Close the sockets, once they have what was sent to them before.

        Raises `UsageError` for a code or reason that cannot be sent.
        """
        check_close(code, reason)
        return self._request(Verb.DISCONNECT, {"code": code, "reason": reason})

    def _send(self, payload: Payload) -> R:
        drafts, send = self._outlet
        return send(
            drafts.broadcast(self._namespace, self._target, payload, volatile=self._volatile)
        )

    def _request(self, verb: Verb, arguments: dict[str, Any]) -> R:
        drafts, send = self._outlet
        return send(drafts.request(self._namespace, self._target, verb, arguments))

    def _with_target(self, target: Target) -> EmitOperator[R]:
        return EmitOperator(self._outlet, self._namespace, target, volatile=self._volatile)

    def __repr__(self) -> str:
        words = [f"of={self._namespace}", f"to={self._target.rooms}"]
        words += [f"except_={self._target.except_}"] + ["volatile"] * self._volatile
        return f"<{type(self).__name__} {' '.join(words)}>"


class EmitNamespace(EmitOperator[R]):
    """Everyone in one namespace: `emitter.of("/chat")`."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Its name, with the leading slash."""
        return self._namespace

    def server_side_emit(self, event: str, *args: Any) -> R:
        """Have every worker call its handler of an event with these JSON values.

        That is what the worker's `rooms.on_server_side(event)` decorates; one without is passed by.
        Raises `UsageError` for an event that is no string, `TypeError` for what is not JSON.
        """
        drafts, send = self._outlet
        return send(drafts.event(self._namespace, event, args))


class _Emitter(EmitNamespace[R]):
    """What both emitters have."""

    __slots__ = ("_prefix", "_timeout")

    def __init__(
        self,
        send: Callable[[Draft | None], R],
        *,
        prefix: str,
        sharded: bool,
        timeout: float,
        max_message_bytes: int,
    ) -> None:
        check_positive("timeout", timeout)
        check_count("max_message_bytes", max_message_bytes, "bytes")
        self._timeout = timeout
        channels = Channels(prefix, sharded=sharded)
        self._prefix = channels.prefix
        super().__init__(Outlet(Drafts(channels, max_message_bytes), send), "/")

    def of(self, namespace: str) -> EmitNamespace[R]:
        """Another namespace. `of("/")` is the emitter's own.

        Raises:
            InvalidNamespace: the name is not a string of 1 to 255 UTF-8 bytes without `#`.
        """
        return EmitNamespace(self._outlet, check_namespace(namespace))


class Emitter(_Emitter[None]):
    """Sends to rooms from a process without a manager, and blocks until Redis has accepted it.

        emitter = Emitter("redis://localhost:6379")
        emitter.to("lobby").send_json({"report": "ready"})

    Making one opens nothing, so it may stand at the top of a module. Threads can share it; what
    they send goes out one by one. It survives a fork (Celery's prefork pool, multiprocessing):
    the child sends by a connection of its own, as an origin of its own.

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `rediss+sentinel://`,
            `redis+cluster://`, `rediss+cluster://`), or a `redis.Redis` or `redis.RedisCluster` of
            your own, which is used as it is and never closed here.
        prefix: that of the workers' manager.
        timeout: seconds that connecting, and each answer of Redis, may take; and seconds to wait
            for the turn, where threads share the emitter. A client of your own has its own limits
            for the former.
        max_message_bytes: the longest message that may be sent, in bytes.

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
    ) -> None:
        self._access = sync_access(redis, timeout)
        super().__init__(
            self._publish,
            prefix=prefix,
            sharded=self._access.sharded,
            timeout=timeout,
            max_message_bytes=max_message_bytes,
        )
        self._sender: SyncSender = SyncSender(self._access, self._prefix, timeout)

    def _publish(self, draft: Draft | None) -> None:
        if draft is None:
            return
        sender = self._sender
        if sender.owner != os.getpid():
            sender = self._sender = SyncSender(self._access, self._prefix, self._timeout)
        with suppress(*[AdapterUnavailable] * draft.volatile):
            sender.send(draft)

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
            `redis+cluster://`, `rediss+cluster://`), or a `redis.asyncio.Redis` or
            `redis.asyncio.RedisCluster` of your own, which is used as it is and never closed here.
        prefix: that of the workers' manager.
        timeout: seconds that Redis has to accept a message, those before it included.
        max_message_bytes: the longest message that may be sent, in bytes.

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
    ) -> None:
        self._access = async_access(redis, timeout)
        super().__init__(
            self._publish,
            prefix=prefix,
            sharded=self._access.sharded,
            timeout=timeout,
            max_message_bytes=max_message_bytes,
        )
        self._senders: dict[Owner, AsyncSender] = {}

    async def _publish(self, draft: Draft | None) -> None:
        if draft is None:
            return
        owner = (os.getpid(), asyncio.get_running_loop())
        sender = self._senders.get(owner)
        if sender is None:
            self._forget_dead_owners()
            sender = AsyncSender(self._access, self._prefix, self._timeout)
            self._senders[owner] = sender
        with suppress(*[AdapterUnavailable] * draft.volatile):
            await sender.send(draft)

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
