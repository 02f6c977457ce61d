"""One Redis node: a publisher, a subscriber, and the probe that proves that they reach each other.

`RedisAdapter` has one of these, `RedisClusterAdapter` one for each master.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from fastapi_rooms.adapters.base import Receiver
from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.probe import Probe
from fastapi_rooms.adapters.redis.links.source import Source
from fastapi_rooms.adapters.redis.pubsub.dialect import PLAIN, Dialect
from fastapi_rooms.adapters.redis.pubsub.publisher import Publisher, RedirectHandler
from fastapi_rooms.adapters.redis.pubsub.subscriber import Subscriber
from fastapi_rooms.adapters.subscriptions import Losses
from fastapi_rooms.adapters.supervisor import supervise
from fastapi_rooms.adapters.waiters import Waiters
from fastapi_rooms.core.checks import check_count, check_positive
from fastapi_rooms.types import Channel


class Settings(NamedTuple):
    """The settings of an adapter that its connections go by; times are seconds."""

    publish_timeout: float
    connect_timeout: float
    max_buffered_bytes: int
    probe_interval: float

    def checked(self) -> Settings:
        """The same. Raises `ConfigurationError` for a number that a setting cannot have."""
        check_positive("publish_timeout", self.publish_timeout)
        check_positive("connect_timeout", self.connect_timeout)
        check_positive("probe_interval", self.probe_interval)
        check_count("max_buffered_bytes", self.max_buffered_bytes, "bytes")
        return self


class NodeConnection:
    """The two connections to one node, which are up or down together.

    Args:
        source: opens the links to the node.
        receiver: gets the messages and gaps, and hands probes back to `probe_received`.
        changed: called when a connection came, went, or was proven to work.
        settings: the settings of the adapter.
        budget: how many bytes may wait to be accepted; nodes can share one.
        name: the node's name where there are several, for errors and tasks.
        dialect: the kind of pub/sub.
        redirects: takes over messages that the node does not serve.
        waiters, losses, required: see `Subscriber`; nodes can share them.
    """

    def __init__(
        self,
        source: Source,
        receiver: Receiver,
        changed: Callable[[], None],
        settings: Settings,
        budget: ByteBudget,
        *,
        name: str = "",
        dialect: Dialect = PLAIN,
        redirects: RedirectHandler | None = None,
        waiters: Waiters | None = None,
        losses: Losses | None = None,
        required: AbstractSet[Channel] = frozenset(),
    ) -> None:
        self._source = source
        self._changed = changed
        self._name = name
        self.publisher = Publisher(
            source,
            self._links_changed,
            connect_timeout=settings.connect_timeout,
            timeout=settings.publish_timeout,
            budget=budget,
            verb=dialect.words.publish,
            redirects=redirects,
        )
        self.subscriber = Subscriber(
            source,
            receiver,
            self._links_changed,
            connect_timeout=settings.connect_timeout,
            dialect=dialect,
            waiters=waiters,
            losses=losses,
            required=required,
        )
        self._probe = Probe(
            self.publisher, self.subscriber, self._links_changed, interval=settings.probe_interval
        )
        self._tasks: list[asyncio.Task[None]] = []

    # Its state.

    @property
    def connected(self) -> bool:
        """Whether a probe has come back over the present links."""
        return self._probe.proven

    @property
    def refused(self) -> bool:
        """Whether Redis rejects the login, or forbids what is required."""
        return self.publisher.refused or self.subscriber.refused or self._probe.refused

    @property
    def why_down(self) -> str:
        """Why it is not connected; empty if the reason is not known."""
        down = [end.why_down for end in (self.publisher, self.subscriber) if not end.connected]
        why = next(filter(None, down), "") if down else self._probe.why
        return f"{self._name}: {why}" if self._name and why else why

    def _links_changed(self) -> None:
        self._probe.links_changed()
        self._changed()

    # Its probe.

    @property
    def probe_channel(self) -> Channel | None:
        """The channel of the probes; if there is none, links that are up count as proof."""
        return self._probe.channel

    def probe_on(self, channel: Channel | None) -> None:
        """Send probes on this channel instead of the present one, and subscribe to it."""
        if self._probe.channel is not None:
            self.subscriber.unsubscribe((self._probe.channel,))
        self._probe.use(channel)
        if channel is not None:
            self.subscriber.want((channel,))

    def probe_received(self, data: bytes) -> None:
        """A message has arrived on the channel of the probes."""
        self._probe.received(data)

    # Its beginning and end.

    def start(self) -> None:
        """Connect in the background, and stay connected."""
        work = {
            "publisher": supervise(self.publisher),
            "subscriber": supervise(self.subscriber),
            "probe": self._probe.run(),
        }
        self._tasks = [
            asyncio.create_task(coroutine, name=f"fastapi_rooms {part} {self._name}".rstrip())
            for part, coroutine in work.items()
        ]
        self._tasks += [
            asyncio.create_task(coroutine, name="fastapi_rooms sentinels")
            for coroutine in self._source.background_tasks()
        ]

    def abort(self, reason: str) -> list[asyncio.Task[None]]:
        """Abort both links, and return the tasks that end by that.

        Callers that wait keep waiting: another node is to serve them.
        """
        self.subscriber.abort(reason)
        self.publisher.abort(reason)
        return self._cancel()

    async def close(self) -> None:
        """Close both connections, and fail the callers that still wait."""
        await asyncio.gather(*self._cancel(), return_exceptions=True)
        self.publisher.close()
        self.subscriber.close()

    def _cancel(self) -> list[asyncio.Task[None]]:
        self.subscriber.stop_retries()
        for task in self._tasks:
            task.cancel()
        return self._tasks
