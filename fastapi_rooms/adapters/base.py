"""The contract between a manager and an adapter, by which bytes reach the other workers.

What the adapter talks to is called the carrier: Redis, say.

The guarantees, which `fastapi_rooms.testing.suite.AdapterSuite` checks against any implementation:

* **Interest.** A worker receives what is published on the channels it subscribes to, and no other.
* **Confirmed.** What anyone publishes after `subscribe` returned reaches the receiver.
* **Order.** What one worker publishes arrives everywhere in the order of its `publish` calls; from
  an adapter that is `SupportsShards`, within each shard.
* **At most once.** Nothing is received twice, except what its own publisher sent again after an
  outage. Envelopes carry a sequence number by which the manager drops those duplicates.
* **Accepted or raised.** `publish` returns when the carrier has taken the message, and raises
  `AdapterUnavailable` when it did not in time.
* **Never silent.** When messages may have been missed, the receiver is told by `gap`: also on
  channels that came to be wanted, by `want`, while the carrier was away.
* **Opaque.** Channels and messages are arbitrary bytes; adapters do not interpret them.

A worker that publishes on a channel it subscribes to may or may not receive its own message; the
manager drops it by its origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fastapi_rooms.types import Channel


@dataclass(frozen=True, slots=True)
class Outage:
    """A span of time in which messages on these channels may have been missed."""

    since: float
    """Everything that the carrier took before has been received, on channels that were wanted by
    then; in seconds since the epoch."""
    until: float
    """When the subscriptions were confirmed again."""
    channels: frozenset[Channel]
    """Those that were wanted until after it: from before the loss on, or since `want` was called
    for them in the midst of it. If there are only such, `since` is when that was first done."""


@dataclass(frozen=True, slots=True)
class AdapterHealth:
    """What an adapter knows about itself. Times are seconds since the epoch."""

    connected: bool
    """Whether every connection is up, and every wanted channel that is allowed is confirmed."""
    since: float
    """Since when `connected` has had its value."""
    last_received: float | None
    """When anything last arrived from the carrier."""
    reconnects: int = 0
    """How many times a lost connection was re-established."""
    buffered: int = 0
    """Bytes that wait to be accepted, with what the queue of them costs."""
    dropped: int = 0
    """Messages that were not accepted in time, or not understood."""
    reason: str = ""
    """Why it is not connected, for people; empty when it is, or when the reason is not known."""
    forbidden: int = 0
    """Channels that are wanted and were confirmed once, and that the carrier now forbids."""


class Receiver(Protocol):
    """What an adapter delivers to. Neither method waits or raises."""

    def received(self, channel: Channel, data: bytes) -> None:
        """A message arrived on a channel this worker subscribes to."""

    def gap(self, outage: Outage) -> None:
        """Messages may have been missed; what arrives from now on is complete again.

        This may come before `health` says that the adapter is connected, which needs more: also
        publishing has to work.
        """


class Adapter(Protocol):
    """Carries bytes between workers. One receiver at a time; may be started again after `close`."""

    prefix: str
    """The first part of every channel, so that applications can share one carrier."""

    @property
    def health(self) -> AdapterHealth:
        """The present state."""

    async def start(self, receiver: Receiver, channels: Iterable[Channel]) -> None:
        """Connect in the running loop, and subscribe to `channels` from the start.

        Returns when the adapter is ready, or when the first attempt has failed; further attempts
        follow in the background. Raises `AdapterUnavailable` only if none of them could succeed.
        """

    def publish(self, channel: Channel, data: bytes) -> Awaitable[int | None]:
        """Start to send to every other subscriber; await the result to know what became of it.

        The result is the number of other adapters that the carrier delivered to, or `None` where
        it does not tell: a worker that died unnoticed is recognised by it. Raises
        `AdapterUnavailable` if the message is not accepted in time.
        """

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send if that is possible at once, otherwise drop it silently."""

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Want these channels, and return when they are confirmed, however long that takes.

        The channels stay wanted if the caller is cancelled; only `unsubscribe` reverts that.
        Raises `AdapterUnavailable` if the carrier refuses.
        """

    def want(self, channels: Iterable[Channel]) -> None:
        """Want these channels without waiting: for those who come while the carrier is away.

        They are subscribed to as soon as that is possible. Until a channel is confirmed, messages
        may be missed on it; so a `gap` follows, whose time includes that of this call. None is
        owed for channels that are confirmed already.
        """

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Stop wanting these channels, without waiting for the carrier."""

    async def close(self) -> None:
        """Close every connection, and end every task. Does nothing when not started."""


@runtime_checkable
class SupportsIsAlone(Protocol):
    """An adapter that knows all others, and so whether there is anyone to publish to."""

    @property
    def is_alone(self) -> bool:
        """Whether no other adapter can receive anything now."""


@runtime_checkable
class SupportsIsLive(Protocol):
    """An adapter that remembers confirmations, so that a join need not wait for `subscribe`."""

    def is_live(self, channel: Channel) -> bool:
        """Whether the channel is wanted and confirmed, so that `subscribe` would return at once."""


@runtime_checkable
class SupportsShards(Protocol):
    """An adapter that keeps order only among the channels of one shard.

    Shards can be away one by one, while the others serve: then `health` says not connected.
    """

    def shard_of(self, channel: Channel) -> int:
        """The shard that carries a channel: always the same, and the same on every worker."""

    def is_reachable(self, channel: Channel) -> bool:
        """Whether the shard that carries a channel is connected now."""
