"""The Redis adapter: a publisher, a subscriber, and a probe that proves they reach each other."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Iterable

from redis.asyncio import Redis

from fastapi_rooms.adapters.base import AdapterHealth, Outage, Receiver
from fastapi_rooms.adapters.connection_status import ConnectionStatus
from fastapi_rooms.adapters.redis.links.source import source_of
from fastapi_rooms.adapters.redis.links.urls import pool_of
from fastapi_rooms.adapters.redis.pubsub.failover_gaps import FailoverGaps, decode, encode
from fastapi_rooms.adapters.redis.pubsub.probe import Probe
from fastapi_rooms.adapters.redis.pubsub.publisher import Budget, Publisher
from fastapi_rooms.adapters.redis.pubsub.subscriber import Subscriber
from fastapi_rooms.adapters.supervisor import supervise
from fastapi_rooms.core.checks import check_count, check_positive
from fastapi_rooms.errors import AdapterUnavailable, NotStarted
from fastapi_rooms.types import Channel


class RedisAdapter:
    """Carries bytes between workers by Redis' pub/sub, over two connections for each worker.

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `rediss+sentinel://`,
            with redis-py's query options), or a `redis.asyncio.Redis` of your own, one of
            `Sentinel.master_for` included. Its connection settings are used; its pool is not: the
            adapter opens two connections of its own and leaves yours alone.
        prefix: the first part of every channel, so that applications can share one Redis.
        publish_timeout: seconds a message may take to be accepted, outages included.
        connect_timeout: seconds that opening a connection may take.
        max_buffered_bytes: how much may wait to be accepted, in an outage above all.
        probe_interval: every so many seconds the adapter asks whether it is still at a master, and
            publishes a message to itself. If that does not come back within as many seconds again,
            both connections are made anew, however healthy their sockets look; if other messages
            do come, only when it is the third in a row.

    Raises:
        ConfigurationError: for a URL or client that cannot be used, or a number that a setting
            cannot have.
    """

    def __init__(
        self,
        redis: str | Redis,
        *,
        prefix: str = "rooms",
        publish_timeout: float = 5.0,
        connect_timeout: float = 5.0,
        max_buffered_bytes: int = 32 * 1024 * 1024,
        probe_interval: float = 10.0,
    ) -> None:
        check_positive("publish_timeout", publish_timeout)
        check_positive("connect_timeout", connect_timeout)
        check_positive("probe_interval", probe_interval)
        check_count("max_buffered_bytes", max_buffered_bytes, "bytes")
        self.prefix = prefix
        self._pool = pool_of(redis)
        self._publish_timeout = publish_timeout
        self._connect_timeout = connect_timeout
        self._max_buffered = max_buffered_bytes
        self._probe_interval = probe_interval
        self._publisher: Publisher | None = None
        self._subscriber: Subscriber | None = None
        self._round_trip: Probe | None = None
        self._receiver: Receiver | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._probe_channel = b""
        self._moved_channel = f"{prefix}#moved#".encode()
        self._strays = FailoverGaps()
        self._budget = Budget(max_buffered_bytes)
        self._standing = ConnectionStatus("Redis")

    @property
    def health(self) -> AdapterHealth:
        """How both connections are now."""
        publisher, subscriber = self._publisher, self._subscriber
        if publisher is None or subscriber is None:
            return AdapterHealth(False, self._standing.since, None)
        return AdapterHealth(
            self._standing.connected,
            self._standing.since,
            subscriber.last_received,
            subscriber.reconnects,
            self._budget.used,
            publisher.dropped,
            self._standing.reason,
            len(subscriber.forbidden),
        )

    async def start(self, receiver: Receiver, channels: Iterable[Channel]) -> None:
        """Connect; return when ready, or when the first attempt failed.

        Raises:
            AdapterUnavailable: Redis rejects the username or password.
        """
        self._receiver = receiver
        self._probe_channel = f"{self.prefix}#probe.{secrets.token_hex(8)}#".encode()
        self._strays = FailoverGaps()
        self._standing.start()
        self._budget = Budget(self._max_buffered)
        source = source_of(self._pool, ping_interval=self._probe_interval)
        self._publisher = Publisher(
            source,
            self._changed,
            connect_timeout=self._connect_timeout,
            timeout=self._publish_timeout,
            budget=self._budget,
        )
        needed = frozenset((self._probe_channel, self._moved_channel, *channels))
        self._subscriber = Subscriber(
            source, self, self._changed, connect_timeout=self._connect_timeout, needed=needed
        )
        self._round_trip = Probe(
            self._publisher,
            self._subscriber,
            self._probe_channel,
            self._changed,
            interval=self._probe_interval,
        )
        self._subscriber.want(needed)
        self._tasks = [
            asyncio.create_task(supervise(self._publisher), name="fastapi_rooms publisher"),
            asyncio.create_task(supervise(self._subscriber), name="fastapi_rooms subscriber"),
            asyncio.create_task(self._round_trip.run(), name="fastapi_rooms probe"),
            *(
                asyncio.create_task(c, name="fastapi_rooms sentinels")
                for c in source.background_tasks()
            ),
        ]
        try:
            await self._standing.first_attempt(self._connect_timeout)
        except BaseException:
            await self.close()
            raise
        if any(part.refused for part in (self._publisher, self._subscriber, self._round_trip)):
            reason = self._standing.reason
            await self.close()
            raise AdapterUnavailable(f"Redis rejects the login: {reason}")

    def publish(self, channel: Channel, data: bytes) -> Awaitable[int]:
        """Send it; done when Redis has accepted it, with the number of others it went to."""
        return self._others(channel, self._running_publisher().publish(channel, data))

    async def _others(self, channel: Channel, accepted: Awaitable[int]) -> int:
        receivers = await accepted
        echo = self.is_live(channel)
        return max(receivers - echo, 0)

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send it if Redis is there to take it."""
        self._running_publisher().publish_volatile(channel, data)

    def is_live(self, channel: Channel) -> bool:
        """Whether Redis has confirmed it on the present connection, and it is still wanted."""
        return self._subscriber is not None and self._subscriber.is_live(channel)

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Return when Redis has confirmed every channel."""
        await self._running_subscriber().subscribe(channels)

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Leave the channels with the next command."""
        self._running_subscriber().unsubscribe(channels)

    async def close(self) -> None:
        """Close both connections."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._publisher is not None:
            self._publisher.close()
        if self._subscriber is not None:
            self._subscriber.close()
        self._publisher = self._subscriber = self._round_trip = self._receiver = None
        self._standing.close()

    # What the subscriber calls.

    def received(self, channel: Channel, data: bytes) -> None:
        """Pass it on, unless it is for adapters only."""
        if channel == self._probe_channel:
            if self._round_trip is not None:
                self._round_trip.received(data)
        elif channel == self._moved_channel:
            self._moved(data)
        elif self._receiver is not None:
            self._receiver.received(channel, data)

    def gap(self, outage: Outage) -> None:
        """Pass it on."""
        if self._receiver is not None:
            channels = outage.channels - {self._probe_channel, self._moved_channel}
            self._receiver.gap(outage._replace(channels=channels))

    def _changed(self) -> None:
        """A connection came, went, or proved itself."""
        publisher, subscriber, round_trip = self._publisher, self._subscriber, self._round_trip
        if publisher is None or subscriber is None or round_trip is None:
            return
        round_trip.links_changed()
        if publisher.connected and subscriber.connected:
            why = round_trip.why
        else:
            down = [part.why_down for part in (publisher, subscriber) if not part.connected]
            why = next(filter(None, down), "")
        self._standing.update(round_trip.proven, why)
        if round_trip.proven and publisher.strayed is not None:
            span, publisher.strayed = publisher.strayed, None
            publisher.publish_volatile(self._moved_channel, encode(span, time.time()))

    def _moved(self, data: bytes) -> None:
        """A worker has come from another node, and says what it may have published in vain."""
        publisher, subscriber, now = self._publisher, self._subscriber, time.time()
        if publisher is None or subscriber is None:
            return
        try:
            span = decode(data, now)
        except ValueError:
            publisher.dropped += 1
            return
        if not subscriber.connected:
            return  # its own gap is still to come
        news = self._strays.news(span, subscriber.complete_since, now)
        if news is not None:
            self.gap(Outage(news.since, news.until, subscriber.wanted))

    def _running_publisher(self) -> Publisher:
        if self._publisher is None:
            raise NotStarted
        return self._publisher

    def _running_subscriber(self) -> Subscriber:
        if self._subscriber is None:
            raise NotStarted
        return self._subscriber
