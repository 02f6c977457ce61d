"""The adapter for one RabbitMQ, or for a cluster of them."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from fastapi_rooms.adapters.base import AdapterHealth, Outage, Receiver
from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.connection_pair import ConnectionPair, Settings
from fastapi_rooms.adapters.connection_status import ConnectionStatus
from fastapi_rooms.adapters.paired import PairedAdapter
from fastapi_rooms.adapters.rabbitmq.extra import require
from fastapi_rooms.adapters.rabbitmq.links.access import access_of
from fastapi_rooms.adapters.rabbitmq.pubsub.messages import exchange_of
from fastapi_rooms.adapters.subscriptions import Losses
from fastapi_rooms.adapters.urls import Url
from fastapi_rooms.core.checks import check_count
from fastapi_rooms.core.names import check_prefix
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel

if TYPE_CHECKING:
    from fastapi_rooms.adapters.rabbitmq.pubsub.publisher import Publisher
    from fastapi_rooms.adapters.rabbitmq.pubsub.subscriber import Subscriber

Pair: TypeAlias = "ConnectionPair[Publisher, Subscriber]"


class RabbitMQAdapter(PairedAdapter[Pair]):
    """Carries bytes between workers by RabbitMQ, over two connections for each worker.

    Each worker has a queue of its own, bound to an exchange that is named as the prefix is: by one
    binding for each channel that it wants. Rooms that remember, and rooms that know who is present,
    are not to be had here.

    Args:
        url: `amqp://user:password@host:5672/vhost`, `amqps://` with TLS, or several hosts,
            `amqp://user:password@one,two:5672/vhost`: each time the first of them is used that
            can be.
        prefix: the name of the exchange, and the first part of that of every queue, so that
            applications can share one RabbitMQ.
        publish_timeout: seconds a message may take to be accepted, outages included.
        connect_timeout: seconds that opening a connection may take.
        max_buffered_bytes: how much may wait to be accepted, above all in an outage; each message
            counts its length and 256 bytes.
        probe_interval: every so many seconds the adapter publishes a message to itself. If that
            does not come back within as many seconds again, both connections are made anew,
            however healthy their sockets look; if other messages do arrive, only when it is the
            third in a row.
        max_queue_bytes: how much may wait in this worker's queue, in RabbitMQ's memory, beside up
            to 1,024 messages that are on their way to it. Of more the oldest is lost, and a `gap`
            tells of it.
        ssl: for `amqps://`, in place of the URL's options.

    Raises:
        ConfigurationError: for a URL that cannot be used, or a number that a setting cannot have;
            or the extra `rabbitmq` is not installed.
    """

    def __init__(
        self,
        url: Url,
        *,
        prefix: str = "rooms",
        publish_timeout: float = 5.0,
        connect_timeout: float = 5.0,
        max_buffered_bytes: int = 32 * 1024 * 1024,
        probe_interval: float = 10.0,
        max_queue_bytes: int = 64 * 1024 * 1024,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        require("RabbitMQAdapter")
        self._settings = Settings(
            publish_timeout, connect_timeout, max_buffered_bytes, probe_interval
        ).checked()
        check_count("max_queue_bytes", max_queue_bytes, "bytes")
        self.prefix = check_prefix(prefix)
        self._max_queue_bytes = max_queue_bytes
        self._exchange = exchange_of(self.prefix)
        self._access = access_of(url, "RabbitMQAdapter", ssl)
        self._receiver: Receiver | None = None
        self._probe_channel = b""
        self._budget = ByteBudget(max_buffered_bytes)
        self._status = ConnectionStatus("RabbitMQ")

    @property
    def health(self) -> AdapterHealth:
        """The state of the connections."""
        pair, status = self._pair, self._status
        if pair is None:
            return AdapterHealth(False, status.since, None)
        return AdapterHealth(
            status.connected,
            status.since,
            pair.subscriber.last_received,
            pair.subscriber.reconnects,
            self._budget.used,
            pair.publisher.dropped + pair.subscriber.malformed,
            status.reason,
        )

    async def start(self, receiver: Receiver, channels: Iterable[Channel]) -> None:
        """Connect; return when ready, or when the first attempt failed.

        Raises:
            AdapterUnavailable: RabbitMQ rejects the login, or forbids what is needed.
        """
        self._receiver = receiver
        self._probe_channel = f"{self.prefix}#probe.{secrets.token_hex(8)}#".encode()
        self._status.start()
        self._budget = ByteBudget(self._settings.max_buffered_bytes)
        pair = self._pair = self._new_pair()
        pair.subscriber.want(channels)
        pair.probe_on(self._probe_channel)
        pair.start()
        try:
            await self._status.first_attempt(self._settings.connect_timeout)
        except BaseException:
            await self.close()
            raise
        if pair.refused:
            reason = self._status.reason
            await self.close()
            raise AdapterUnavailable(f"RabbitMQ refuses what is needed: {reason}")

    def _new_pair(self) -> Pair:
        from fastapi_rooms.adapters.rabbitmq.pubsub.publisher import Publisher
        from fastapi_rooms.adapters.rabbitmq.pubsub.subscriber import Subscriber

        connect_timeout = self._settings.connect_timeout

        def links_changed() -> None:
            pair.links_changed()

        publisher = Publisher(
            self._access,
            links_changed,
            exchange=self._exchange,
            connect_timeout=connect_timeout,
            timeout=self._settings.publish_timeout,
            budget=self._budget,
        )
        subscriber = Subscriber(
            self._access,
            self,
            links_changed,
            exchange=self._exchange,
            connect_timeout=connect_timeout,
            max_queue_bytes=self._max_queue_bytes,
            losses=Losses(frozenset((self._probe_channel,))),
        )
        pair: Pair = ConnectionPair(
            publisher, subscriber, self._changed, probe_interval=self._settings.probe_interval
        )
        return pair

    def publish(self, channel: Channel, data: bytes) -> Awaitable[int | None]:
        """Send it; done when RabbitMQ has accepted it: 0 if it reached nobody, else `None`."""
        return self._running().publisher.publish(channel, data)

    async def close(self) -> None:
        """Close both connections."""
        pair, self._pair, self._receiver = self._pair, None, None
        if pair is not None:  # else it is closed, or being closed
            self._status.close()
            await pair.close()

    # What the subscriber calls.

    def received(self, channel: Channel, data: bytes) -> None:
        """Pass a message on, unless it is a probe."""
        if channel == self._probe_channel:
            if self._pair is not None:
                self._pair.probe_received(data)
        elif self._receiver is not None:
            self._receiver.received(channel, data)

    def gap(self, outage: Outage) -> None:
        """Pass a gap on."""
        if self._receiver is not None:
            if self._probe_channel in outage.channels:
                outage = replace(outage, channels=outage.channels - {self._probe_channel})
            self._receiver.gap(outage)

    def _changed(self) -> None:
        """A connection came, went, or was proven to work."""
        if self._pair is not None:
            self._status.update(self._pair.connected, self._pair.why_down)
