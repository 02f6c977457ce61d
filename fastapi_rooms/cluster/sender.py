"""Messages between workers, signed and handed to the adapter."""

from __future__ import annotations

from collections.abc import Callable

from fastapi_rooms.adapters.base import Adapter
from fastapi_rooms.core.names import Channels
from fastapi_rooms.types import Channel, NodeId
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Message


class Sender:
    """Sends to all workers, or to one, in the name of this one."""

    def __init__(
        self, node: NodeId, adapter: Adapter, channels: Channels, number: Callable[[], int]
    ) -> None:
        self.node = node
        self.adapter = adapter
        self._channels = channels
        self._number = number

    def channel_of(self, node: NodeId | None) -> Channel:
        """That of one worker, or of all."""
        return self._channels.of_workers() if node is None else self._channels.of_node(node)

    async def send(self, to: NodeId | None, message: Message) -> int | None:
        """Send to one worker, or to all; returns how many others receive it, if that is known.

        Raises:
            AdapterUnavailable: the adapter did not accept it in time.
        """
        return await self.adapter.publish(self.channel_of(to), self._signed(message))

    def send_volatile(self, to: NodeId | None, message: Message) -> None:
        """Send if that is possible at once."""
        self.adapter.publish_volatile(self.channel_of(to), self._signed(message))

    def _signed(self, message: Message) -> bytes:
        return codec.encode(message._replace(origin=self.node, sequence=self._number()))
