"""A run of a manager that takes part in what Socket.IO's servers say to each other.

It is a run like any other, whose adapter subscribes to twice the channels, and which publishes
everything twice. So managers without it pay nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeGuard

from fastapi_rooms.adapters.base import Adapter, SupportsIsLive
from fastapi_rooms.adapters.foreign import SupportsForeign
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, ConfigurationError
from fastapi_rooms.socketio.adapter import CapableAdapter, SocketIOAdapter
from fastapi_rooms.socketio.peer import Peer
from fastapi_rooms.wire.socketio.settings import SocketIO
from fastapi_rooms.worker.managed import ManagedNamespace
from fastapi_rooms.worker.run import Run
from fastapi_rooms.worker.settings import Settings


def carries_socketio(adapter: Adapter) -> TypeGuard[CapableAdapter]:
    """Whether Socket.IO's servers can be heard by an adapter."""
    return isinstance(adapter, SupportsForeign) and isinstance(adapter, SupportsIsLive)


def check_socketio(adapter: Adapter, settings: SocketIO) -> None:
    """Raise `ConfigurationError` if Socket.IO's servers cannot be heard by an adapter."""
    if not carries_socketio(adapter):
        raise ConfigurationError(
            "socketio=… needs the Redis that the Socket.IO servers are on, alone or behind "
            f"sentinels (redis://, redis+sentinel://), not a {type(adapter).__name__}."
        )
    settings.check_prefix(adapter.prefix)


class PeerRun(Run):
    """One run of a manager, which is a Socket.IO server to others."""

    def __init__(
        self,
        adapter: CapableAdapter,
        settings: Settings,
        channels: Channels,
        namespaces: Mapping[str, Any],
        socketio: SocketIO,
    ) -> None:
        both = SocketIOAdapter(adapter, socketio)
        known: Mapping[str, ManagedNamespace] = namespaces
        super().__init__(both, settings, channels, known)
        self.peer = Peer(socketio, self.node, adapter, namespaces)
        """This worker among Socket.IO's servers."""
        self._timeout = settings.drain_schedule.timeout
        both.attach(self.node, self.peer)

    async def start(self) -> None:
        """Start as any run does, and then be counted among Socket.IO's servers."""
        await super().start()
        self.peer.start()

    async def close(self) -> None:
        """Leave Socket.IO's servers first: until they know it, they wait for answers."""
        try:
            await self.peer.close(self._timeout)
        finally:
            await super().close()

    @property
    def dropped(self) -> int:
        """How many messages came in that were dropped."""
        return super().dropped + self.peer.dropped

    def publish(
        self, namespace: str, target: Target, payload: Payload, *, volatile: bool
    ) -> Awaitable[object] | None:
        """Send to the other workers, and to Socket.IO's clients."""
        packed = self.packed(namespace, payload)
        accepted = super().publish(namespace, target, payload, volatile=volatile)
        if packed is None:
            return accepted
        foreign = self.publish_foreign(namespace, target, packed, volatile=volatile)
        return _both(accepted, foreign)

    def packed(self, namespace: str, payload: Payload) -> bytes | None:
        """What Socket.IO's clients get of a message, encoded; `None` if they get nothing."""
        return self.peer.packed(payload) if self.peer.shares(namespace) else None

    async def publish_after_keeping(self, namespace: str, target: Target, packed: bytes) -> None:
        """Send to Socket.IO's clients what the history has already.

        If that fails, the error is `uncertain`: the message is kept.
        """
        try:
            accepted = self.publish_foreign(namespace, target, packed, volatile=False)
            if accepted is not None:
                await accepted
        except AdapterUnavailable as error:
            error.uncertain = True
            raise

    def publish_foreign(
        self, namespace: str, target: Target, packed: bytes, *, volatile: bool
    ) -> Awaitable[object] | None:
        """Send an event to Socket.IO's clients alone."""
        if target.rooms == () or not self.peer.shares(namespace):
            return None
        return self.peer.broadcast(namespace, target, packed, volatile=volatile)


def _both(
    native: Awaitable[object] | None, foreign: Awaitable[object] | None
) -> Awaitable[object] | None:
    if native is None or foreign is None:
        return foreign if native is None else native
    return _all_of(native, foreign)


async def _all_of(native: Awaitable[object], foreign: Awaitable[object]) -> None:
    """Wait for both, whatever becomes of one, and raise what the first has raised."""
    results = await asyncio.gather(native, foreign, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
