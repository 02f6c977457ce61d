"""What every adapter has whose carrier is reached by one pair of connections: verbs, handed on.

An adapter is made before it is started, and its connections with each start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from fastapi_rooms.adapters.connection_pair import ConnectionPair
from fastapi_rooms.errors import NotStarted
from fastapi_rooms.types import Channel

Pair = TypeVar("Pair", bound=ConnectionPair[Any, Any])


class PairedAdapter(Generic[Pair]):
    """Hands on what the ends of its pair of connections do. Subclasses start and close it."""

    _pair: Pair | None = None

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send it if the carrier can take it at once."""
        self._running().publisher.publish_volatile(channel, data)

    def is_live(self, channel: Channel) -> bool:
        """Whether it is confirmed on the present connection, and still wanted."""
        return self._pair is not None and self._pair.subscriber.is_live(channel)

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Return when the carrier has confirmed every channel."""
        await self._running().subscriber.subscribe(channels)

    def want(self, channels: Iterable[Channel]) -> None:
        """Subscribe to the channels when the carrier can be reached."""
        self._running().subscriber.want_meanwhile(channels)

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Leave the channels, without waiting."""
        self._running().subscriber.unsubscribe(channels)

    def _running(self) -> Pair:
        """The connections. Raises `NotStarted` while there are none."""
        if self._pair is None:
            raise NotStarted
        return self._pair
