"""Two connections, up or down together: one publishes, one receives, and a probe proves both.

An adapter has one such pair, or one for each node of its carrier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from fastapi_rooms.adapters.probe import Probe, PublishingEnd, SubscribingEnd
from fastapi_rooms.adapters.supervisor import LinkUser, supervise
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


class _End(LinkUser[Any], Protocol):
    """What both ends have."""

    @property
    def why_down(self) -> str:
        """Why it has no link; empty if that is not known."""

    @property
    def refused(self) -> bool:
        """Whether the carrier rejects the login, or forbids what is required."""

    def close(self) -> None:
        """Fail the callers that still wait."""


class Publishing(_End, PublishingEnd, Protocol):
    """The end that publishes."""


class Receiving(_End, SubscribingEnd, Protocol):
    """The end that receives."""

    def want(self, channels: tuple[Channel, ...]) -> None:
        """Want channels, without waiting."""

    def unsubscribe(self, channels: tuple[Channel, ...]) -> None:
        """Stop wanting channels."""


P = TypeVar("P", bound=Publishing)
R = TypeVar("R", bound=Receiving)


class ConnectionPair(Generic[P, R]):
    """The two connections to one place, which are up or down together.

    Args:
        publisher, subscriber: the two ends. They call `links_changed` whenever a link came or went.
        changed: called when a connection came, went, or was proven to work.
        probe_interval: seconds from one probe to the next.
        name: the place's name where there are several, for errors and tasks.
    """

    def __init__(
        self,
        publisher: P,
        subscriber: R,
        changed: Callable[[], None],
        *,
        probe_interval: float,
        name: str = "",
    ) -> None:
        self.publisher = publisher
        self.subscriber = subscriber
        self._changed = changed
        self._name = name
        self._probe = Probe(publisher, subscriber, self.links_changed, interval=probe_interval)
        self._tasks: list[asyncio.Task[None]] = []

    # Its state.

    @property
    def connected(self) -> bool:
        """Whether a probe has come back over the present links."""
        return self._probe.proven

    @property
    def refused(self) -> bool:
        """Whether the carrier rejects the login, or forbids what is required."""
        return self.publisher.refused or self.subscriber.refused or self._probe.refused

    @property
    def why_down(self) -> str:
        """Why it is not connected; empty if the reason is not known."""
        down = [end.why_down for end in (self.publisher, self.subscriber) if not end.connected]
        why = next(filter(None, down), "") if down else self._probe.why
        return f"{self._name}: {why}" if self._name and why else why

    def links_changed(self) -> None:
        """A link came or went, or refuses something."""
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
            **self.background_work(),
        }
        self._tasks = [
            asyncio.create_task(coroutine, name=f"fastapi_rooms {part} {self._name}".rstrip())
            for part, coroutine in work.items()
        ]

    def background_work(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What else has to run meanwhile, by the names of the tasks, until it is cancelled."""
        return {}

    def abort(self, reason: str) -> list[asyncio.Task[None]]:
        """Abort both links, and return the tasks that end by that.

        Callers that wait keep waiting: another pair is to serve them.
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
        for task in self._tasks:
            task.cancel()
        return self._tasks
