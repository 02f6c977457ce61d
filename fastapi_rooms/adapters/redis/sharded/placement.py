"""At which node of a cluster each channel is subscribed, as a state machine without I/O.

Strategy: a channel is subscribed at one node at a time, so that its messages arrive in order. It is
placed at the next node only when the last one has released it: by itself, as Redis does when a slot
has moved away; when it was asked to; or because the connection to it is lost. A new topology alone
takes no channel from a node that still serves it, as others may still publish there.

    UNPLACED ──owner known──▶ PLACED ──slot has another owner──▶ MISPLACED
       ▲                        │                                    │ leave
       └──node released it──────┴──────────── LEAVING ◀──────────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from fastapi_rooms.adapters.redis.sharded.slots import Node, Topology, slot_of
from fastapi_rooms.types import Channel

Placed: TypeAlias = dict[Node, list[Channel]]
"""Channels, by the nodes at which to subscribe to them, or to unsubscribe from them."""


class Placement:
    """The wanted channels, and the node of each."""

    def __init__(self) -> None:
        self._topology = Topology()
        self._nodes: dict[Channel, Node] = {}
        self._unplaced: dict[Channel, None] = {}
        self._leaving: dict[Channel, Node] = {}
        self._may_be_misplaced = False

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._nodes or channel in self._unplaced

    @property
    def unplaced(self) -> int:
        """How many wanted channels are at no node."""
        return len(self._unplaced)

    def node_of(self, channel: Channel) -> Node | None:
        """The node at which a channel is subscribed, or is being subscribed."""
        return self._nodes.get(channel)

    def at(self, node: Node, which: Callable[[Channel], bool]) -> list[Channel]:
        """Some of the channels at a node."""
        return [c for c, at in self._nodes.items() if at == node and which(c)]

    # The application.

    def want(self, channels: Iterable[Channel]) -> Placed:
        """Want channels. Returns those to subscribe to."""
        return self._place([channel for channel in channels if channel not in self])

    def unwant(self, channels: Iterable[Channel]) -> Placed:
        """Stop wanting channels. Returns those to unsubscribe from."""
        left: Placed = {}
        for channel in channels:
            self._unplaced.pop(channel, None)
            self._leaving.pop(channel, None)
            node = self._nodes.pop(channel, None)
            if node is not None:
                left.setdefault(node, []).append(channel)
        return left

    # The topology.

    def update(self, topology: Topology) -> Placed:
        """The topology is confirmed, or new. Returns the unplaced channels to subscribe to."""
        # By nothing else: what is placed is where the topology of that moment says.
        self._may_be_misplaced |= topology != self._topology
        self._topology = topology
        unplaced, self._unplaced = self._unplaced, {}
        return self._place(unplaced)

    def misplaced(self) -> Placed:
        """The channels at nodes that do not serve them any more, except those being left."""
        misplaced: Placed = {}
        if not self._may_be_misplaced:  # it is asked after each look at the topology
            return misplaced
        owner = self._topology.owner
        for channel, node in self._nodes.items():
            if owner(slot_of(channel)) != node and channel not in self._leaving:
                misplaced.setdefault(node, []).append(channel)
        self._may_be_misplaced = bool(misplaced)
        return misplaced

    def leave(self, channels: Iterable[Channel]) -> None:
        """Note that their nodes have been asked to release these channels."""
        for channel in channels:
            if channel in self._nodes:
                self._leaving[channel] = self._nodes[channel]

    # The nodes. Each event returns the channels to subscribe to at other nodes.

    def released(self, node: Node, channels: Iterable[Channel]) -> Placed:
        """A node has unsubscribed channels; only those that are leaving go to another node."""
        return self.withdrawn(node, [c for c in channels if self._leaving.get(c) == node])

    def link_lost(self, node: Node) -> Placed:
        """The connection to a node is lost, which releases the channels that are leaving."""
        return self.withdrawn(node, [c for c, at in self._leaving.items() if at == node])

    def removed(self, node: Node) -> Placed:
        """A node is no master any more."""
        return self.withdrawn(node, self.at(node, lambda _: True))

    def withdrawn(self, node: Node, channels: Iterable[Channel]) -> Placed:
        """A node has stopped serving channels, or never served them.

        Where the topology says that they belong to this very node, it is out of date: these wait
        for the next topology.
        """
        elsewhere = []
        for channel in channels:
            if self._nodes.get(channel) != node:
                continue  # placed at another node already, or not wanted any more
            del self._nodes[channel]
            self._leaving.pop(channel, None)
            if self._topology.owner(slot_of(channel)) == node:
                self._unplaced[channel] = None
            else:
                elsewhere.append(channel)
        return self._place(elsewhere)

    def _place(self, channels: Iterable[Channel]) -> Placed:
        placed: Placed = {}
        for channel in channels:
            node = self._topology.owner(slot_of(channel))
            if node is None:
                self._unplaced[channel] = None
            else:
                self._nodes[channel] = node
                placed.setdefault(node, []).append(channel)
        return placed
