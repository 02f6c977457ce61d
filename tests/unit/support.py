"""Stand-ins for what surrounds the manager, and a look at the tasks it leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from fastapi_rooms import AdapterHealth, Receiver, RoomManager
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.dispatcher import ClusterRequest, Part, ResponseReader, T
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast

OTHER_NODE = "fedcba9876543210"
"""The id of a worker that the tests play."""


WORKERS = Channels("rooms").of_workers()


class FakeAdapter:
    """An adapter in a test's hands: it records everything, and holds up or refuses what it is told.

    Nothing arrives by itself: `receiver` is what to call for that.
    """

    def __init__(self, prefix: str = "rooms") -> None:
        self.prefix = prefix
        self.health = AdapterHealth(connected=False, since=0.0, last_received=None)
        self.receiver: Receiver | None = None
        self.subscribed: set[bytes] = set()
        self.published: list[tuple[bytes, bytes]] = []
        self.published_volatile: list[tuple[bytes, bytes]] = []
        self.greetings: list[bytes] = []
        """What went to all workers, of itself: kept apart from what a test publishes."""
        self.starts = 0
        self.closes = 0
        self.waiting = 0
        """How many calls of `subscribe` or `publish` are held up."""
        self.start_error: Exception | None = None
        self.subscribe_error: Exception | None = None
        self.publish_error: Exception | None = None
        self._open = asyncio.Event()
        self._open.set()

    def hold_up(self) -> None:
        """Confirm and accept nothing from now on."""
        self._open.clear()

    def let_go(self) -> None:
        """Confirm and accept everything, what was held up first."""
        self._open.set()

    async def start(self, receiver: Receiver, channels: Iterable[bytes]) -> None:
        if self.start_error is not None:
            raise self.start_error
        self.starts += 1
        self.receiver = receiver
        self.subscribed = set(channels) - {WORKERS}
        self.health = AdapterHealth(connected=True, since=time.time(), last_received=None)

    async def publish(self, channel: bytes, data: bytes) -> int:
        if channel == WORKERS:
            self.greetings.append(data)
            return 0
        self.published.append((channel, data))
        await self._pass()
        if self.publish_error is not None:
            raise self.publish_error
        return 0

    def publish_volatile(self, channel: bytes, data: bytes) -> None:
        self.published_volatile.append((channel, data))

    async def subscribe(self, channels: Iterable[bytes]) -> None:
        if WORKERS in channels:  # of the greeting, and subscribed to from the start
            return
        self.subscribed |= set(channels)
        await self._pass()
        if self.subscribe_error is not None:
            raise self.subscribe_error

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        self.subscribed -= set(channels)

    async def close(self) -> None:
        self.closes += 1
        self.receiver = None
        self.subscribed.clear()
        self.health = AdapterHealth(connected=False, since=time.time(), last_received=None)

    async def _pass(self) -> None:
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1


class Sent(NamedTuple):
    """A message that an operator handed on."""

    target: Target
    data: bytes
    binary: bool
    local: bool
    volatile: bool


class RecordingDispatcher:
    """Notes what operators hand on; nobody answers their requests."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.requests: list[tuple[ClusterRequest, float | None]] = []

    async def send(self, target: Target, payload: Payload, *, local: bool, volatile: bool) -> None:
        self.sent.append(Sent(target, payload.data, payload.binary, local, volatile))

    async def request(
        self, request: ClusterRequest, reader: ResponseReader[Part, T], timeout: float | None
    ) -> T:
        self.requests.append((request, timeout))
        return reader.merge([])


async def published(accepted: Awaitable[object] | None) -> None:
    """Return when a message that had to be published is accepted."""
    assert accepted is not None
    await accepted


def broadcast(
    sequence: int,
    target: Target,
    text: str,
    *,
    origin: str = OTHER_NODE,
    namespace: str = "/",
    volatile: bool = False,
) -> Broadcast:
    """What another worker sends."""
    return Broadcast(origin, sequence, namespace, target, Payload.of_text(text), volatile)


def channel_of(room: str, namespace: str = "/") -> bytes:
    """The channel of a room, with the default prefix."""
    return Channels("rooms").of_room(namespace, room)


def app_of(endpoint: Callable[[WebSocket], Awaitable[None]]) -> Starlette:
    """An application of one WebSocket endpoint, at `/`."""
    return Starlette(routes=[WebSocketRoute("/", endpoint)])


def other_tasks() -> set[asyncio.Task[object]]:
    """Every task of this event loop but the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def all_is_over(rooms: RoomManager) -> None:
    """Wait until nobody is in `rooms`, and no task is left but the test's own."""
    await eventually(lambda: not rooms.sids and not rooms.rooms, what="nobody in the maps")
    await eventually(lambda: not other_tasks(), what="no task left")


def decoded(data: bytes) -> Broadcast:
    """The broadcast that was published."""
    message = codec.decode(data)
    assert isinstance(message, Broadcast)
    return message
