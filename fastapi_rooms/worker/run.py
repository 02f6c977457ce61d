"""One run of a manager, from start to close: who this worker is, what it receives and publishes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from fastapi_rooms.adapters.base import (
    Adapter,
    Outage,
    SupportsIsAlone,
    SupportsIsLive,
    SupportsShards,
)
from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.cluster.commands import CommandTarget
from fastapi_rooms.cluster.description import describe
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.deduplication import Duplicates
from fastapi_rooms.core.interest import Interest
from fastapi_rooms.core.late import Late
from fastapi_rooms.core.names import Channels, new_node_id
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import (
    MalformedEnvelope,
    MessageTooLarge,
    NotStarted,
    ShuttingDown,
)
from fastapi_rooms.servers import on_server_shutdown
from fastapi_rooms.types import Channel
from fastapi_rooms.wire import codec, kept, presence
from fastapi_rooms.wire.envelope import Broadcast
from fastapi_rooms.worker.confirmation import Confirmation
from fastapi_rooms.worker.doubts import Doubts
from fastapi_rooms.worker.drain import Drain, Drainable
from fastapi_rooms.worker.fanout import Fanout
from fastapi_rooms.worker.frames import Frames
from fastapi_rooms.worker.managed import ManagedNamespace
from fastapi_rooms.worker.overload import Overload
from fastapi_rooms.worker.settings import Settings

logger = logging.getLogger("fastapi_rooms")

TURN_BYTES = 64 * 1024
"""How much may be sent in one turn of the event loop before the sender steps aside for a turn."""

TURN_ENTRY_BYTES = ENTRY_BYTES // 4
"""What each message counts beside its length: it costs the turn as much time as so many bytes."""

SWEEP = 2000
"""Channels that are unsubscribed from in one turn of the event loop: some 2 ms of work."""


class Run:
    """One run of a manager. Nothing of it outlives the event loop it belongs to."""

    def __init__(
        self,
        adapter: Adapter,
        settings: Settings,
        channels: Channels,
        namespaces: Mapping[str, ManagedNamespace],
    ) -> None:
        self.node = new_node_id()
        """This worker's id, new in every run."""
        self._adapter = adapter
        self._settings = settings
        self._channels = channels
        self._namespaces = namespaces
        self.loop = self._loop = asyncio.get_running_loop()
        """The event loop that it belongs to."""
        self.thread = threading.get_ident()
        """The thread of that event loop."""
        self.pid = os.getpid()
        """The process that it belongs to."""
        self._is_alone = adapter if isinstance(adapter, SupportsIsAlone) else None
        self._is_live = adapter if isinstance(adapter, SupportsIsLive) else None
        self._shards = adapter if isinstance(adapter, SupportsShards) else None
        self._origin = bytes.fromhex(self.node)
        self._sequence = itertools.count(1)
        self._interest = Interest(settings.linger)
        self._confirmation = Confirmation(adapter, settings)
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._drain: Drain | None = None
        self._unhook: Callable[[], None] | None = None
        # In an outbox, what is sent in one turn counts four times that at most: a quarter of it.
        self._turn_share = min(TURN_BYTES, settings.outbox.max_bytes // 16)
        self._turn_bytes = 0
        self._closed = False
        self.fanout = Fanout(settings.max_lag)
        """Writes broadcasts to this worker's clients."""
        self.overload = Overload()
        """What arrived faster than it could be written."""
        self.frames = Frames(adapter, channels, self.node)
        """What edges and backends send each other."""
        self.healed = 0
        """How often messages of a recoverable room were missed, and had again."""
        self.unhealed = 0
        """How often they were gone for good."""
        self.malformed = 0
        """How many messages came in that made no sense."""
        self.unkept = 0
        """How many came in plain, for rooms that remember."""
        self.cluster = Cluster(
            self.node, adapter, channels, settings.heartbeat, self.next_sequence, namespaces
        )
        """This worker among the others."""
        self._duplicates = Duplicates(
            is_kept=self.cluster.knows, on_doubt=Doubts(self._loop.time).doubt
        )
        self._late = Late()

    async def start(self) -> None:
        """Open the adapter, hold this worker's own channels, and discover the other workers."""
        own = self.cluster.own_channels
        self._interest.hold(own)
        await self._adapter.start(self, own)
        await self.cluster.start()
        if self._settings.direct_writes:
            self._unhook = on_server_shutdown(self.begin_drain)

    @property
    def closed(self) -> bool:
        """Whether it is over, or about to be."""
        return self._closed

    async def close(self) -> None:
        """Stop sending and receiving, and close the adapter."""
        self._closed = True
        try:
            if self._sweep_timer is not None:
                self._sweep_timer.cancel()
            if self._drain is not None:
                self._drain.cancel()
            if self._unhook is not None:
                self._unhook()
            await self.cluster.close(self._settings.drain_schedule.timeout)
        finally:
            self.overload.close()
            self.fanout.close()
            await self._adapter.close()

    def describe(self, namespaces: Iterable[CommandTarget[Any]]) -> dict[str, Any]:
        """What this worker says of itself."""
        return describe(self.cluster.uptime, namespaces, self.frames.roles())

    # Draining.

    @property
    def draining(self) -> bool:
        """Whether new clients and joins are refused."""
        return self._drain is not None

    def begin_drain(self, within: float | None = None) -> float | None:
        """Refuse new clients and joins, and begin to close those that are there, if not begun yet.

        `within` is how many seconds the server waits for us; `None` if it waits for ever.
        Returns how many seconds each client has once it is its turn, or `None` if the run is over.
        """
        if self._closed:
            return None
        schedule = self._settings.drain_schedule.within(within)
        if self._drain is None:
            self._drain = Drain(self._drainables, schedule)
        elif self._drain.is_longer_than(schedule):  # a server that stops during `rooms.drain()`
            self._drain.cancel()
            self._drain = Drain(self._drainables, schedule)
        return self._drain.timeout

    async def drain(self) -> None:
        """Begin to drain, and return when everyone has been closed."""
        self.begin_drain()
        if self._drain is None:
            raise NotStarted
        if not any(self._drainables()):  # they went by themselves: do not wait for the schedule
            self._drain.cancel()
        while True:
            drain = self._drain
            await drain.wait()
            if drain is self._drain:  # else it was replaced by a shorter one
                return

    def _drainables(self) -> Iterator[Drainable]:
        for namespace in list(self._namespaces.values()):
            yield from namespace.drainables()

    # Interest: which channels this worker receives.

    async def acquire(self, channels: Collection[Channel], *, surely: bool = False) -> None:
        """Hold channels, and return when the adapter has confirmed them; else hold none.

        With `when_unavailable="admit"` it also returns, and they are held, when the carrier is
        away, unless they are to be confirmed `surely`: the adapter reports a gap for them when it
        is back.

        Raises:
            AdapterUnavailable: they were refused, or not confirmed within the join timeout.
            NotStarted: the manager was closed in the meantime.
            ShuttingDown: this worker is draining.
        """
        self._check_open()
        self._interest.hold(channels)
        if self._is_live is not None and all(map(self._is_live.is_live, channels)):
            return
        try:
            await self._confirmation.wait(channels, surely=surely)
            self._check_open()
        except BaseException:
            self.release(channels)
            raise

    def hold(self, channels: Iterable[Channel]) -> None:
        """Hold channels once more that are held already."""
        self._interest.hold(channels)

    def release(self, channels: Iterable[Channel]) -> None:
        """Hold channels once less; the last to release one starts its linger."""
        if not self._closed:  # else its subscriptions are gone, too
            self._interest.release(channels, self._loop.time())
            if self._sweep_timer is None:
                self._schedule_sweep()

    def _schedule_sweep(self) -> None:
        due = self._interest.next_expiry()
        self._sweep_timer = None if due is None else self._loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        expired = self._interest.expired(self._loop.time(), SWEEP)
        if expired:
            self._adapter.unsubscribe(expired)
        self._schedule_sweep()

    def _check_open(self) -> None:
        if self._closed:
            raise NotStarted
        if self._drain is not None:
            raise ShuttingDown

    # Out: what this worker publishes.

    def check_size(self, size: int) -> None:
        """Raise `MessageTooLarge` for a message of more bytes than the limit."""
        if size > self._settings.max_message_bytes:
            raise MessageTooLarge(size, self._settings.max_message_bytes)

    def publish(
        self, namespace: str, target: Target, payload: Payload, *, volatile: bool
    ) -> Awaitable[object] | None:
        """Send to the other workers, if there may be any.

        What it returns is to be awaited: it is done when the adapter has accepted the message, and
        raises `AdapterUnavailable` if it does not. `None` means that there is nothing to wait for.
        It is returned unwrapped, as a coroutine around it would be measurable.
        """
        if self._is_alone is not None and self._is_alone.is_alone:
            return None
        channel = self._channels.of_target(namespace, target.rooms)
        sequence = next(self._sequence)
        envelope = Broadcast(self.node, sequence, namespace, target, payload, volatile)
        data = codec.encode(envelope)
        if volatile:
            self._adapter.publish_volatile(channel, data)
            return None
        return self._adapter.publish(channel, data)

    def publish_local(
        self, namespace: str, target: Target, payload: Payload, *, volatile: bool
    ) -> Awaitable[object] | None:
        """Send to this worker's clients whom edges hold, if there are any: as `publish`."""
        if not self.frames.has_clients:
            return None
        sequence = next(self._sequence)
        envelope = Broadcast(self.node, sequence, namespace, target, payload, volatile)
        return self.frames.publish_local(codec.encode(envelope), volatile=volatile)

    def spend_turn(self, size: int) -> bool:
        """Count a message of so many bytes against this turn; true if its sender must yield.

        A sender that never waits for anything would otherwise keep every outbox from draining, and
        its members would be closed for not reading.
        """
        if self._turn_bytes == 0:
            self._loop.call_soon(self._new_turn)
        self._turn_bytes += size + TURN_ENTRY_BYTES
        return self._turn_bytes > self._turn_share

    def _new_turn(self) -> None:
        self._turn_bytes = 0

    def next_sequence(self) -> int:
        """The number of the next envelope."""
        return next(self._sequence)

    # In: what the adapter calls.

    @property
    def dropped(self) -> int:
        """How many messages came in that were dropped."""
        return self.malformed + self.frames.malformed + self.overload.count

    @property
    def duplicates(self) -> int:
        """How many messages came in once more, and were dropped."""
        return self._duplicates.count

    def received(self, channel: Channel, data: bytes) -> None:
        """Deliver an envelope from another worker; drop and count what is none."""
        if self._closed:
            return
        if codec.is_from(self._origin, data):
            self.frames.echoes += 1
            return
        if self.frames.took(data):
            return
        if kept.is_kept(data):
            self._received_in_place(channel, data)
            return
        if presence.is_event(data):
            self._received_event(channel, data)
            return
        try:
            envelope = codec.decode(data)
        except MalformedEnvelope as error:
            self.malformed += 1
            logger.debug("Dropped a malformed message on %r: %s", channel, error)
            return
        if not self._duplicates.is_new(envelope.origin, envelope.sequence):
            return
        shards = self._shards
        if shards is not None:
            source = (envelope.origin, shards.shard_of(channel))
            if self._late.is_late(source, envelope.sequence, self._loop.time()):
                return  # it was told as a gap
        try:
            if isinstance(envelope, Broadcast):
                namespace = self._namespaces.get(envelope.namespace)
                if namespace is not None:
                    namespace.receive(envelope.target, envelope.payload, volatile=envelope.volatile)
            elif not self.cluster.received(envelope):
                self.malformed += 1
        except Exception:
            logger.exception("A message from another worker could not be delivered")

    def _received_in_place(self, channel: Channel, data: bytes) -> None:
        """Deliver a message of a recoverable room: from any worker, this one among them."""
        try:
            placed = kept.decode(data)
            message = codec.decode_broadcast(placed.envelope)
        except MalformedEnvelope as error:
            self.malformed += 1
            logger.debug("Dropped a malformed message on %r: %s", channel, error)
            return
        try:
            namespace = self._namespaces.get(message.namespace)
            if namespace is not None:
                namespace.received_in_place(placed, message)
        except Exception:
            logger.exception("A message of a recoverable room could not be delivered")

    def _received_event(self, channel: Channel, data: bytes) -> None:
        """Tell a namespace that a user came or went, on whichever worker."""
        if not any(each.presences.has_handlers for each in self._namespaces.values()):
            return  # in a storm there are very many of them
        try:
            event = presence.decode(data)
        except MalformedEnvelope as error:
            self.malformed += 1
            logger.debug("Dropped a malformed message on %r: %s", channel, error)
            return
        try:
            namespace = self._namespaces.get(event.namespace)
            if namespace is not None:
                namespace.presences.received(event.room, event.event)
        except Exception:
            logger.exception("It could not be told that a user came or went")

    def gap(self, outage: Outage) -> None:
        """Tell every namespace, and find out who is there now."""
        if self._closed:
            return
        self._late.outage(self._loop.time())
        self.cluster.discover()
        self.frames.gap()
        for namespace in list(self._namespaces.values()):
            namespace.gap(outage)
