"""Appending to a cluster: a lane for each node, and every slot in order when it moves.

Strategy: a slot has one batch under way, at one node. A batch that its node refuses, as it does not
serve the slot (any more), was not carried out. It waits, and all of its slot behind it, until the
topology was refreshed, and goes first wherever the slot is then. One that nobody answered may have
been carried out: it is marked, so that the next node looks for its messages.

A slot that the topology has at another node leaves when the batch under way is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import hiredis

from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.redis.history.appends import Appends, Batch
from fastapi_rooms.adapters.redis.history.lane import CLOSED, MIN_ALARM_DELAY, Lane
from fastapi_rooms.adapters.redis.history.rights import HISTORY
from fastapi_rooms.adapters.redis.history.script import SHARDED, Message
from fastapi_rooms.adapters.redis.links.source import Source
from fastapi_rooms.adapters.redis.sharded.slot_appends import NodeAppends
from fastapi_rooms.adapters.redis.sharded.slots import Node, Topology, is_redirection, slot_of
from fastapi_rooms.core.position import Position
from fastapi_rooms.errors import AdapterUnavailable

_UNKNOWN = "no node is known to serve its slot"


class AppendMoves(Protocol):
    """Is told by each node's lane what became of its batches."""

    def answered(self, lane: NodeLane, slot: int) -> None:
        """A batch of a slot is answered."""

    def redirected(self, lane: NodeLane, slot: int, reason: str) -> None:
        """A node does not serve a slot, or not now, and has not done the batch."""

    def link_lost(self, lane: NodeLane) -> None:
        """The link to a node is lost: no batch there will be answered."""


class NodeLane(Lane):
    """The lane of one node of a cluster.

    Args:
        node: its address.
        moves: is told what became of its batches.
        source: opens the links.
        prefix: the first part of every key and channel.
        connect_timeout, timeout, patience, budget: as for a `Lane`.
    """

    def __init__(
        self,
        node: Node,
        moves: AppendMoves,
        source: Source,
        prefix: str,
        *,
        connect_timeout: float,
        timeout: float,
        patience: float,
        budget: ByteBudget,
    ) -> None:
        super().__init__(
            source,
            prefix,
            connect_timeout=connect_timeout,
            timeout=timeout,
            patience=patience,
            budget=budget,
            calls=SHARDED,
        )
        self.node = node
        self._moves = moves
        self._appends = self.appends = NodeAppends(
            budget, timeout=timeout, why_waiting=self.why_waiting
        )

    def why_waiting(self) -> str:
        """Why nothing is answered now, for errors."""
        return f"{self.node}: {self._state()}"

    def adopt(self, slot: int, appends: Appends) -> None:
        """A slot has come: go on with its messages."""
        self.appends.put(slot, appends)
        self._use(HISTORY)
        self._schedule_flush()

    def link_down(self, reason: str) -> None:
        """Keep what is unanswered for the next link, or another node."""
        super().link_down(reason)
        self._moves.link_lost(self)

    def _go_on(self) -> None:
        """In the next turn, as other slots are being answered in this one."""
        self._schedule_flush()

    def _batch_answered(self, appends: Appends, batch: Batch, replies: list[Any]) -> None:
        slot = slot_of(batch.messages[0].room.channel)
        (reply,) = replies
        is_refused = isinstance(reply, hiredis.ReplyError) and is_redirection(str(reply))
        if not is_refused:
            super()._batch_answered(appends, batch, replies)
            self._moves.answered(self, slot)
        elif appends.under_way is batch:
            appends.not_done()
            self._moves.redirected(self, slot, str(reply))


