"""What an adapter can do where others publish on its carrier, in a format of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from fastapi_rooms.types import Channel


@runtime_checkable
class SupportsForeign(Protocol):
    """An adapter by which also those can be heard, and told something, who are no workers."""

    def hear_patterns(self, patterns: Sequence[Channel], connected: Callable[[bool], None]) -> None:
        """From the next start on, receive what is published on channels of these patterns, too.

        `connected` is called whenever it may have become connected, or not: also as soon as
        nothing can be published any more.
        """

    def publish_once(self, channel: Channel, data: bytes) -> Awaitable[int]:
        """Publish, and never again: receivers do not know a repetition from another message.

        The result is how many connections it was given to, patterns included. Raises
        `AdapterUnavailable` when the connection is lost before the carrier has answered.
        """

    def ask_for(self, channels: Iterable[Channel]) -> None:
        """Subscribe to channels without waiting; nothing that is missed on them is a gap."""

    async def count_subscribers(self, channel: Channel) -> int:
        """How many connections subscribe to a channel, by its name. Raises `AdapterUnavailable`."""

    async def withdraw(self, channels: Sequence[Channel]) -> None:
        """Unsubscribe, and return when the carrier has confirmed it or the connection is lost."""
