"""Sends envelopes to all workers, or to one, in the name of this one."""

from __future__ import annotations

from collections.abc import Callable

from fastapi_rooms.adapters.base import Adapter
from fastapi_rooms.core.names import Channels
from fastapi_rooms.types import Channel, NodeId
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Envelope


class Sender:
    """Gives each envelope this worker's id and next number, and publishes it."""

    def __init__(
        self,
        node: NodeId,
        adapter: Adapter,
        channels: Channels,
        next_sequence: Callable[[], int],
    ) -> None:
        self.node = node
        self._adapter = adapter
        self._channels = channels
        self._next_sequence = next_sequence

    @property
    def connected(self) -> bool:
        """Whether the adapter is connected."""
        return self._adapter.health.connected

    def channel_of(self, node: NodeId | None) -> Channel:
        """The channel of one worker, or of all of them."""
        return self._channels.of_workers() if node is None else self._channels.of_node(node)

    async def send(self, to: NodeId | None, envelope: Envelope) -> int | None:
        """Send to one worker, or to all; returns how many others receive it, if that is known.

        Raises:
            AdapterUnavailable: the adapter did not accept it in time.
        """
        return await self._adapter.publish(self.channel_of(to), self._encode(envelope))

    def send_volatile(self, to: NodeId | None, envelope: Envelope) -> None:
        """Send if that is possible at once."""
        self._adapter.publish_volatile(self.channel_of(to), self._encode(envelope))

    async def confirm(self, channels: list[Channel]) -> None:
        """Return when the adapter has confirmed channels. Raises `AdapterUnavailable`."""
        await self._adapter.subscribe(channels)

    def _encode(self, envelope: Envelope) -> bytes:
        return codec.encode(envelope._replace(origin=self.node, sequence=self._next_sequence()))
