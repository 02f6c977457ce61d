"""The transport that writes what a socket is sent to its channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from starlette.websockets import WebSocket

from fastapi_rooms.core.close_codes import ABNORMAL_CLOSURE
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Outgoing, Payload
from fastapi_rooms.servers.mux.channel import Channel
from fastapi_rooms.transports import AsgiTransport

logger = logging.getLogger("fastapi_rooms")

FLUSH_TIMEOUT = 1.0
"""Seconds that one channel may keep the close of its connection waiting."""


class ChannelTransport(AsgiTransport):
    """Writes to one channel. Its outbox holds what the client has no room for."""

    name = "channel"

    def __init__(
        self,
        websocket: WebSocket,
        channel: Channel,
        policy: OutboxPolicy,
        on_overflow: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(websocket, policy, on_overflow, on_lost)
        self._channel = channel
        channel.on_lost(self._client_gone)

    def _client_gone(self) -> None:
        self._stop_writing()
        self._on_lost()

    def intercept(self, text: str, answer: Callable[[], None]) -> bool:
        """Have `answer` called whenever the client sends this text."""
        self._channel.intercept(text, answer)
        return True

    def write(self, message: Outgoing, sent: int = 0) -> None:
        """Write the message at once, or queue it if there is no room, or others are queued."""
        if self._stopped:
            return
        for payload in message.parts:
            at_once = self.is_flushed and self._channel.send_at_once(
                payload.data, binary=payload.binary
            )
            if not at_once:
                super().write(payload, sent)

    async def drain(self, timeout: float) -> None:
        """Flush, and close the connection of the channel with 1012."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(timeout, FLUSH_TIMEOUT)):
                await self.flush()
        await self._channel.drain(timeout)

    def abort(self) -> bool:
        """Close the channel, without waiting for anything that was to be sent."""
        self._channel.closed(ABNORMAL_CLOSURE, "")
        return True

    async def _put(self, payload: Payload) -> None:
        await self._channel.send_data(payload.data, binary=payload.binary)
