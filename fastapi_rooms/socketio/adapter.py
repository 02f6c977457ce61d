"""A run's adapter that subscribes to Socket.IO's channels beside our own.

Whoever wants the channel of a room wants two, and waits for both: so a join is done when what
either side sends is received. A worker's generated sids have one pattern, which is there from the
start, as they have one channel among workers. Nothing above knows of it. A room that looks like
another worker's sid has no channel of Socket.IO.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from fastapi_rooms.adapters.base import Adapter, AdapterHealth, Outage, Receiver, SupportsIsLive
from fastapi_rooms.adapters.foreign import SupportsForeign
from fastapi_rooms.types import Channel, NodeId
from fastapi_rooms.wire.socketio.settings import SocketIO


class ForeignReceiver(Protocol):
    """What gets what Node servers send."""

    def received(self, channel: Channel, data: bytes) -> None:
        """Something arrived on one of Socket.IO's channels."""

    def connection_changed(self, connected: bool) -> None:
        """The adapter may have become connected, or not."""


class CapableAdapter(Adapter, SupportsForeign, SupportsIsLive, Protocol):
    """What an adapter has to be."""


class SocketIOAdapter:
    """An adapter, as a run of a manager has it."""

    def __init__(self, adapter: CapableAdapter, settings: SocketIO) -> None:
        self.prefix = adapter.prefix
        self._adapter = adapter
        self._settings = settings
        self._own = f"{adapter.prefix}#".encode()
        self._key = f"{settings.key}#".encode()
        self._namespaces = frozenset(name.encode() for name in settings.namespaces)
        self._node = b""
        self._receiver: Receiver | None = None
        self._foreign: ForeignReceiver | None = None
        self.publish = adapter.publish
        self.publish_volatile = adapter.publish_volatile

    def attach(self, node: NodeId, foreign: ForeignReceiver) -> None:
        """Have what Node servers send received for a worker."""
        self._node, self._foreign = f"{node}.".encode(), foreign
        channels = self._settings.channels
        self._patterns = [channels.sids(name, node) for name in self._settings.namespaces]

    @property
    def health(self) -> AdapterHealth:
        """The adapter's own."""
        return self._adapter.health

    async def start(self, receiver: Receiver, channels: Iterable[Channel]) -> None:
        """Start the adapter."""
        assert self._foreign is not None
        self._receiver = receiver
        patterns = self._patterns if self._settings.receives else []
        self._adapter.hear_patterns(patterns, self._foreign.connection_changed)
        await self._adapter.start(self, self._both(channels))

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Return when both channels of each are confirmed."""
        await self._adapter.subscribe(self._both(channels))

    def want(self, channels: Iterable[Channel]) -> None:
        """Want both channels of each, without waiting."""
        self._adapter.want(self._both(channels))

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Stop wanting both channels of each."""
        self._adapter.unsubscribe(self._both(channels))

    def is_live(self, channel: Channel) -> bool:
        """Whether both are confirmed."""
        return all(map(self._adapter.is_live, self._both((channel,))))

    async def close(self) -> None:
        """Close the adapter, which then hears nobody but workers."""
        try:
            await self._adapter.close()
        finally:
            self._adapter.hear_patterns((), lambda _: None)

    # What the adapter calls.

    def received(self, channel: Channel, data: bytes) -> None:
        """Pass a message on to whom it is for."""
        if channel.startswith(self._own):
            if self._receiver is not None:
                self._receiver.received(channel, data)
        elif self._foreign is not None:
            self._foreign.received(channel, data)

    def gap(self, outage: Outage) -> None:
        """Pass a gap on: what is missed of a room here is missed of it there."""
        if self._receiver is not None:
            self._receiver.gap(outage)

    # Which channels.

    def _both(self, channels: Iterable[Channel]) -> list[Channel]:
        own = list(channels)
        return [*own, *self._foreign_of(own)] if self._settings.receives else own

    def _foreign_of(self, channels: Iterable[Channel]) -> Iterator[Channel]:
        """Socket.IO's channels for rooms and namespaces of which these are the workers'.

        The names of both have the same form; but for the workers' own, which begin with no
        namespace. What the pattern of the sids covers would be received twice.
        """
        start = len(self._own)
        for channel in channels:
            end = channel.find(b"#", start)
            if channel[start:end] in self._namespaces and not channel.startswith(
                self._node, end + 1
            ):
                yield self._key + channel[start:]
