"""The contract between a manager and what carries bytes to the other workers.

The guarantees, which `fastapi_rooms.testing.suite.AdapterSuite` checks against any implementation:

* **Interest.** A worker receives what is published on the channels it subscribes to, and no other.
* **Confirmed.** What anyone publishes after `subscribe` returned reaches the receiver.
* **Order.** What one worker publishes arrives everywhere in the order of its `publish` calls; from
  an adapter that is `SupportsShards`, within each shard.
* **At most once.** Nothing is received twice, except what its own publisher sent again after an
  outage: envelopes carry a sequence by which the manager tells.
* **Accepted or raised.** `publish` returns when the carrier has taken the message, and raises
  `AdapterUnavailable` when it did not in time.
* **Never silent.** When messages may have been missed, the receiver is told by `gap`.
* **Opaque.** Channels and messages are any bytes; neither is looked into.

A worker that publishes on a channel it subscribes to may get its own message back or not; the
manager drops it by its origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import NamedTuple, Protocol, runtime_checkable

from fastapi_rooms.types import Channel


class Outage(NamedTuple):
    """A span of time in which messages on these channels may have been missed."""

    since: float
    """All that the carrier took before that has been received; in seconds since the epoch."""
    until: float
    """When the subscriptions were confirmed again."""
    channels: frozenset[Channel]
    """Those that were wanted from before the loss until after it."""


class AdapterHealth(NamedTuple):
    """What an adapter knows of itself. Times are seconds since the epoch."""

    connected: bool
    """Whether every connection is up and every wanted channel confirmed that is allowed."""
    since: float
    """Since when `connected` has been what it is."""
    last_received: float | None
    """When anything last arrived from the carrier."""
    reconnects: int = 0
    """How many times a lost connection was made again."""
    buffered: int = 0
    """Bytes that wait to be published."""
    dropped: int = 0
    """Messages that were not accepted in time, or not understood."""
    reason: str = ""
    """Why it is not connected, for people; empty when it is, or when nothing is known yet."""
    forbidden: int = 0
    """Channels that were confirmed once, are wanted still, and that the carrier forbids now."""


class Receiver(Protocol):
    """What an adapter delivers to. Neither method waits or raises."""

    def received(self, channel: Channel, data: bytes) -> None:
        """A message on a channel this worker subscribes to."""

    def gap(self, outage: Outage) -> None:
        """Messages may have been missed; what comes from now on is complete again."""


class Adapter(Protocol):
    """Carries bytes between workers. One receiver at a time; may be started again after `close`."""

    prefix: str
    """The first part of every channel, so that applications can share one Redis."""

    @property
    def health(self) -> AdapterHealth:
        """How it is now."""

    async def start(self, receiver: Receiver, channels: Iterable[Channel]) -> None:
        """Open what is needed in the running loop and want `channels` from the start.

        Returns when it is ready, or when the first attempt has failed and others follow in the
        background. Raises `AdapterUnavailable` only for what no further attempt can mend.
        """

    def publish(self, channel: Channel, data: bytes) -> Awaitable[int | None]:
        """Begin to send to every other subscriber; what it returns is to be awaited.

        That raises `AdapterUnavailable` if it is not accepted in time, and gives how many others
        the carrier gave it to, `None` where it does not tell. That is how a worker that died
        without a word is told from one that is merely slow.
        """

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send if that is possible at once, else drop; tells nobody."""

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Want these channels, and return when they are confirmed, however long that takes.

        A caller that stops waiting leaves them wanted; `unsubscribe` is what takes that back.
        Raises `AdapterUnavailable` when the carrier refuses.
        """

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Want these channels no more. Waits for nothing."""

    async def close(self) -> None:
        """Leave no connection, task or subscription. Harmless when not started."""


@runtime_checkable
class SupportsIsAlone(Protocol):
    """What an adapter can do that knows all others: say that there is nobody to publish to."""

    @property
    def is_alone(self) -> bool:
        """Whether no other adapter can receive anything now."""


@runtime_checkable
class SupportsIsLive(Protocol):
    """What an adapter can do that remembers confirmations: spare a join the wait for nothing."""

    def is_live(self, channel: Channel) -> bool:
        """Whether the channel is wanted and confirmed, so that `subscribe` would return at once."""


@runtime_checkable
class SupportsShards(Protocol):
    """What an adapter says whose order holds only among the channels of one shard."""

    def shard_of(self, channel: Channel) -> int:
        """The shard that carries a channel, always the same; every worker says the same."""
