"""Frames between edges and backends, on the channels that a run has already."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol
from weakref import WeakSet

from fastapi_rooms.adapters.base import Adapter
from fastapi_rooms.core.names import Channels
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind

logger = logging.getLogger("fastapi_rooms")


class FrameReceiver(Protocol):
    """An edge or a backend in this process. May raise `MalformedEnvelope` for a body."""

    def received(self, frame: Frame) -> bool:
        """A frame has come from another worker. Returns whether it is for this one alone."""

    def unknown(self, frame: Frame) -> None:
        """A frame was for none of the edges and backends in this process."""

    def gap(self) -> None:
        """Frames may have been missed, on any connection."""

    def role(self) -> dict[str, Any]:
        """What this worker says of itself when others ask: see `cluster.description`."""


class Frames:
    """Sends frames to workers, and hands on those that come."""

    def __init__(self, adapter: Adapter, channels: Channels, node: NodeId) -> None:
        self._adapter = adapter
        self._channels = channels
        self.node = node
        self.receivers: list[FrameReceiver] = []
        """Who is told of them."""
        self.edges: Callable[[], Collection[NodeId]] = tuple
        """The edges that hold clients whose endpoints are here."""
        self.backends = WeakSet[Frames]()
        """Those of backends in this process whose endpoints use the manager that has these."""
        self.echoes = 0
        """How many messages of this worker have come back to it, where the carrier does that."""
        self.malformed = 0
        """How many came in that made no sense."""

    def publish(self, to: NodeId | None, frame: Frame) -> Awaitable[int | None]:
        """Begin to send to one worker, or to all; awaited, it is done when that is accepted.

        The result is how many it has reached, or `None` where the carrier does not know.
        """
        channels = self._channels
        channel = channels.of_workers() if to is None else channels.of_node(to)
        return self._adapter.publish(channel, wire.encode(frame))

    @property
    def has_clients(self) -> bool:
        """Whether edges hold clients whose endpoints are here."""
        return bool(self.edges()) or any(backend.edges() for backend in self.backends)

    def publish_local(self, envelope: bytes, *, volatile: bool) -> Awaitable[object] | None:
        """Begin to send to the clients of endpoints here, by their edges, if there are any."""
        publishing = self._publish_local(envelope, volatile=volatile)
        for backend in self.backends:
            publishing += backend._publish_local(envelope, volatile=volatile)
        if len(publishing) > 1:
            return asyncio.gather(*publishing)
        return publishing[0] if publishing else None

    def _publish_local(self, envelope: bytes, *, volatile: bool) -> list[Awaitable[object]]:
        channels = list(map(self._channels.of_node, self.edges()))
        if not channels:
            return []
        data = wire.encode(Frame(FrameKind.LOCAL, self.node, wire.NO_CONNECTION, 0, envelope))
        if volatile:
            for channel in channels:
                self._adapter.publish_volatile(channel, data)
            return []
        return [self._adapter.publish(channel, data) for channel in channels]

    def took(self, data: bytes) -> bool:
        """Whether it is a frame, which is then dealt with; harms nobody whatever it is."""
        if not wire.is_frame(data):
            return False
        if self.receivers:
            try:
                frame = wire.decode(data)
                receivers = tuple(self.receivers)
                if not any(receiver.received(frame) for receiver in receivers):
                    for receiver in receivers:
                        receiver.unknown(frame)
            except MalformedEnvelope as error:
                self.malformed += 1
                logger.debug("Dropped a malformed frame: %s", error)
            except Exception:
                logger.exception("A frame from another worker could not be taken")
        return True

    def roles(self) -> dict[str, Any]:
        """What this worker is besides a worker."""
        return {name: is_ for receiver in self.receivers for name, is_ in receiver.role().items()}

    def gap(self) -> None:
        """Frames may have been missed."""
        for receiver in tuple(self.receivers):
            try:
                receiver.gap()
            except Exception:
                logger.exception("A gap could not be told to a gateway")