class SlotLanes:
    """The lanes of a cluster's masters, and at which of them the messages of each slot are.

    Args:
        budget: how many bytes of messages may wait.
        timeout: seconds that anything may take to be answered.
        refresh: asks for a refresh of the topology.
    """

    def __init__(self, budget: ByteBudget, *, timeout: float, refresh: Callable[[], None]) -> None:
        self.timeout = timeout
        """Seconds that anything may take to be answered."""
        self._refresh = refresh
        self._loop = asyncio.get_running_loop()
        self._topology = Topology()
        self._lanes: dict[Node, NodeLane] = {}
        self._leaving: dict[int, NodeLane] = {}
        self._unplaced = NodeAppends(budget, timeout=timeout, why_waiting=lambda: _UNKNOWN)
        self._alarm: asyncio.TimerHandle | None = None
        self._updated: asyncio.Future[None] = self._loop.create_future()
        self._dropped = 0  # at nodes that are no masters any more
        self._relinks = 0  # to such, and from them
        self._is_closed = False

    @property
    def lanes(self) -> list[NodeLane]:
        """Those of the present masters."""
        return list(self._lanes.values())

    @property
    def dropped(self) -> int:
        """How many messages were not accepted."""
        there = sum(lane.dropped for lane in self._lanes.values())
        return self._dropped + self._unplaced.dropped + there

    @property
    def relinks(self) -> int:
        """How many links there were that took the place of others."""
        return self._relinks + sum(lane.relinks for lane in self._lanes.values())

    def is_serving(self, lane: NodeLane) -> bool:
        """Whether a lane is that of a master, and not closed."""
        return not self._is_closed and self._lanes.get(lane.node) is lane

    def lane_of(self, slot: int) -> NodeLane | None:
        """The lane of the node that serves a slot, if it is known."""
        owner = self._topology.owner(slot)
        return None if owner is None else self._lanes.get(owner)

    def why_waiting(self, slot: int) -> str:
        """Why nothing about a slot is answered now, for errors."""
        lane = self.lane_of(slot)
        return _UNKNOWN if lane is None else lane.why_waiting()

    async def updated(self) -> None:
        """Ask for a refresh of the topology, and return after it.

        Raises `AdapterUnavailable` if it comes to its end.
        """
        if not self._is_closed:
            self._refresh()
            await asyncio.wait((self._updated,))
        if self._is_closed:
            raise AdapterUnavailable(CLOSED)

    def append(self, message: Message) -> asyncio.Future[Position]:
        """Number, keep and publish a message; the future is done when its node has.

        It fails with `AdapterUnavailable`.
        """
        slot = slot_of(message.room.channel)
        lane = self._leaving.get(slot) or self.lane_of(slot)
        if lane is not None and slot not in self._unplaced:
            return lane.append(message)
        append = self._unplaced.add(message)
        if self._is_closed:
            self._unplaced.fail_all(CLOSED)
        else:
            self._refresh()
            self._set_alarm()
        return append

    # Nodes come and go, and slots move between them.

    def add(self, lane: NodeLane) -> None:
        """A node is a master now."""
        self._lanes[lane.node] = lane

    def remove(self, node: Node) -> NodeLane:
        """A node is no master any more: what it has not answered waits for another.

        Returns its lane, to be closed.
        """
        lane = self._lanes.pop(node)
        for slot in lane.appends.slots:
            self._take(lane, slot, f"{node} is no master any more")
        self._dropped += lane.dropped
        self._relinks += lane.relinks + 1
        return lane

    def update(self, topology: Topology) -> None:
        """The topology was refreshed just now; every master of it has been added."""
        if topology != self._topology:
            self._topology = topology
            for lane in self._lanes.values():
                for slot in lane.appends.slots:
                    if topology.owner(slot) != lane.node:
                        self._leave(lane, slot)
        for slot in self._unplaced.slots:
            self._place(slot)
        if not self._is_closed:
            self._updated.set_result(None)
            self._updated = self._loop.create_future()

    def _leave(self, lane: NodeLane, slot: int) -> None:
        if lane.appends.is_under_way(slot):
            lane.appends.leaving.add(slot)
            self._leaving[slot] = lane
        else:
            self._take(lane, slot, "its slot is moving")

    def _take(self, lane: NodeLane, slot: int, reason: str) -> None:
        self._leaving.pop(slot, None)
        appends = lane.appends.take(slot)
        if appends:
            self._unplaced.put(slot, appends, lambda: reason)
            self._set_alarm()

    def _place(self, slot: int) -> None:
        lane = self.lane_of(slot)
        if lane is not None:
            appends = self._unplaced.take(slot)
            if appends:
                lane.adopt(slot, appends)

    # What the lanes call.

    def answered(self, lane: NodeLane, slot: int) -> None:
        """Have a slot leave that is to leave."""
        if self._leaving.get(slot) is lane:
            self._take(lane, slot, "its slot is moving")
            if slot in self._unplaced:
                self._place(slot)

    def redirected(self, lane: NodeLane, slot: int, reason: str) -> None:
        """Have a slot wait for the next topology, unless this one has it elsewhere already."""
        self._refresh()
        self._take(lane, slot, f"{lane.node}: {reason}")
        if slot in self._unplaced and self.lane_of(slot) is not lane:
            self._place(slot)

    def link_lost(self, lane: NodeLane) -> None:
        """Have those leave that are to leave."""
        self._refresh()
        for slot in list(lane.appends.leaving):
            self.answered(lane, slot)

    # What waits without a node.

    def _set_alarm(self) -> None:
        first = self._unplaced.first_deadline
        if self._alarm is None and first is not None:
            delay = max(first - self._loop.time(), MIN_ALARM_DELAY)
            self._alarm = self._loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        self._alarm = None
        self._unplaced.expire(self._loop.time())
        self._set_alarm()

    async def close(self) -> None:
        """Close every lane, and fail the callers that still wait."""
        self._is_closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._unplaced.fail_all(CLOSED)
        self._updated.cancel()
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))
