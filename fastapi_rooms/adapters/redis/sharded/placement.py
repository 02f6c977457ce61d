"""At which node of a cluster each channel is subscribed, as a state machine without I/O.

Strategy: a channel is subscribed at one node at a time, so that what arrives on it is in order. It
is given to the next node only when the last one has let it go: by itself, as Redis does when a slot
has moved away; when asked to; or because the connection to it is gone. A topology alone takes
nothing from a node that still serves it, for others may still publish there.

    homeless ──owner known──▶ AT HOME ──slot has another owner──▶ ASTRAY
       ▲                        │                                   │ leave
       └──node lets it go───────┴──────────── LEAVING ◀─────────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from fastapi_rooms.adapters.redis.slots import Node, Topology, slot_of
from fastapi_rooms.types import Channel

Placed: TypeAlias = dict[Node, list[Channel]]
"""Channels, and the nodes at which something is to be done with them."""


class Placement:
    """The wanted channels, and the node of each."""

    def __init__(self) -> None:
        self._topology = Topology()
        self._home: dict[Channel, Node] = {}
        self._homeless: dict[Channel, None] = {}
        self._leaving: dict[Channel, Node] = {}

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._home or channel in self._homeless

    @property
    def homeless(self) -> int:
        """How many wanted channels no node has been asked for."""
        return len(self._homeless)

    def home(self, channel: Channel) -> Node | None:
        """The node that a channel is subscribed at, or is asked for."""
        return self._home.get(channel)

    def at(self, node: Node, which: Callable[[Channel], bool]) -> list[Channel]:
        """Some of what is at a node."""
        return [c for c, home in self._home.items() if home == node and which(c)]

    def want(self, channels: Iterable[Channel]) -> Placed:
        """Wish to be subscribed. Returns what to subscribe to where."""
        return self._place([channel for channel in channels if channel not in self])

    def unwant(self, channels: Iterable[Channel]) -> Placed:
        """Wish not to be. Returns what to unsubscribe from where."""
        left: Placed = {}
        for channel in channels:
            self._homeless.pop(channel, None)
            self._leaving.pop(channel, None)
            node = self._home.pop(channel, None)
            if node is not None:
                left.setdefault(node, []).append(channel)
        return left

    def learn(self, topology: Topology) -> Placed:
        """The slots are served so. Returns what to subscribe to where: all that was homeless."""
        self._topology = topology
        homeless, self._homeless = self._homeless, {}
        return self._place(homeless)

    def astray(self) -> Placed:
        """What is subscribed at a node that does not serve it any more, and is not leaving."""
        astray: Placed = {}
        owner = self._topology.owner
        for channel, node in self._home.items():
            if owner(slot_of(channel)) != node and channel not in self._leaving:
                astray.setdefault(node, []).append(channel)
        return astray

    def leave(self, channels: Iterable[Channel]) -> None:
        """These have been asked to be let go of by the nodes they are at."""
        for channel in channels:
            if channel in self._home:
                self._leaving[channel] = self._home[channel]

    def let_go(self, node: Node, channels: Iterable[Channel]) -> Placed:
        """A node has let these go as it was asked to. Returns what to subscribe to where."""
        return self.taken(node, [c for c in channels if self._leaving.get(c) == node])

    def lost(self, node: Node) -> Placed:
        """The connection to a node is gone, and so is what it was asked to let go of."""
        return self.taken(node, [c for c, at in self._leaving.items() if at == node])

    def gone(self, node: Node) -> Placed:
        """There is no such node any more. Returns what to subscribe to where."""
        return self.taken(node, self.at(node, lambda _: True))

    def taken(self, node: Node, channels: Iterable[Channel]) -> Placed:
        """A node has given these up, or will not have them. Returns what to subscribe to where.

        Where the topology says that they belong to this very node, it is out of date: these wait
        for the next one.
        """
        elsewhere = []
        for channel in channels:
            if self._home.get(channel) != node:
                continue  # given to another already, or not wanted any more
            del self._home[channel]
            self._leaving.pop(channel, None)
            if self._topology.owner(slot_of(channel)) == node:
                self._homeless[channel] = None
            else:
                elsewhere.append(channel)
        return self._place(elsewhere)

    def _place(self, channels: Iterable[Channel]) -> Placed:
        placed: Placed = {}
        for channel in channels:
            node = self._topology.owner(slot_of(channel))
            if node is None:
                self._homeless[channel] = None
            else:
                self._home[channel] = node
                placed.setdefault(node, []).append(channel)
        return placed
