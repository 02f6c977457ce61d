"""One manager's way onto a bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from fastapi_rooms.adapters.base import AdapterHealth, Receiver
from fastapi_rooms.adapters.declarations import Declaration
from fastapi_rooms.adapters.delegating import DelegatesPresence
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.memory.backlog import Backlog
from fastapi_rooms.adapters.memory.bus import MemoryBus
from fastapi_rooms.adapters.memory.presence import MemoryPresence
from fastapi_rooms.adapters.memory.sweeper import Sweeper
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.names import check_prefix
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Stretch
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel

T = TypeVar("T")


class MemoryAdapter(DelegatesPresence):
    """Carries bytes between the managers that share a bus; without one it is alone."""

    def __init__(self, bus: MemoryBus | None = None, *, prefix: str = "rooms") -> None:
        self.prefix = check_prefix(prefix)
        self.bus = bus or MemoryBus()
        """Connects it to the other adapters."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receiver: Receiver | None = None
        self._channels: set[Channel] = set()
        self._backlog = Backlog()
        self._sweeper = Sweeper(self.bus)
        self._presence = MemoryPresence(self.bus)
        self._since = time.time()
        self._last_received: float | None = None

    @property
    def health(self) -> AdapterHealth:
        """Connected from start to close."""
        return AdapterHealth(self._receiver is not None, self._since, self._last_received)

    async def start(self, receiver: Receiver, channels: Iterable[Channel]) -> None:
        """Join the bus."""
        # Left over from a start in an event loop that no longer exists.
        self.unsubscribe(self._channels)
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog()  # what was under way for an earlier start is not for this one
        self._receiver = receiver
        self._since = time.time()
        self._sweeper.start()
        await self.subscribe(channels)

    @property
    def is_alone(self) -> bool:
        """Whether no other adapter is on the bus, as usual outside of tests."""
        return not self.bus.has_others_than(self)

    def publish(self, channel: Channel, data: bytes) -> Awaitable[int]:
        """Publish; the bus accepts what every subscriber has room for."""
        try:
            return _done(self.bus.publish(self, channel, data))
        except AdapterUnavailable as error:
            return _refused(error)

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Publish; the bus drops it for a subscriber that has no room for it."""
        self.bus.publish_volatile(self, channel, data)

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Subscribe; the bus confirms at once."""
        self.want(channels)

    def want(self, channels: Iterable[Channel]) -> None:
        """Subscribe: the bus is never away."""
        wanted = set(channels)
        self._channels |= wanted
        self.bus.subscribe(self, wanted)

    def is_live(self, channel: Channel) -> bool:
        """Whether the channel is subscribed."""
        return channel in self._channels

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Unsubscribe; the bus needs no confirmation."""
        unwanted = set(channels)
        self._channels -= unwanted
        self.bus.unsubscribe(self, unwanted)

    async def close(self) -> None:
        """Leave the bus."""
        self.unsubscribe(self._channels)
        self._sweeper.stop()
        self._receiver = None
        self._since = time.time()

    # Rooms that remember.

    def append(
        self, room: RoomKey, data: bytes, tag: int, retention: Retention
    ) -> Awaitable[Position]:
        """Number, keep and publish; the bus accepts what every subscriber has room for."""
        try:
            return _done(self.bus.append(room, data, tag, retention))
        except AdapterUnavailable as error:
            return _refused(error)

    async def read(self, room: RoomKey) -> Stretch[bytes]:
        """Read all; the bus answers at once."""
        with self.bus.store() as store:
            return store.read(room, time.monotonic())

    async def read_since(self, room: RoomKey, position: Position) -> Stretch[bytes]:
        """Read what follows; the bus answers at once."""
        with self.bus.store() as store:
            return store.read_since(room, position, time.monotonic())

    async def tops(self, rooms: Sequence[RoomKey]) -> list[Position | None]:
        """Look at the tops; the bus answers at once."""
        with self.bus.store() as store:
            return [store.top(room) for room in rooms]

    async def forget(self, room: RoomKey) -> None:
        """Forget; the bus does it at once."""
        with self.bus.store() as store:
            store.forget(room)

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        """Tell what rooms have; the bus knows at once."""
        self.bus.declare(declarations)

    async def declared(self) -> list[Declaration]:
        """What rooms have; the bus answers at once."""
        return self.bus.declared()

    def _running_presence(self) -> MemoryPresence:
        return self._presence

    # What the bus calls.

    def has_room(self, data: bytes) -> bool:
        """Whether a message may be enqueued: one always may, whatever its size."""
        return self._backlog.has_room(data)

    def enqueue(self, channel: Channel, data: bytes) -> bool:
        """Receive in this adapter's own loop, in order; the bus calls it from any thread.

        Returns whether that loop still exists.
        """
        loop, backlog = self._loop, self._backlog
        assert loop is not None
        try:
            loop.call_soon_threadsafe(self._receive, backlog, channel, data)
        except RuntimeError:  # the loop is closed: a test that never closed its manager
            self._channels.discard(channel)
            return False
        backlog.sent += len(data) + ENTRY_BYTES
        return True

    def _receive(self, backlog: Backlog, channel: Channel, data: bytes) -> None:
        backlog.received += len(data) + ENTRY_BYTES
        if self._receiver is not None and channel in self._channels:
            self._last_received = time.time()
            self._receiver.received(channel, data)


def _done(result: T) -> asyncio.Future[T]:
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    done.set_result(result)
    return done


async def _refused(error: AdapterUnavailable) -> T:
    raise error
