"""The adapter within one process: for development, tests, and applications with one worker."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Iterable
from weakref import WeakValueDictionary

from fastapi_rooms.adapters.base import AdapterHealth, Receiver
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.names import check_prefix
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel

MAX_BACKLOG_BYTES = 32 * 1024 * 1024
"""How much may be on its way to one adapter whose event loop is busy.

Each message counts its length and `ENTRY_BYTES`.
"""


class MemoryBus:
    """What the managers of one process share to be each other's workers.

    They may run in one event loop or in several threads with a loop each, as test clients do.

        bus = MemoryBus()
        one, two = RoomManager(MemoryAdapter(bus)), RoomManager(MemoryAdapter(bus))
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: dict[Channel, dict[MemoryAdapter, None]] = {}
        self._channels_of: Counter[MemoryAdapter] = Counter()

    def has_others_than(self, adapter: MemoryAdapter) -> bool:
        """Whether any other adapter is subscribed to anything."""
        return len(self._channels_of) > (adapter in self._channels_of)

    def subscribe(self, adapter: MemoryAdapter, channels: Iterable[Channel]) -> None:
        """Deliver to `adapter` what is published on `channels` from now on."""
        with self._lock:
            for channel in channels:
                subscribers = self._subscribers.setdefault(channel, {})
                if adapter not in subscribers:
                    subscribers[adapter] = None
                    self._channels_of[adapter] += 1

    def unsubscribe(self, adapter: MemoryAdapter, channels: Iterable[Channel]) -> None:
        """Stop delivering to `adapter` what is published on `channels`."""
        with self._lock:
            for channel in channels:
                subscribers = self._subscribers.get(channel, {})
                if adapter in subscribers:
                    del subscribers[adapter]
                    self._channels_of[adapter] -= 1
                if not subscribers:
                    self._subscribers.pop(channel, None)
            if not self._channels_of[adapter]:
                del self._channels_of[adapter]

    def publish(self, sender: MemoryAdapter, channel: Channel, data: bytes) -> int:
        """Deliver to every subscriber but the sender, each in its own loop; returns how many.

        Raises `AdapterUnavailable`, and delivers to none, if one of them is too far behind.
        """
        with self._lock:  # held throughout, so that two threads' messages cannot cross
            others = [a for a in self._subscribers.get(channel, ()) if a is not sender]
            if not all(adapter.has_room(data) for adapter in others):
                raise AdapterUnavailable(
                    f"More than {MAX_BACKLOG_BYTES} bytes are on their way to another manager of "
                    "this process, whose event loop is busy."
                )
            return sum([adapter.enqueue(channel, data) for adapter in others])

    def publish_volatile(self, sender: MemoryAdapter, channel: Channel, data: bytes) -> None:
        """Deliver to every subscriber but the sender that is not too far behind."""
        with self._lock:
            for adapter in self._subscribers.get(channel, ()):
                if adapter is not sender and adapter.has_room(data):
                    adapter.enqueue(channel, data)

    def subscriptions(self, channel: Channel) -> int:
        """How many adapters are subscribed to a channel."""
        with self._lock:
            return len(self._subscribers.get(channel, ()))


_named_buses: WeakValueDictionary[str, MemoryBus] = WeakValueDictionary()


def named_bus(name: str) -> MemoryBus:
    """The bus of `memory://name`: the same for the same name while any manager uses it."""
    return _named_buses.setdefault(name, MemoryBus())


class _Backlog:
    """How many bytes are on their way into one event loop.

    The senders' threads write one of the numbers, under the lock of the bus, and the loop's own
    thread the other. So the receiving side needs no lock.
    """

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0


class MemoryAdapter:
    """Carries bytes between the managers that share a bus; without one it is alone."""

    def __init__(self, bus: MemoryBus | None = None, *, prefix: str = "rooms") -> None:
        self.prefix = check_prefix(prefix)
        self.bus = bus or MemoryBus()
        """Connects it to the other adapters."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receiver: Receiver | None = None
        self._channels: set[Channel] = set()
        self._backlog = _Backlog()
        self._since = time.time()
        self._last_received: float | None = None

    @property
    def health(self) -> AdapterHealth:
        """Connected from start to close."""
        return AdapterHealth(self._receiver is not None, self._since, self._last_received)

    async def start(self, receiver: Receiver, channels: Iterable[Channel]) -> None:
        """Join the bus."""
        self.unsubscribe(
            self._channels
        )  # left over from a start in an event loop that no longer exists
        self._loop = asyncio.get_running_loop()
        self._backlog = _Backlog()  # what was under way for an earlier start is not for this one
        self._receiver = receiver
        self._since = time.time()
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
        self._receiver = None
        self._since = time.time()

    def has_room(self, data: bytes) -> bool:
        """Whether a message may be enqueued: one always may, whatever its size."""
        waiting = self._backlog.sent - self._backlog.received
        return not waiting or waiting + len(data) + ENTRY_BYTES <= MAX_BACKLOG_BYTES

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

    def _receive(self, backlog: _Backlog, channel: Channel, data: bytes) -> None:
        backlog.received += len(data) + ENTRY_BYTES
        if self._receiver is not None and channel in self._channels:
            self._last_received = time.time()
            self._receiver.received(channel, data)


async def _done(receivers: int) -> int:
    return receivers


async def _refused(error: AdapterUnavailable) -> int:
    raise error
