"""Sharded pub/sub: a node serves the channels of its slots only, and these move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from fastapi_rooms.adapters.redis.pubsub.dialect import Redirection, Words
from fastapi_rooms.adapters.redis.sharded.slots import Node, group_by_slot, is_redirection, slot_in
from fastapi_rooms.types import Channel

WORDS = Words(
    b"SPUBLISH", b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"smessage", b"ssubscribe", b"sunsubscribe"
)


class SlotMoves(Protocol):
    """Is told by each node's subscriber what became of its channels."""

    def released(self, node: Node, channels: list[Channel]) -> None:
        """The node has unsubscribed these channels, as it was asked to."""

    def withdrawn(self, node: Node, channels: list[Channel], live: list[Channel]) -> None:
        """The node does not serve these channels; `live` are those that were subscribed there."""

    def link_lost(self, node: Node) -> None:
        """The link to the node is lost, and with it every subscription there."""


class ShardedDialect:
    """The dialect of one node's subscriber."""

    words = WORDS
    moves_channels = True

    def __init__(self, node: Node, moves: SlotMoves) -> None:
        self._node = node
        self._moves = moves

    def split(self, channels: list[Channel]) -> Iterator[tuple[int | None, list[Channel]]]:
        """By slot: a command may name the channels of one slot only."""
        yield from group_by_slot(channels).items()

    def redirection(self, error: str) -> Redirection | None:
        """What `MOVED`, `CLUSTERDOWN` and the like say."""
        return Redirection(slot_in(error)) if is_redirection(error) else None

    def unsubscribed(self, channels: list[Channel]) -> None:
        """Place the channels at the node that serves them now, if they were leaving this one."""
        self._moves.released(self._node, channels)

    def withdrawn(self, channels: list[Channel], live: list[Channel]) -> None:
        """Place the channels at the node that serves them now."""
        self._moves.withdrawn(self._node, channels, live)

    def link_lost(self) -> None:
        """Place the channels that were leaving at the node that serves them now."""
        self._moves.link_lost(self._node)
