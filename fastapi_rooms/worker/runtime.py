"""What the namespaces of one manager share while it runs: the adapter, and who we are."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fastapi_rooms.adapters.base import (
    Adapter,
    Outage,
    SupportsIsAlone,
    SupportsIsLive,
    SupportsShards,
)
from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.cluster.commands import CommandTarget
from fastapi_rooms.core.deduplication import MAX_SHARDED_SOURCES, Duplicates
from fastapi_rooms.core.interest import Interest
from fastapi_rooms.core.names import Channels, new_node_id
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import (
    AdapterUnavailable,
    MalformedEnvelope,
    MessageTooLarge,
    NotStarted,
    ShuttingDown,
)
from fastapi_rooms.servers import on_server_shutdown
from fastapi_rooms.types import Channel, NodeId
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast
from fastapi_rooms.worker.drain import Drain, Drainable
from fastapi_rooms.worker.settings import Settings

logger = logging.getLogger("fastapi_rooms")

TURN_BYTES = 64 * 1024
"""How much may be sent in one turn of the event loop before the sender steps aside for a turn."""


class Health(NamedTuple):
    """How a manager is, for a readiness route. Times are seconds since the epoch."""

    ready: bool
    """Whether it runs and is not leaving, and messages reach and leave this worker."""
    connected: bool
    """Whether the adapter is connected and has confirmed every room that it may have."""
    since: float
    """Since when `connected` has been what it is."""
    last_received: float | None
    """When anything last came from the other side of the adapter."""
    reconnects: int
    """How many times it was lost and made whole again."""
    buffered: int
    """Bytes that wait to be published."""
    dropped: int
    """Messages that could not be published, or came in and were not understood."""
    reason: str
    """Why it is not connected, for people; empty when it is, or when nothing is known yet."""
    forbidden: int
    """Rooms with members here that Redis has come to forbid: they hear this worker only."""


class Local(CommandTarget[Any], Protocol):
    """A namespace, as far as messages from other workers need it."""

    def deliver_here(self, target: Target, payload: Payload, *, volatile: bool) -> object:
        """Deliver to this worker's members."""

    def gap(self, outage: Outage) -> None:
        """Messages from other workers may have been missed."""

    def guests(self) -> list[Drainable]:
        """Everyone inside, to be seen out."""

    async def close(self) -> None:
        """Forget those who could not be seen out."""

    def forget(self) -> None:
        """Forget everyone of an event loop that is gone."""


@dataclass
class _Run:
    """One stretch from start to close; nothing of it outlives the event loop it belongs to."""

    loop: asyncio.AbstractEventLoop
    node: NodeId
    interest: Interest
    duplicates: Duplicates
    origin: bytes = field(init=False)
    sequence: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    cluster: Cluster = field(init=False)
    sweep: asyncio.TimerHandle | None = None
    leaving: Drain | None = None
    unhook: Callable[[], None] | None = None
    turn_bytes: int = 0
    malformed: int = 0

    def __post_init__(self) -> None:
        self.origin = bytes.fromhex(self.node)

    def number(self) -> int:
        """The sequence of the next message."""
        return next(self.sequence)


