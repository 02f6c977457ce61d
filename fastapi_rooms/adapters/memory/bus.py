"""What the managers of one process share to be each other's workers."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeAlias
from weakref import WeakValueDictionary

from fastapi_rooms.adapters.declarations import STALE, Declaration
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.memory.backlog import too_busy
from fastapi_rooms.adapters.memory.presence_store import PresenceStore
from fastapi_rooms.adapters.memory.store import RoomStore
from fastapi_rooms.adapters.presence import Changed, event
from fastapi_rooms.core.position import EPOCH_LENGTH, Position
from fastapi_rooms.types import Channel
from fastapi_rooms.wire import kept

Tell: TypeAlias = Callable[[Changed], Changed]
"""Tells a room's subscribers of the events of a change, which is returned."""

_SWEPT_AT_ONCE = 1000
"""Rooms; about 1 ms, during which no other thread can publish."""


class Subscriber(Protocol):
    """An adapter, as the bus knows it."""

    def has_room(self, data: bytes) -> bool:
        """Whether a message may be enqueued."""

    def enqueue(self, channel: Channel, data: bytes) -> bool:
        """Have it received in the subscriber's own loop; false if that is closed."""


class MemoryBus:
    """What the managers of one process share to be each other's workers.

    They may run in one event loop or in several threads with a loop each, as test clients do.

        bus = MemoryBus()
        one, two = RoomManager(MemoryAdapter(bus)), RoomManager(MemoryAdapter(bus))
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: dict[Channel, dict[Subscriber, None]] = {}
        self._channels_of: Counter[Subscriber] = Counter()
        self._store = RoomStore(_new_epoch, self._subscribers.__contains__)
        self._presence = PresenceStore()
        self._declared: dict[tuple[str, ...], tuple[Declaration, float]] = {}

    def has_others_than(self, adapter: Subscriber) -> bool:
        """Whether any other adapter is subscribed to anything."""
        return len(self._channels_of) > (adapter in self._channels_of)

    def subscribe(self, adapter: Subscriber, channels: Iterable[Channel]) -> None:
        """Deliver to `adapter` what is published on `channels` from now on."""
        with self._lock:
            for channel in channels:
                subscribers = self._subscribers.setdefault(channel, {})
                if adapter not in subscribers:
                    subscribers[adapter] = None
                    self._channels_of[adapter] += 1

    def unsubscribe(self, adapter: Subscriber, channels: Iterable[Channel]) -> None:
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

    def publish(self, sender: Subscriber, channel: Channel, data: bytes) -> int:
        """Deliver to every subscriber but the sender, each in its own loop; returns how many.

        Raises `AdapterUnavailable`, and delivers to none, if one of them is too far behind.
        """
        with self._lock:  # held throughout, so that two threads' messages cannot cross
            others = [a for a in self._subscribers.get(channel, ()) if a is not sender]
            if not all(adapter.has_room(data) for adapter in others):
                raise too_busy()
            return sum([adapter.enqueue(channel, data) for adapter in others])

    def publish_volatile(self, sender: Subscriber, channel: Channel, data: bytes) -> None:
        """Deliver to every subscriber but the sender that is not too far behind."""
        with self._lock:
            for adapter in self._subscribers.get(channel, ()):
                if adapter is not sender and adapter.has_room(data):
                    adapter.enqueue(channel, data)

    def append(self, room: RoomKey, data: bytes, tag: int, retention: Retention) -> Position:
        """Number, keep and deliver a message to every subscriber, its sender among them.

        Raises `AdapterUnavailable`, and does none of it, if one of them is too far behind.
        """
        with self._lock:
            subscribers = self._subscribers.get(room.channel, ())
            if not all(adapter.has_room(data) for adapter in subscribers):
                raise too_busy()
            appended = self._store.append(room, data, tag, retention, time.monotonic())
            if appended.is_new and subscribers:
                in_place = kept.encode(appended.position, appended.previous, data)
                for adapter in subscribers:
                    adapter.enqueue(room.channel, in_place)
            return appended.position

    @contextmanager
    def store(self) -> Iterator[RoomStore]:
        """The rooms that remember, while no other thread changes them."""
        with self._lock:
            yield self._store

    def declare(self, declarations: Iterable[Declaration]) -> None:
        """Keep what rooms have, until it was not repeated for long."""
        now = time.monotonic()
        with self._lock:
            for each in declarations:
                key = type(each).__name__, each.namespace, each.pattern
                self._declared[key] = each, now

    def declared(self) -> list[Declaration]:
        """What rooms have, as managers have told."""
        limit = time.monotonic() - STALE
        with self._lock:
            fresh = {key: (it, at) for key, (it, at) in self._declared.items() if at > limit}
            self._declared = fresh
            return [declaration for declaration, _ in fresh.values()]

    @contextmanager
    def presence(self) -> Iterator[PresenceStore]:
        """Who is present, while no other thread changes it."""
        with self._lock:
            yield self._presence

    @contextmanager
    def telling(self, room: RoomKey) -> Iterator[tuple[PresenceStore, Tell]]:
        """The same, and a way to tell a room's subscribers what has become of it.

        Raises `AdapterUnavailable` if one of them is too far behind.
        """
        with self._lock:
            subscribers = self._subscribers.get(room.channel, ())
            if not all(adapter.has_room(b"") for adapter in subscribers):
                raise too_busy()

            def tell(changed: Changed) -> Changed:
                for each in changed.events if subscribers else ():
                    data = event.encode(room.name, each)
                    for adapter in subscribers:
                        adapter.enqueue(room.channel, data)
                return changed

            yield self._presence, tell

    def sweep(self) -> Iterator[None]:
        """Drop what has expired, one part at a time."""
        with self._lock:
            present = self._presence.names()
        for start in range(0, len(present), _SWEPT_AT_ONCE):
            with self._lock:
                some = present[start : start + _SWEPT_AT_ONCE]
                self._presence.forget(some, time.monotonic())
            yield
        with self._lock:
            names = self._store.names()
        for start in range(0, len(names), _SWEPT_AT_ONCE):
            with self._lock:
                self._store.sweep(names[start : start + _SWEPT_AT_ONCE], time.monotonic())
            yield

    def subscriptions(self, channel: Channel) -> int:
        """How many adapters are subscribed to a channel."""
        with self._lock:
            return len(self._subscribers.get(channel, ()))


_named_buses: WeakValueDictionary[str, MemoryBus] = WeakValueDictionary()


def named_bus(name: str) -> MemoryBus:
    """The bus of `memory://name`: the same for the same name while any manager uses it."""
    return _named_buses.setdefault(name, MemoryBus())


def _new_epoch() -> str:
    return secrets.token_hex(EPOCH_LENGTH // 2)
