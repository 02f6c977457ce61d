"""An adapter in a test's hands on whose carrier Node servers are, and what they would say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastapi_rooms.wire.socketio import msgpack
from tests.unit.support import FakeAdapter

REQUESTS = b"socket.io-request#/#"
RESPONSES = b"socket.io-response#/#"


class SharedAdapter(FakeAdapter):
    """A `FakeAdapter` that also does what Socket.IO's servers need."""

    def __init__(self, prefix: str = "rooms") -> None:
        super().__init__(prefix)
        self.patterns: list[bytes] = []
        self.connected: Callable[[bool], None] = lambda _: None
        self.once: list[tuple[bytes, bytes]] = []
        """What was published once, of Socket.IO's."""
        self.listeners = {RESPONSES: 1}
        """How many hear each channel."""
        self.subscribers = 0
        """How many are to answer what is asked."""
        self.withdrawn = asyncio.Event()
        self.withdrawn.set()
        self.withdrawals: list[bytes] = []
        self.withdraw_error: Exception | None = None

    def is_live(self, channel: bytes) -> bool:
        return channel in self.subscribed and self._open.is_set()

    def hear_patterns(self, patterns: Sequence[bytes], connected: Callable[[bool], None]) -> None:
        self.patterns, self.connected = list(patterns), connected

    async def publish_once(self, channel: bytes, data: bytes) -> int:
        self.once.append((channel, data))
        await self._pass()
        if self.publish_error is not None:
            raise self.publish_error
        return self.listeners.get(channel, self.subscribers if channel == REQUESTS else 0)

    def ask_for(self, channels: Iterable[bytes]) -> None:
        self.subscribed |= set(channels)

    async def count_subscribers(self, channel: bytes) -> int:
        return self.subscribers

    async def withdraw(self, channels: Sequence[bytes]) -> None:
        self.withdrawals += channels
        if self.withdraw_error is not None:
            raise self.withdraw_error
        await self.withdrawn.wait()
        self.unsubscribe(channels)

    # What Node servers do.

    def hears(self, channel: bytes, data: bytes) -> None:
        """Something arrives."""
        assert self.receiver is not None
        self.receiver.received(channel, data)

    def is_asked(self, **request: Any) -> None:
        """A Node server asks."""
        self.hears(REQUESTS, json.dumps({"uid": "abcdef", **request}).encode())

    def emits(self, room: str, *event: Any, **opts: Any) -> None:
        """A Node server emits to a room."""
        packet = {"type": 2, "data": list(event), "nsp": "/"}
        options = {"rooms": [room], "except": [], "flags": {}, **opts}
        self.hears(f"socket.io#/#{room}#".encode(), msgpack.pack(["abcdef", packet, options]))

    @property
    def answers(self) -> list[dict[str, Any]]:
        """What was answered, on whichever channel."""
        return [json.loads(data) for channel, data in self.once if channel.startswith(RESPONSES)]

    @property
    def broadcasts(self) -> list[Any]:
        """What was sent to Socket.IO's clients: channel, event, and options."""
        return [
            (channel.decode(), packet["data"], opts)
            for channel, data in self.once
            if channel.startswith(b"socket.io#")
            for _, packet, opts in [msgpack.unpack(data)]
        ]