class Runtime:
    """Sends to, and receives from, the other workers. Raises `NotStarted` unless it runs."""

    def __init__(self, adapter: Adapter, settings: Settings) -> None:
        self.adapter = adapter
        self.settings = settings
        self.channels = Channels(adapter.prefix)
        self._may_be_alone = adapter if isinstance(adapter, SupportsIsAlone) else None
        self._knows_live = adapter if isinstance(adapter, SupportsIsLive) else None
        self._sharded = adapter if isinstance(adapter, SupportsShards) else None
        self.namespaces: dict[str, Local] = {}
        self._share = min(TURN_BYTES, settings.outbox.max_bytes // 4)
        self._running: _Run | None = None

    @property
    def _run(self) -> _Run:
        if self._running is None:
            raise NotStarted
        return self._running

    @property
    def sharded(self) -> bool:
        """Whether the adapter's channels are in shards, which can be lost one by one."""
        return self._sharded is not None

    @property
    def node(self) -> NodeId:
        """This worker's id, new at every start."""
        return self._run.node

    @property
    def health(self) -> Health:
        """How it is now; never raises."""
        run, adapter = self._running, self.adapter.health
        return Health(
            ready=run is not None and run.leaving is None and adapter.connected,
            connected=adapter.connected,
            since=adapter.since,
            last_received=adapter.last_received,
            reconnects=adapter.reconnects,
            buffered=adapter.buffered,
            dropped=adapter.dropped + (run.malformed if run is not None else 0),
            reason=adapter.reason,
            forbidden=adapter.forbidden,
        )

    async def start(self) -> None:
        """Become a worker: draw an id, open the adapter, and hold the channel of that id."""
        duplicates = Duplicates(MAX_SHARDED_SOURCES) if self._sharded else Duplicates()
        interest = Interest(self.settings.linger)
        run = _Run(asyncio.get_running_loop(), new_node_id(), interest, duplicates)
        run.cluster = Cluster(
            run.node, self.adapter, self.channels, self.settings.pace, run.number, self.namespaces
        )
        own = run.cluster.own_channels
        run.interest.hold(own)
        self._running = run
        try:
            await self.adapter.start(self, own)
            await run.cluster.start()
        except BaseException:
            await self.close()
            raise
        if self.settings.direct:
            run.unhook = on_server_shutdown(self.leave)

    def leave(self, within: float | None = None) -> float | None:
        """Begin to leave, if that has not begun: let nobody in, and see out those who are inside.

        `within` says how many seconds the server waits for us, if it does not wait for ever.
        Returns how many each client has once it is its turn, or `None` if we do not run.
        """
        run = self._running
        if run is None:
            return None
        if run.leaving is None:
            run.leaving = Drain(self._guests, self.settings.drain_schedule.within(within))
        return run.leaving.timeout

    async def see_out(self) -> None:
        """Leave, and return when everyone has been seen out."""
        self.leave()
        leaving = self._run.leaving
        assert leaving is not None
        if any(self._guests()):  # else they went by themselves, and nobody's moment is waited for
            await leaving.over()
        else:
            leaving.cancel()

    def _guests(self) -> Iterator[Drainable]:
        for namespace in list(self.namespaces.values()):
            yield from namespace.guests()

    async def close(self) -> None:
        """Stop being one."""
        run, self._running = self._running, None
        try:
            if run is not None:
                if run.sweep is not None:
                    run.sweep.cancel()
                if run.leaving is not None:
                    run.leaving.cancel()
                if run.unhook is not None:
                    run.unhook()
                await run.cluster.close(self.settings.drain_schedule.timeout)
        finally:
            await self.adapter.close()

    def abandon(self) -> None:
        """Forget a run whose event loop is gone, and with it everything that could be closed."""
        self._running = None

    @property
    def cluster(self) -> Cluster:
        """This worker among the others."""
        return self._run.cluster

    # Interest.

    async def acquire(self, channels: Iterable[Channel]) -> None:
        """Hold channels, and return when the adapter has confirmed them; else hold none.

        Raises:
            AdapterUnavailable: they were not confirmed within the join timeout.
            NotStarted: the manager was closed in the meantime.
            ShuttingDown: this worker is leaving.
        """
        run = self._run
        if run.leaving is not None:
            raise ShuttingDown
        run.interest.hold(channels)
        if self._knows_live is not None and all(map(self._knows_live.is_live, channels)):
            return
        try:
            async with asyncio.timeout(self.settings.join_timeout):
                await self.adapter.subscribe(channels)
            if run is not self._running:
                raise NotStarted  # noqa: TRY301 -- released below like any failure
            if run.leaving is not None:
                raise ShuttingDown  # noqa: TRY301
        except TimeoutError:
            self._release(run, channels)
            health = self.adapter.health
            down = "" if health.connected or not health.reason else f" It is down: {health.reason}."
            raise AdapterUnavailable(
                f"The adapter did not confirm the join in {self.settings.join_timeout} s. "
                f"Nothing was joined.{down}"
            ) from None
        except BaseException:
            self._release(run, channels)
            raise

    def release(self, channels: Iterable[Channel]) -> None:
        """Let go of channels; the last to do so starts their linger. Harmless when closed."""
        if self._running is not None:
            self._release(self._running, channels)

    def _release(self, run: _Run, channels: Iterable[Channel]) -> None:
        if run is self._running:  # else it was closed, and its subscriptions with it
            run.interest.release(channels, run.loop.time())
            if run.sweep is None:
                self._schedule_sweep(run)

    def _schedule_sweep(self, run: _Run) -> None:
        due = run.interest.next_expiry()
        run.sweep = None if due is None else run.loop.call_at(due, self._sweep, run)

    def _sweep(self, run: _Run) -> None:
        expired = run.interest.expired(run.loop.time())
        if expired:
            self.adapter.unsubscribe(expired)
        self._schedule_sweep(run)

    # Out.

    def check(self, payload: Payload) -> None:
        """Raise `NotStarted` or `MessageTooLarge` before anything is done with a message."""
        _ = self._run
        if len(payload.data) > self.settings.max_message_bytes:
            raise MessageTooLarge(len(payload.data), self.settings.max_message_bytes)

    @property
    def alone(self) -> bool:
        """Whether there is nobody to publish to, and the adapter knows."""
        return self._may_be_alone is not None and self._may_be_alone.is_alone

    def publish(self, namespace: str, target: Target, payload: Payload) -> Awaitable[object]:
        """Send to the other workers; what it returns is done when the adapter has accepted it.

        It is the adapter's own, with nothing around it: a coroutine more to wake up through costs
        as much as many a message does.
        """
        return self.adapter.publish(*self._envelope(namespace, target, payload, volatile=False))

    def publish_volatile(self, namespace: str, target: Target, payload: Payload) -> None:
        """Send to the other workers if that is possible at once."""
        self.adapter.publish_volatile(*self._envelope(namespace, target, payload, volatile=True))

    def _envelope(
        self, namespace: str, target: Target, payload: Payload, *, volatile: bool
    ) -> tuple[Channel, bytes]:
        run = self._run
        broadcast = Broadcast(run.node, run.number(), namespace, target, payload, volatile)
        return self.channels.of_target(namespace, target.rooms), codec.encode(broadcast)

    def spend_turn(self, payload: Payload) -> bool:
        """Whether, with this message, this turn of the loop has had its share of messages.

        The sender is to step aside for a turn then. One that never waits for anything would
        otherwise keep every outbox from draining, and have its own members cut off for not reading.
        """
        run = self._run
        if run.turn_bytes == 0:
            run.loop.call_soon(self._new_turn, run)
        run.turn_bytes += len(payload.data) + 64
        return run.turn_bytes > self._share

    @staticmethod
    def _new_turn(run: _Run) -> None:
        run.turn_bytes = 0

    # In: what the adapter calls.

    def received(self, channel: Channel, data: bytes) -> None:
        """Deliver an envelope from another worker; drop and count what is none."""
        run = self._running
        if run is None:
            return
        if codec.is_from(run.origin, data):
            return
        try:
            message = codec.decode(data)
        except MalformedEnvelope as error:
            run.malformed += 1
            logger.debug("Dropped a malformed message on %r: %s", channel, error)
            return
        origin, sharded = message.origin, self._sharded
        source = origin if sharded is None else (origin, sharded.shard_of(channel))
        if not run.duplicates.is_new(source, message.sequence):
            return
        try:
            if isinstance(message, Broadcast):
                namespace = self.namespaces.get(message.namespace)
                if namespace is not None:
                    namespace.deliver_here(
                        message.target, message.payload, volatile=message.volatile
                    )
            elif not run.cluster.received(message):
                run.malformed += 1
        except Exception:
            logger.exception("A message from another worker could not be delivered")

    def gap(self, outage: Outage) -> None:
        """Tell every namespace, and find out who is there now."""
        if self._running is None:
            return
        self._running.cluster.greet()
        for namespace in list(self.namespaces.values()):
            namespace.gap(outage)
