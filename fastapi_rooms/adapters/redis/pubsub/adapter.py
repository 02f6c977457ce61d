"""The adapter for one Redis, or for the master of several."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from redis.asyncio import Redis

from fastapi_rooms.adapters.base import AdapterHealth, Outage, Receiver
from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.connection_pair import Settings
from fastapi_rooms.adapters.connection_status import ConnectionStatus
from fastapi_rooms.adapters.declarations import Declaration
from fastapi_rooms.adapters.delegating import DelegatesPresence
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.paired import PairedAdapter
from fastapi_rooms.adapters.probe import PATIENCE
from fastapi_rooms.adapters.redis.history.history import History
from fastapi_rooms.adapters.redis.history.lane import Lane
from fastapi_rooms.adapters.redis.links.source import source_of
from fastapi_rooms.adapters.redis.links.urls import pool_of
from fastapi_rooms.adapters.redis.presence.node import NodePresence
from fastapi_rooms.adapters.redis.presence.rights import needs_to_declare
from fastapi_rooms.adapters.redis.pubsub.dialect import TellingDialect
from fastapi_rooms.adapters.redis.pubsub.failover_gaps import FailoverGaps, Span, decode, encode
from fastapi_rooms.adapters.redis.pubsub.node import NodeConnection
from fastapi_rooms.adapters.subscriptions import Losses
from fastapi_rooms.adapters.urls import Url
from fastapi_rooms.core.names import check_prefix
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Stretch
from fastapi_rooms.errors import AdapterUnavailable, NotStarted
from fastapi_rooms.types import Channel


class RedisAdapter(PairedAdapter[NodeConnection], DelegatesPresence):
    """Carries bytes between workers by Redis' pub/sub, over two connections for each worker.

    A third one is for rooms whose messages are kept, or of which is known who is present; it is
    opened when the first is used.

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `rediss+sentinel://`,
            with redis-py's query options), or a `redis.asyncio.Redis` of your own, one of
            `Sentinel.master_for` included. Its connection settings are used; its pool is not: the
            adapter opens two connections of its own and leaves yours alone.
        prefix: the first part of every channel, so that applications can share one Redis.
        publish_timeout: seconds a message may take to be accepted, outages included.
        connect_timeout: seconds that opening a connection may take.
        max_buffered_bytes: how much may wait to be accepted, above all in an outage; each message
            counts its length and 256 bytes.
        probe_interval: every so many seconds the adapter asks whether it is still connected to a
            master, and publishes a message to itself. If that does not come back within as many
            seconds again, both connections are made anew, however healthy their sockets look; if
            other messages do arrive, only when it is the third in a row.

    Raises:
        ConfigurationError: for a URL or client that cannot be used, or a number that a setting
            cannot have.
    """

    def __init__(
        self,
        redis: Url | Redis,
        *,
        prefix: str = "rooms",
        publish_timeout: float = 5.0,
        connect_timeout: float = 5.0,
        max_buffered_bytes: int = 32 * 1024 * 1024,
        probe_interval: float = 10.0,
    ) -> None:
        self._settings = Settings(
            publish_timeout, connect_timeout, max_buffered_bytes, probe_interval
        ).checked()
        self.prefix = check_prefix(prefix)
        self._pool = pool_of(redis)
        self._history: History | None = None
        self._presence: NodePresence | None = None
        self._receiver: Receiver | None = None
        self._probe_channel = b""
        self._failover_channel = f"{self.prefix}#moved#".encode()
        self._failover_gaps = FailoverGaps()
        self._failover_timer: asyncio.TimerHandle | None = None
        self._budget = ByteBudget(max_buffered_bytes)
        self._status = ConnectionStatus("Redis")
        self._malformed = 0
        self._patterns: Sequence[Channel] = ()
        self._dialect = TellingDialect()
        self._tell_connected: Callable[[bool], None] | None = None

    @property
    def health(self) -> AdapterHealth:
        """The state of the connections."""
        node, history, status = self._pair, self._history, self._status
        presence = self._presence
        if node is None or history is None or presence is None:
            return AdapterHealth(False, status.since, None)
        return AdapterHealth(
            status.connected,
            status.since,
            node.subscriber.last_received,
            node.subscriber.reconnects,
            self._budget.used,
            node.publisher.dropped + history.lane.dropped + presence.malformed + self._malformed,
            status.reason,
            len(node.subscriber.forbidden),
        )

    async def start(self, receiver: Receiver, channels: Iterable[Channel]) -> None:
        """Connect; return when ready, or when the first attempt failed.

        Raises:
            AdapterUnavailable: Redis rejects the username or password.
        """
        self._receiver = receiver
        self._probe_channel = f"{self.prefix}#probe.{secrets.token_hex(8)}#".encode()
        self._failover_gaps = FailoverGaps()
        self._status.start()
        self._budget = ByteBudget(self._settings.max_buffered_bytes)
        self._malformed = 0
        self._dialect = TellingDialect()
        own = self._own_channels
        required = own.union(channels)
        source = source_of(self._pool, ping_interval=self._settings.probe_interval)
        lane = Lane(
            source,
            self.prefix,
            connect_timeout=self._settings.connect_timeout,
            timeout=self._settings.publish_timeout,
            patience=max(PATIENCE, self._settings.probe_interval),
            budget=self._budget,
        )
        self._history = History(lane, self.prefix)
        self._presence = NodePresence(lane, self.prefix)
        node = self._pair = NodeConnection(
            source,
            self,
            self._changed,
            self._settings,
            self._budget,
            losses=Losses(own),
            required=required,
            patterns=self._patterns,
            dialect=self._dialect,
        )
        node.subscriber.want(required)
        node.probe_on(self._probe_channel)
        node.start()
        try:
            await self._status.first_attempt(self._settings.connect_timeout)
        except BaseException:
            await self.close()
            raise
        if node.refused:
            reason = self._status.reason
            await self.close()
            raise AdapterUnavailable(f"Redis rejects the login: {reason}")

    def publish(self, channel: Channel, data: bytes) -> Awaitable[int]:
        """Send it; done when Redis has accepted it, with the number of others it went to."""
        return self._count_other_receivers(
            channel, self._running().publisher.publish(channel, data)
        )

    async def _count_other_receivers(self, channel: Channel, accepted: Awaitable[int]) -> int:
        receivers = await accepted
        echo = self.is_live(channel)
        return max(receivers - echo, 0)

    def hear_patterns(self, patterns: Sequence[Channel], connected: Callable[[bool], None]) -> None:
        """Receive what is published on channels of these patterns, too, from the next start on."""
        self._patterns, self._tell_connected = patterns, connected

    def publish_once(self, channel: Channel, data: bytes) -> Awaitable[int]:
        """Send it, and never again; the number of connections that Redis gave it to."""
        return self._running().publisher.publish(channel, data, once=True)

    def ask_for(self, channels: Iterable[Channel]) -> None:
        """Subscribe without waiting."""
        self._running().subscriber.want(channels)

    async def count_subscribers(self, channel: Channel) -> int:
        """How many connections subscribe to it by its name."""
        reply = await self._running().publisher.ask(b"PUBSUB", b"NUMSUB", channel)
        try:
            _, count = reply
            return int(count)
        except (TypeError, ValueError):
            raise AdapterUnavailable("Redis did not say how many subscribers there are.") from None

    async def withdraw(self, channels: Sequence[Channel]) -> None:
        """Unsubscribe, and return when Redis has nothing left of it."""
        subscriber, dialect = self._running().subscriber, self._dialect
        subscriber.unsubscribe(channels)
        while any(map(subscriber.is_in_flight, channels)):
            dialect.unsubscribed_some.clear()
            await dialect.unsubscribed_some.wait()

    def append(
        self, room: RoomKey, data: bytes, tag: int, retention: Retention
    ) -> Awaitable[Position]:
        """Number, keep and publish it by one script, with what else comes in this turn."""
        return self._running_history().append(room, data, tag, retention)

    async def read(self, room: RoomKey) -> Stretch[bytes]:
        """Read all that is kept of a room, and its top."""
        return await self._running_history().read(room)

    async def read_since(self, room: RoomKey, position: Position) -> Stretch[bytes]:
        """Read the top of a room, and what is kept from that of `position` on."""
        return await self._running_history().read(room, position)

    async def tops(self, rooms: Sequence[RoomKey]) -> list[Position | None]:
        """The top of each room. To ask for none opens the connection, and tries what it may."""
        return await self._running_history().tops(rooms)

    async def forget(self, room: RoomKey) -> None:
        """Delete the messages of a room, and keep the numbering."""
        await self._running_history().forget(room)

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        """Tell others what rooms have."""
        await self._running_history().declare(declarations, needs_to_declare(declarations))

    async def declared(self) -> list[Declaration]:
        """What rooms have, as workers have told."""
        return await self._running_history().declared()

    async def close(self) -> None:
        """Close every connection."""
        node, self._pair, self._receiver = self._pair, None, None
        if self._failover_timer is not None:
            self._failover_timer.cancel()
            self._failover_timer = None
        history, self._history, self._presence = self._history, None, None
        if node is not None and history is not None:  # else it is closed, or being closed
            self._status.close()
            await asyncio.gather(node.close(), history.lane.close())

    # What the node's connection calls.

    def received(self, channel: Channel, data: bytes) -> None:
        """Pass a message on, unless it is for adapters only."""
        if channel == self._probe_channel:
            if self._pair is not None:
                self._pair.probe_received(data)
        elif channel == self._failover_channel:
            self._failover_reported(data)
        elif self._receiver is not None:
            self._receiver.received(channel, data)

    def gap(self, outage: Outage) -> None:
        """Pass a gap on."""
        if self._receiver is not None:
            own = self._own_channels
            if not own.isdisjoint(outage.channels):
                outage = replace(outage, channels=outage.channels - own)
            self._receiver.gap(outage)

    @property
    def _own_channels(self) -> frozenset[Channel]:
        """Those that nobody but this adapter cares for."""
        return frozenset((self._probe_channel, self._failover_channel))

    def _changed(self) -> None:
        """A connection came, went, or was proven to work."""
        node = self._pair
        if node is None:
            return
        self._status.update(node.connected, node.why_down)
        if self._tell_connected is not None:
            self._tell_connected(node.connected)
        if node.connected and (span := node.publisher.take_failover_span()) is not None:
            node.publisher.publish_volatile(self._failover_channel, encode(span, time.time()))

    def _failover_reported(self, data: bytes) -> None:
        """A worker has left another node, and tells when its messages may have been lost there."""
        node, now = self._pair, time.time()
        if node is None:
            return
        try:
            span = decode(data, now)
        except ValueError:
            self._malformed += 1
            return
        # Unless it is connected, its own gap, which is still to be reported, covers the span.
        if node.subscriber.connected:
            since = node.subscriber.complete_since
            self._report_failover(node, self._failover_gaps.report(span, since, now))

    def _failover_due(self) -> None:
        self._failover_timer, node = None, self._pair
        if node is not None:
            since = node.subscriber.complete_since
            self._report_failover(node, self._failover_gaps.due(since, time.time()))

    def _report_failover(self, node: NodeConnection, gap: Span | None) -> None:
        """Report a gap, and wait for the next one that is due."""
        if gap is not None:
            self.gap(Outage(gap.since, gap.until, node.subscriber.wanted))
        wait = self._failover_gaps.due_in(time.time())
        if wait is not None and self._failover_timer is None:
            loop = asyncio.get_running_loop()
            self._failover_timer = loop.call_later(wait, self._failover_due)

    def _running_history(self) -> History:
        if self._history is None:
            raise NotStarted
        return self._history

    def _running_presence(self) -> NodePresence:
        if self._presence is None:
            raise NotStarted
        return self._presence
