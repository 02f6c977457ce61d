"""What differs between plain and sharded pub/sub, given to each subscriber and publisher.

A node that stands alone serves every channel, and ends no subscription by itself. A cluster's node
serves those of its slots only: it redirects commands about others, and ends subscriptions when a
slot moves away. The sharded dialect is in [fastapi_rooms.adapters.redis.sharded.dialect][].
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from fastapi_rooms.types import Channel


class Words(NamedTuple):
    """The commands of one kind of pub/sub, and the words that its replies begin with."""

    publish: bytes
    subscribe: bytes
    unsubscribe: bytes
    message: bytes
    subscribed: bytes
    unsubscribed: bytes


class Redirection(NamedTuple):
    """An error by which a node says that it does not serve a slot, or not now."""

    shard: int | None
    """The slot that it is about, if it names one."""


class Dialect(Protocol):
    """The kind of pub/sub of one subscriber, which also reports what became of its channels."""

    words: Words

    moves_channels: bool
    """Whether an unsubscription that was not asked for means that the node stopped serving the
    channel. Otherwise the channel is subscribed again, at the same node."""

    def split(self, channels: list[Channel]) -> Iterator[tuple[int | None, list[Channel]]]:
        """Channels that one command may name together, with their shard if that matters."""

    def redirection(self, error: str) -> Redirection | None:
        """What an error says about the slot of a command, if it is about that."""

    def unsubscribed(self, channels: list[Channel]) -> None:
        """The node has unsubscribed these channels, as it was asked to."""

    def withdrawn(self, channels: list[Channel], live: list[Channel]) -> None:
        """The node does not serve these channels; `live` are those that were subscribed there."""

    def link_lost(self) -> None:
        """The link is lost, and with it every subscription."""


class PlainDialect:
    """Plain pub/sub: one node serves every channel, so nothing has to be reported."""

    words = Words(
        b"PUBLISH", b"SUBSCRIBE", b"UNSUBSCRIBE", b"message", b"subscribe", b"unsubscribe"
    )
    moves_channels = False

    def split(self, channels: list[Channel]) -> Iterator[tuple[int | None, list[Channel]]]:
        """All of them together."""
        yield None, channels

    def redirection(self, error: str) -> Redirection | None:
        """None: there is no other node."""

    def unsubscribed(self, channels: list[Channel]) -> None:
        """Nothing to do: no other node waits for the channels."""

    def withdrawn(self, channels: list[Channel], live: list[Channel]) -> None:
        """Does not happen, as there are no redirections and no moves."""

    def link_lost(self) -> None:
        """Nothing to do: the subscriber asks the next link for everything."""


class TellingDialect(PlainDialect):
    """Plain pub/sub that tells when Redis has confirmed that channels are unsubscribed."""

    def __init__(self) -> None:
        self.unsubscribed_some = asyncio.Event()
        """Set with every such confirmation, and when the link is lost."""

    def unsubscribed(self, channels: list[Channel]) -> None:  # noqa: ARG002 -- as every dialect
        """Wake up who waits for it."""
        self.unsubscribed_some.set()

    def link_lost(self) -> None:
        """Wake them up: nothing is subscribed to any more."""
        self.unsubscribed_some.set()


PLAIN = PlainDialect()
