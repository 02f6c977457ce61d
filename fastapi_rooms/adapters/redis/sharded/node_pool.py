"""The connections to a cluster, from a start to a close: two for each master.

Strategy: three machines decide, and this file does what they say. [Homes][] knows at which node
each channel is subscribed, [Lanes][] publishes and keeps every slot's order, and [Survey][] says
when slots have changed hands.

[Homes]: fastapi_rooms.adapters.redis.sharded.placement
[Lanes]: fastapi_rooms.adapters.redis.sharded.slot_publishers
[Survey]: fastapi_rooms.adapters.redis.sharded.topology_refresher
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import Any, NamedTuple

from fastapi_rooms.adapters.base import AdapterHealth, Outage, Receiver
from fastapi_rooms.adapters.connection_status import ConnectionStatus
from fastapi_rooms.adapters.redis.links.source import NodeSource
from fastapi_rooms.adapters.redis.pubsub.probe import Probe
from fastapi_rooms.adapters.redis.pubsub.publisher import Budget, Publisher
from fastapi_rooms.adapters.redis.pubsub.subscriber import Subscriber
from fastapi_rooms.adapters.redis.sharded.access import Access
from fastapi_rooms.adapters.redis.sharded.node import TOPOLOGY, Master, ask_anew
from fastapi_rooms.adapters.redis.sharded.placement import Placed, Placement
from fastapi_rooms.adapters.redis.sharded.slot_publishers import SlotPublishers
from fastapi_rooms.adapters.redis.sharded.topology_refresher import TopologyRefresher
from fastapi_rooms.adapters.redis.slots import Node, Topology, channel_at, slot_of
from fastapi_rooms.adapters.subscriptions import Losses
from fastapi_rooms.adapters.waiters import Waiters
from fastapi_rooms.types import Channel

LET_GO = 2.0
"""Seconds that a node has to end by itself what it does not serve any more."""

PATIENCE = 0.5
"""Seconds that a node has to say who serves what, before another is asked."""


UNREST = 5.0
"""Seconds after a change of topology in which others may not have followed it yet."""


class Options(NamedTuple):
    """What the adapter was told, for its connections to go by; times are seconds."""

    publish_timeout: float
    connect_timeout: float
    max_buffered_bytes: int
    probe_interval: float
    refresh_interval: float


class NodePool:
    """Every master of a cluster, found and kept connected."""

    def __init__(
        self,
        access: Access,
        options: Options,
        receiver: Receiver,
        standing: ConnectionStatus,
        probe_stem: str,
    ) -> None:
        self._access = access
        self._options = options
        self._receiver = receiver
        self._standing = standing
        self._probe_stem = probe_stem
        self._masters: dict[Node, Master] = {}
        self._nodes: dict[Subscriber, Node] = {}
        self._probes: dict[Channel, Probe] = {}
        self._topology = Topology()
        self._moved_since = time.time()
        self._calm_from = 0.0
        self._why = ""
        self._refused = False
        self._leaving: asyncio.TimerHandle | None = None
        self._afterwards: list[asyncio.TimerHandle] = []
        self._loop = asyncio.get_running_loop()
        self._last_received: float | None = None
        self._missed = False
        self._reconnects = 0
        self._homes = Placement()
        self._waiters = Waiters()
        self._losses = Losses()
        self._needed: set[Channel] = set()
        self._budget = Budget(options.max_buffered_bytes)
        self._survey = TopologyRefresher(
            known=lambda: [m.node for m in self._masters.values() if m.publisher.connected],
            others=lambda: [*self._access.seeds, *self._topology.replicas],
            ask=lambda node: self._masters[node].publisher.ask(*TOPOLOGY),
            ask_anew=self._ask_anew,
            learned=self._learned,
            failed=self._not_learned,
            interval=options.refresh_interval,
            patience=min(PATIENCE, options.connect_timeout),
        )
        self._lanes = SlotPublishers(self._new_publisher, self._budget, self._survey.soon)
        self._tasks = {asyncio.create_task(self._survey.run(), name="fastapi_rooms survey")}

    @property
    def refused(self) -> str:
        """Why no further attempt can help, if none can."""
        for master in self._masters.values():
            if master.refused:
                return master.why_down
        return self._why if self._refused else ""

    @property
    def health(self) -> AdapterHealth:
        """How all connections are, taken together."""
        subscribers = [master.subscriber for master in self._masters.values()]
        received = [s.last_received for s in subscribers if s.last_received is not None]
        if self._last_received is not None:
            received.append(self._last_received)
        return AdapterHealth(
            self._standing.connected,
            self._standing.since,
            max(received, default=None),
            self._reconnects,
            self._budget.used,
            self._lanes.dropped,
            self._standing.reason,
            sum(len(subscriber.forbidden) for subscriber in subscribers),
        )

    # What the adapter is asked for.

    def publish(self, channel: Channel, data: bytes) -> Awaitable[int | None]:
        """Send it; done when its node has accepted it, with the number of others it went to.

        While slots move, a subscriber may be on its way: then nobody there says nothing.
        """
        return self._others(channel, self._lanes.publish(channel, data))

    async def _others(self, channel: Channel, accepted: Awaitable[int]) -> int | None:
        receivers = await accepted - self.is_live(channel)
        if receivers <= 0 and self._loop.time() < self._calm_from:
            return None
        return max(receivers, 0)

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send it if the node of its slot is there to take it."""
        self._lanes.publish_volatile(channel, data)

    def need(self, channels: Iterable[Channel]) -> None:
        """Want channels without which nothing works."""
        self._needed.update(channels)
        self.want(channels)

    def want(self, channels: Iterable[Channel]) -> None:
        """Want channels, without waiting."""
        self._subscribe(self._homes.want(channels))

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Want channels and return when all of them are live."""
        wanted = set(channels)
        self.want(wanted)
        missing = {channel for channel in wanted if not self.is_live(channel)}
        if not missing:
            return
        for channel in missing:  # one that was refused is asked for again
            home = self._homes.home(channel)
            if home is not None:
                self._masters[home].subscriber.want((channel,))
        await self._waiters.wait(missing)

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Want channels no more."""
        channels = list(channels)
        for node, some in self._homes.unwant(channels).items():
            self._masters[node].subscriber.unsubscribe(some)
        self._losses.forget(channels)
        self._changed()

    async def close(self) -> None:
        """Close every connection, and fail whoever still waits."""
        if self._leaving is not None:
            self._leaving.cancel()
        for later in self._afterwards:
            later.cancel()
        for master in self._masters.values():
            master.subscriber.stop()
            self._tasks.update(master.tasks)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lanes.close()
        self._waiters.close()

    # What the survey calls.

    def _learned(self, topology: Topology) -> None:
        """Follow the slots to their masters."""
        self._why, self._refused = "", False
        if topology != self._topology:
            self._moved_since = self._survey.confirmed
            self._calm_from = self._loop.time() + UNREST
        self._topology = topology
        for node in topology.masters - self._masters.keys():
            self._add(node)
        self._subscribe(self._homes.learn(topology))
        for node in self._masters.keys() - topology.masters:
            self._subscribe(self._remove(node))
        self._lanes.learn(topology)
        for master in self._masters.values():
            self._place_probe(master)
        if self._leaving is None and self._homes.astray():
            self._leaving = self._loop.call_later(LET_GO, self._leave)
        self._changed()

    def _not_learned(self, reason: str, refused: bool) -> None:
        """Nobody says who serves what, or it could not be followed."""
        self._why, self._refused = reason, refused
        self._changed()

    async def _ask_anew(self, node: Node) -> Any:
        """Ask over a connection of its own."""
        return await ask_anew(self._access.pool(node), self._options.connect_timeout)

    # Masters come and go.

    def _new_publisher(self, node: Node | None) -> Publisher:
        return Publisher(
            NodeSource(self._access.pool(self._access.seeds[0] if node is None else node)),
            self._changed,
            connect_timeout=self._options.connect_timeout,
            timeout=self._options.publish_timeout,
            budget=self._budget,
            verb=b"SPUBLISH",
            overseer=self._lanes,
        )

    def _add(self, node: Node) -> None:
        subscriber = Subscriber(
            NodeSource(self._access.pool(node)),
            self,
            self._changed,
            connect_timeout=self._options.connect_timeout,
            waiters=self._waiters,
            losses=self._losses,
            elsewhere=self,
            needed=self._needed,
        )
        publisher = self._lanes.add(node)  # the last that can raise
        round_trip = Probe(
            publisher, subscriber, None, self._changed, interval=self._options.probe_interval
        )
        master = self._masters[node] = Master(node, publisher, subscriber, round_trip)
        self._nodes[subscriber] = node
        master.start()

    def _remove(self, node: Node) -> Placed:
        """It is no master any more: give what was there to those who are."""
        master = self._masters.pop(node)
        subscriber = master.subscriber
        del self._nodes[subscriber]
        self._forget_probe(master.round_trip.channel)
        self._last_received = self.health.last_received
        self._missed = True
        since = min(subscriber.sure_until or self._moved_since, self._moved_since)
        live = self._homes.at(node, subscriber.is_live)
        self._losses.lose(live, since)
        if live:  # it answers still, and some may not know yet that it is no master any more
            delay = 2 * self._options.refresh_interval
            later = self._loop.call_later(delay, self._report_again, live, since)
            self._afterwards.append(later)
        for task in master.stop(f"{node} is no master any more"):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._lanes.remove(node)
        return self._homes.gone(node)

    def _place_probe(self, master: Master) -> None:
        """See to it that the master has a channel for probes in one of its slots."""
        round_trip = master.round_trip
        channel = round_trip.channel
        if channel is not None:
            if self._topology.owner(slot_of(channel)) == master.node:
                return
            self._forget_probe(channel)
            master.subscriber.unsubscribe((channel,))
        channel = channel_at(self._topology, master.node, self._probe_stem)
        round_trip.use(channel)
        if channel is not None:
            self._probes[channel] = round_trip
            self._needed.add(channel)
            master.subscriber.want((channel,))

    def _forget_probe(self, channel: Channel | None) -> None:
        if channel is not None:
            self._probes.pop(channel, None)
            self._needed.discard(channel)

    def _report_again(self, channels: list[Channel], since: float) -> None:
        """By now everyone has left the old node; what was published there meanwhile is lost."""
        self._afterwards = [t for t in self._afterwards if t.when() > self._loop.time()]
        self._losses.lose((c for c in channels if c in self._homes), since)
        live = {channel for channel in channels if self.is_live(channel)}
        regained = self._losses.regain(live)
        if regained is not None:  # the others are reported when they are live
            self.gap(Outage(regained[0], time.time(), regained[1]))

    # Channels move.

    def _subscribe(self, placed: Placed) -> None:
        for node, channels in placed.items():
            self._masters[node].subscriber.want(channels)

    def is_live(self, channel: Channel) -> bool:
        """Whether it is wanted, and confirmed by the node it is at."""
        home = self._homes.home(channel)
        return home is not None and self._masters[home].subscriber.is_live(channel)

    def _leave(self) -> None:
        """Some nodes have kept for too long what they do not serve."""
        self._leaving = None
        for node, channels in self._homes.astray().items():
            subscriber = self._masters[node].subscriber
            self._losses.lose(filter(subscriber.is_live, channels), self._moved_since)
            self._homes.leave(channels)
            self._subscribe(self._homes.let_go(node, subscriber.release(channels)))

    # What subscribers call.

    def received(self, channel: Channel, data: bytes) -> None:
        """Pass it on, unless it is a probe, whose arrival is all that matters of it."""
        round_trip = self._probes.get(channel)
        if round_trip is None:
            self._receiver.received(channel, data)
        else:
            round_trip.received(data)

    def gap(self, outage: Outage) -> None:
        """Pass it on."""
        channels = outage.channels - self._probes.keys()
        if channels:
            self._receiver.gap(outage._replace(channels=channels))

    def let_go(self, subscriber: Subscriber, channels: list[Channel]) -> None:
        """What it was asked to leave goes to its new home."""
        node = self._nodes.get(subscriber)
        if node is not None:
            self._subscribe(self._homes.let_go(node, channels))

    def taken(self, subscriber: Subscriber, channels: list[Channel], live: list[Channel]) -> None:
        """Its slot has moved: find out where to."""
        node = self._nodes.get(subscriber)
        if node is None:
            return
        self._survey.soon()
        round_trip = self._masters[node].round_trip
        if round_trip.channel in channels:
            self._forget_probe(round_trip.channel)
            round_trip.use(None)  # the next look chooses another
        self._missed = True
        self._losses.lose((c for c in live if c in self._homes), self._survey.confirmed)
        self._subscribe(self._homes.taken(node, channels))
        self._changed()

    def lost(self, subscriber: Subscriber) -> None:
        """What it was asked to leave is left by that."""
        self._survey.soon()
        self._missed = True
        node = self._nodes.get(subscriber)
        if node is not None:
            self._subscribe(self._homes.lost(node))

    def _changed(self) -> None:
        """A connection or a slot came or went."""
        for master in self._masters.values():
            master.round_trip.links_changed()
        down = [master for master in self._masters.values() if not master.connected]
        uncovered = self._topology.uncovered
        missing = self._topology.masters - self._masters.keys()
        whole = not (down or uncovered or missing or self._homes.homeless)
        why = next((master.why_down for master in down if master.why_down), "")
        if missing or not self._masters:
            why = self._why
        elif uncovered and not down:
            why = f"nobody serves {uncovered} of its slots"
        if whole and self._missed:
            self._missed = False
            self._reconnects += 1
        self._standing.update(whole, why)
