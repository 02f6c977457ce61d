"""The connections to a cluster, from a start to a close: a `NodeConnection` for each master.

Strategy: the [refresher][] says which nodes are masters and which slots they serve; this file
keeps a connection to each. The [publishers][] keep every slot's messages in order, and so do the
[lanes][] of those that are kept; the [subscribers][] keep every channel subscribed, while slots
move between the nodes.

[refresher]: fastapi_rooms.adapters.redis.sharded.topology_refresher
[publishers]: fastapi_rooms.adapters.redis.sharded.slot_publishers
[lanes]: fastapi_rooms.adapters.redis.sharded.slot_lanes
[subscribers]: fastapi_rooms.adapters.redis.sharded.slot_subscribers
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from typing import Any

from fastapi_rooms.adapters import probe
from fastapi_rooms.adapters.base import AdapterHealth, Outage, Receiver
from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.connection_pair import Settings
from fastapi_rooms.adapters.connection_status import ConnectionStatus
from fastapi_rooms.adapters.redis.links.source import NodeSource
from fastapi_rooms.adapters.redis.pubsub.node import NodeConnection
from fastapi_rooms.adapters.redis.sharded.access import Access
from fastapi_rooms.adapters.redis.sharded.dialect import ShardedDialect
from fastapi_rooms.adapters.redis.sharded.slot_lanes import NodeLane, SlotLanes
from fastapi_rooms.adapters.redis.sharded.slot_publishers import SlotPublishers
from fastapi_rooms.adapters.redis.sharded.slot_subscribers import SlotSubscribers
from fastapi_rooms.adapters.redis.sharded.slots import Node, Topology, channel_at, slot_of
from fastapi_rooms.adapters.redis.sharded.topology_refresher import (
    TOPOLOGY,
    TopologyRefresher,
    ask_topology,
)
from fastapi_rooms.types import Channel

PATIENCE = 0.5
"""Seconds that a node has to send the topology, before another is asked."""

UNREST = 5.0
"""Seconds after a change of topology in which other workers may not have followed it yet."""


class NodePool:
    """Every master of a cluster, found and kept connected.

    Args:
        access: how nodes are reached.
        settings: the settings of the adapter.
        refresh_interval: seconds between two refreshes of the topology, at most.
        receiver: gets the messages and gaps.
        status: is told whether the whole cluster is connected.
        prefix: the first part of every channel and key.
    """

    def __init__(
        self,
        access: Access,
        settings: Settings,
        refresh_interval: float,
        receiver: Receiver,
        status: ConnectionStatus,
        prefix: str,
    ) -> None:
        self._access = access
        self._settings = settings
        self._receiver = receiver
        self._status = status
        self._prefix = prefix
        self._probe_stem = f"{prefix}#probe.{secrets.token_hex(8)}"
        self._loop = asyncio.get_running_loop()
        self._nodes: dict[Node, NodeConnection] = {}
        self._probed: dict[Channel, NodeConnection] = {}
        self._required: set[Channel] = set()
        self._topology = Topology()
        self._calm_from = 0.0  # when all other workers have followed the last change of topology
        self._moved_since = time.time()
        self._why_unknown = ""  # why the topology is not known, or could not be followed
        self._is_login_refused = False
        self._last_received: float | None = None  # from nodes that are no masters any more
        self._is_recovering = False
        self._reconnects = 0
        self._budget = ByteBudget(settings.max_buffered_bytes)
        self._refresher = TopologyRefresher(
            connected=lambda: [n for n, c in self._nodes.items() if c.publisher.connected],
            others=lambda: [*self._access.seeds, *self._topology.replicas],
            ask=lambda node: self._nodes[node].publisher.ask(*TOPOLOGY),
            ask_new=self._ask_topology,
            accepted=self._follow,
            failed=self._topology_unknown,
            interval=refresh_interval,
            patience=min(PATIENCE, settings.connect_timeout),
        )
        self._publishers = SlotPublishers(
            self._budget,
            timeout=settings.publish_timeout,
            refresh=self._refresher.refresh_soon,
        )
        self.lanes = SlotLanes(
            self._budget,
            timeout=settings.publish_timeout,
            refresh=self._refresher.refresh_soon,
        )
        """The connections for messages that are kept."""
        self._subscribers = SlotSubscribers(self.gap, report_delay=2 * refresh_interval)
        refreshing = asyncio.create_task(
            self._refresher.run(), name="fastapi_rooms topology refresher"
        )
        self._tasks = {refreshing}

    # Its state.

    @property
    def why_refused(self) -> str:
        """Why no further attempt can succeed; empty if one might."""
        for node in self._nodes.values():
            if node.refused:
                return node.why_down
        return self._why_unknown if self._is_login_refused else ""

    @property
    def health(self) -> AdapterHealth:
        """The state of all connections, taken together."""
        subscribers = [node.subscriber for node in self._nodes.values()]
        received = [s.last_received for s in subscribers if s.last_received is not None]
        if self._last_received is not None:
            received.append(self._last_received)
        return AdapterHealth(
            self._status.connected,
            self._status.since,
            max(received, default=None),
            self._reconnects,
            self._budget.used,
            self._publishers.dropped + self.lanes.dropped,
            self._status.reason,
            sum(len(subscriber.forbidden) for subscriber in subscribers),
        )

    def is_live(self, channel: Channel) -> bool:
        """Whether it is wanted, and confirmed by the node it is at."""
        return self._subscribers.is_live(channel)

    def is_reachable(self, channel: Channel) -> bool:
        """Whether the node of its slot is known and connected."""
        owner = self._topology.owner(slot_of(channel))
        return owner in self._nodes and self._nodes[owner].connected

    def _changed(self) -> None:
        """A connection or a slot came or went."""
        down = [node for node in self._nodes.values() if not node.connected]
        uncovered = self._topology.uncovered
        missing = self._topology.masters - self._nodes.keys()
        is_complete = not (down or uncovered or missing or self._subscribers.unplaced)
        why = next((node.why_down for node in down if node.why_down), "")
        if missing or not self._nodes:
            why = self._why_unknown
        elif uncovered and not down:
            why = f"nobody serves {uncovered} of its slots"
        if is_complete and self._is_recovering:
            self._is_recovering = False
            self._reconnects += 1
        self._status.update(is_complete, why)

    # What the adapter calls.

    def publish(self, channel: Channel, data: bytes) -> Awaitable[int | None]:
        """Send it; done when its node has accepted it, with the number of others it went to.

        While slots move, a subscriber may be between two nodes: then 0 is reported as unknown.
        """
        return self._count_other_receivers(channel, self._publishers.publish(channel, data))

    async def _count_other_receivers(
        self, channel: Channel, accepted: Awaitable[int]
    ) -> int | None:
        receivers = await accepted - self._subscribers.is_live(channel)
        if receivers <= 0 and self._loop.time() < self._calm_from:
            return None
        return max(receivers, 0)

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send it if the node of its slot can take it at once."""
        self._publishers.publish_volatile(channel, data)

    def require(self, channels: Iterable[Channel]) -> None:
        """Want channels without which the adapter does not count as connected."""
        self._required.update(channels)
        self._subscribers.want(channels)

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Want channels, and return when all of them are live."""
        await self._subscribers.subscribe(channels)

    def want(self, channels: Iterable[Channel]) -> None:
        """Want channels, without waiting; what they miss until they are live is a loss."""
        self._subscribers.want_meanwhile(channels)

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Stop wanting channels."""
        self._subscribers.unsubscribe(channels)
        self._changed()

    async def close(self) -> None:
        """Close every connection, and fail the callers that still wait."""
        self._subscribers.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(
            *(node.close() for node in self._nodes.values()),
            self.lanes.close(),
            *self._tasks,
            return_exceptions=True,
        )
        self._publishers.close()

    # The topology.

    def _follow(self, topology: Topology) -> None:
        """Connect to the masters of a topology, and move channels and messages to them."""
        self._why_unknown, self._is_login_refused = "", False
        if topology != self._topology:
            self._moved_since = self._refresher.confirmed_at
            self._calm_from = self._loop.time() + UNREST
        self._topology = topology
        for node in topology.masters - self._nodes.keys():
            self._add(node)
        self._subscribers.update(topology, moved_since=self._moved_since)
        for node in self._nodes.keys() - topology.masters:
            self._remove(node)
        self._publishers.update(topology)
        self.lanes.update(topology)
        for node, connection in self._nodes.items():
            self._place_probe(node, connection)
        self._subscribers.leave_later()
        self._changed()

    def _topology_unknown(self, reason: str, is_login_refused: bool) -> None:
        """No node sends the topology, or it could not be followed."""
        self._why_unknown, self._is_login_refused = reason, is_login_refused
        self._changed()

    async def _ask_topology(self, node: Node) -> Any:
        return await ask_topology(self._access.pool(node), self._settings.connect_timeout)

    def _add(self, node: Node) -> None:
        source = NodeSource(self._access.pool(node))  # which raises if `address_remap` does
        connection = NodeConnection(
            source,
            self,
            self._changed,
            self._settings,
            self._budget,
            name=str(node),
            dialect=ShardedDialect(node, self),
            redirects=self._publishers,
            waiters=self._subscribers.waiters,
            losses=self._subscribers.losses,
            required=self._required,
        )
        self._nodes[node] = connection
        lane = NodeLane(
            node,
            self.lanes,
            source,
            self._prefix,
            connect_timeout=self._settings.connect_timeout,
            timeout=self._settings.publish_timeout,
            patience=max(probe.PATIENCE, self._settings.probe_interval),
            budget=self._budget,
        )
        self.lanes.add(lane)
        self._publishers.add(node, connection.publisher)
        self._subscribers.add(node, connection.subscriber)
        connection.start()

    def _remove(self, node: Node) -> None:
        self._last_received = self.health.last_received
        self._is_recovering = True
        connection = self._nodes.pop(node)
        self._forget_probe(connection.probe_channel)
        ending = connection.abort(f"{node} is no master any more")
        ending.append(asyncio.create_task(self.lanes.remove(node).close()))
        for task in ending:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._publishers.remove(node)
        self._subscribers.remove(node)

    # Probes.

    def _place_probe(self, node: Node, connection: NodeConnection) -> None:
        """Make sure that the channel of a node's probes is in one of its slots."""
        channel = connection.probe_channel
        if channel is not None and self._topology.owner(slot_of(channel)) == node:
            return
        self._forget_probe(channel)
        channel = channel_at(self._topology, node, self._probe_stem)
        if channel is not None:
            self._probed[channel] = connection
            self._required.add(channel)
        connection.probe_on(channel)

    def _forget_probe(self, channel: Channel | None) -> None:
        if channel is not None:
            self._probed.pop(channel, None)
            self._required.discard(channel)

    # What the connections call.

    def received(self, channel: Channel, data: bytes) -> None:
        """Pass a message on, unless it is a probe."""
        probed = self._probed.get(channel)
        if probed is None:
            self._receiver.received(channel, data)
        else:
            probed.probe_received(data)

    def gap(self, outage: Outage) -> None:
        """Pass a gap on."""
        channels = outage.channels - self._probed.keys()
        if channels:
            self._receiver.gap(replace(outage, channels=channels))

    def released(self, node: Node, channels: list[Channel]) -> None:
        """A node has unsubscribed channels: the wanted ones move to another."""
        if node in self._nodes:
            self._subscribers.released(node, channels)

    def withdrawn(self, node: Node, channels: list[Channel], live: list[Channel]) -> None:
        """A node does not serve channels: find out which node does."""
        connection = self._nodes.get(node)
        if connection is None:
            return
        self._refresher.refresh_soon()
        if connection.probe_channel in channels:
            self._forget_probe(connection.probe_channel)
            connection.probe_on(None)  # the next topology gives it another
        self._is_recovering = True
        self._subscribers.withdrawn(node, channels, live, since=self._refresher.confirmed_at)
        self._changed()

    def link_lost(self, node: Node) -> None:
        """A link is lost: find out whether its node is still a master."""
        self._refresher.refresh_soon()
        self._is_recovering = True
        if node in self._nodes:
            self._subscribers.link_lost(node)
