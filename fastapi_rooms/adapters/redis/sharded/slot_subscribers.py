"""Subscribing at a cluster: a subscriber for each node, and every channel at the node of its slot.

Strategy: [placement][fastapi_rooms.adapters.redis.sharded.placement] decides at which node each
channel is subscribed, this file tells the subscribers. What may have been missed while a channel
moved is reported as soon as its new node has confirmed it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.adapters.redis.pubsub.subscriber import Subscriber
from fastapi_rooms.adapters.redis.sharded.placement import Placed, Placement
from fastapi_rooms.adapters.redis.sharded.slots import Node, Topology, slot_of
from fastapi_rooms.adapters.subscriptions import Losses
from fastapi_rooms.adapters.waiters import Waiters
from fastapi_rooms.types import Channel

LEAVE_DELAY = 2.0
"""Seconds that a node has to unsubscribe by itself the channels that it does not serve any more."""


class SlotSubscribers:
    """The subscribers of a cluster's masters.

    Args:
        gap: reports messages that may have been missed.
        report_delay: seconds until everyone has left a node that is no master any more.
    """

    def __init__(self, gap: Callable[[Outage], None], *, report_delay: float) -> None:
        self._gap = gap
        self._report_delay = report_delay
        self._loop = asyncio.get_running_loop()
        self._subscribers: dict[Node, Subscriber] = {}
        self._placement = Placement()
        self.waiters = Waiters()
        """The calls that wait for channels; shared with the subscribers."""
        self.losses = Losses(shared=True)
        """The channels on which messages may have been missed; shared with the subscribers."""
        self._moved_since = time.time()
        self._withdrawn: dict[Node, dict[Channel, float]] = {}
        """What nodes have withdrawn that are no masters any more, for all that is known, and since
        when it may have missed something."""
        self._leave_timer: asyncio.TimerHandle | None = None
        self._report_timers: list[asyncio.TimerHandle] = []

    @property
    def unplaced(self) -> int:
        """How many wanted channels are at no node."""
        return self._placement.unplaced

    def is_live(self, channel: Channel) -> bool:
        """Whether it is wanted, and confirmed by the node it is at."""
        node = self._placement.node_of(channel)
        return node is not None and self._subscribers[node].is_live(channel)

    # The application.

    def want(self, channels: Iterable[Channel]) -> None:
        """Want channels, without waiting."""
        self._subscribe(self._placement.want(channels))

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Want channels, and return when all of them are live."""
        missing = self._ask_for(channels)
        if missing:
            await self.waiters.wait(missing)

    def want_meanwhile(self, channels: Iterable[Channel]) -> None:
        """Want channels, without waiting; what they miss until they are live is a loss."""
        self.losses.lose(self._ask_for(channels), time.time())

    def _ask_for(self, channels: Iterable[Channel]) -> set[Channel]:
        """Want channels. Returns those that are not live; one that was refused is due again."""
        wanted = set(channels)
        self.want(wanted)
        missing = {channel for channel in wanted if not self.is_live(channel)}
        for channel in missing:
            node = self._placement.node_of(channel)
            if node is not None:
                self._subscribers[node].want((channel,))
        return missing

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Stop wanting channels."""
        channels = list(channels)
        for node, some in self._placement.unwant(channels).items():
            self._subscribers[node].unsubscribe(some)
        self.losses.forget(channels)

    # The topology.

    def add(self, node: Node, subscriber: Subscriber) -> None:
        """A node is a master now."""
        self._subscribers[node] = subscriber

    def remove(self, node: Node) -> None:
        """A node is no master any more: its channels go to the nodes that serve them now.

        It may still answer, and others may still publish there: a replica accepts that, and what it
        passes on to its master may be lost. So what was live is reported as missed a second time,
        when everyone has left the node.
        """
        subscriber = self._subscribers.pop(node)
        since = min(subscriber.complete_until or self._moved_since, self._moved_since)
        live = self._placement.at(node, subscriber.is_live)
        self.losses.lose(live, since)
        withdrawn = self._withdrawn.pop(node, {})
        if live or withdrawn:
            live, since = [*live, *withdrawn], min([since, *withdrawn.values()])
            later = self._loop.call_later(self._report_delay, self._report_again, live, since)
            self._report_timers.append(later)
        self._subscribe(self._placement.removed(node))

    def update(self, topology: Topology, *, moved_since: float) -> None:
        """The topology was refreshed; every master of it has been added.

        Slots have moved after `moved_since` at the earliest, in seconds since the epoch.
        """
        self._moved_since = moved_since
        self._subscribe(self._placement.update(topology))
        for node in self._withdrawn.keys() & topology.masters:
            self._forget_moved(node, topology)

    def _forget_moved(self, node: Node, topology: Topology) -> None:
        """Forget what a master has withdrawn as slots have moved: it takes no message for them."""
        withdrawn = self._withdrawn.pop(node)
        stay = {
            channel: since
            for channel, since in withdrawn.items()
            if topology.owner(slot_of(channel)) == node and not self.is_live(channel)
        }
        if stay:
            self._withdrawn[node] = stay

    def leave_later(self) -> None:
        """Leave misplaced channels by unsubscribing, unless their nodes release them before."""
        if self._leave_timer is None and self._placement.misplaced():
            self._leave_timer = self._loop.call_later(LEAVE_DELAY, self._leave)

    def _leave(self) -> None:
        self._leave_timer = None
        for node, channels in self._placement.misplaced().items():
            subscriber = self._subscribers[node]
            self.losses.lose(filter(subscriber.is_live, channels), self._moved_since)
            self._placement.leave(channels)
            self._subscribe(self._placement.released(node, subscriber.release(channels)))

    def _report_again(self, channels: list[Channel], since: float) -> None:
        self._report_timers = [t for t in self._report_timers if t.when() > self._loop.time()]
        self.losses.lose((c for c in channels if c in self._placement), since)
        live = {channel for channel in channels if self.is_live(channel)}
        regained = self.losses.regain(live)
        if regained is not None:  # the others are reported when they are live
            self._gap(Outage(regained[0], time.time(), regained[1]))

    def _subscribe(self, placed: Placed) -> None:
        for node, channels in placed.items():
            self._subscribers[node].want(channels)

    # What the subscribers report.

    def released(self, node: Node, channels: list[Channel]) -> None:
        """A node has unsubscribed channels, as it was asked to."""
        self._subscribe(self._placement.released(node, channels))

    def withdrawn(
        self, node: Node, channels: list[Channel], live: list[Channel], *, since: float
    ) -> None:
        """A node does not serve channels; messages to those `live` may be missed from `since`."""
        lost = [c for c in live if c in self._placement]
        self.losses.lose(lost, since)
        self._withdrawn.setdefault(node, {}).update(dict.fromkeys(lost, since))
        self._subscribe(self._placement.withdrawn(node, channels))

    def link_lost(self, node: Node) -> None:
        """The link to a node is lost, and with it every subscription there."""
        self._subscribe(self._placement.link_lost(node))

    def close(self) -> None:
        """Fail the callers that still wait."""
        if self._leave_timer is not None:
            self._leave_timer.cancel()
        for timer in self._report_timers:
            timer.cancel()
        self.waiters.close()
