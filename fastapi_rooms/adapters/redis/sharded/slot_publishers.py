"""Publishing to a cluster: a lane for each node, and every slot in order when it changes lanes.

Strategy: a lane is a `pubsub.publisher.Publisher`, which keeps the
order of all that goes to one node. A slot that its node does not serve (any more) is held: what
bounced and what comes is parked until the next look at the topology, and until all that was under
way is answered. Then its oldest message goes ahead alone, and the rest follows when that has been
accepted: so a cluster that is just coming back cannot take the second message and not the first.

If that has happened all the same, the first would arrive after the second, and be taken for one
that was seen already. So it is not sent again, and its sender is told. (It cannot be known if in
that very moment the connection is lost, with both answers: what is unanswered is sent again.)
"""

from __future__ import annotations

from asyncio import Future
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import hiredis

from fastapi_rooms.adapters.redis.pubsub.publisher import Budget, Command, Publisher
from fastapi_rooms.adapters.redis.slots import Node, Topology, is_redirection, slot_of
from fastapi_rooms.types import Channel


class _Hold:
    """One slot that is held."""

    __slots__ = ("accepted", "parked", "trial")

    def __init__(self, parked: Publisher) -> None:
        self.parked = parked
        """What waits: a publisher that never gets a link, and fails what waits too long."""
        self.trial: Command | None = None
        """What has been sent ahead."""
        self.accepted = -1
        """The number of the newest command of this slot that was accepted since."""


class SlotPublishers:
    """The publishers of a cluster's masters.

    Args:
        make: a publisher for a node; for `None` one that is never given a link.
        budget: shared by all of them.
        look: asks for a look at the topology soon.
    """

    def __init__(
        self,
        make: Callable[[Node | None], Publisher],
        budget: Budget,
        look: Callable[[], None],
    ) -> None:
        self._make = make
        self._budget = budget
        self._look = look
        self._topology = Topology()
        self._lanes: dict[Node, Publisher] = {}
        self._held: dict[int, _Hold] = {}
        self._dropped = 0

    @property
    def held(self) -> int:
        """How many slots are held."""
        return len(self._held)

    @property
    def dropped(self) -> int:
        """How many messages were not accepted."""
        parked = sum(hold.parked.dropped for hold in self._held.values())
        return self._dropped + parked + sum(lane.dropped for lane in self._lanes.values())

    def publish(self, channel: Channel, data: bytes) -> Future[int]:
        """Send it; done when the node of its slot has accepted it, with the number of subscribers.

        Fails with `AdapterUnavailable` if it is refused, or not accepted in time.
        """
        slot = slot_of(channel)
        return self._lane_of(slot).publish(channel, data, slot)

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send it if the node of its slot is there to take it."""
        slot = slot_of(channel)
        self._lane_of(slot).publish_volatile(channel, data, slot)

    def _lane_of(self, slot: int) -> Publisher:
        if slot not in self._held:
            owner = self._topology.owner(slot)
            if owner in self._lanes:
                return self._lanes[owner]
            self._look()
        return self._hold(slot, "no node is known to serve its slot").parked

    def _hold(self, slot: int, reason: str) -> _Hold:
        hold = self._held.get(slot)
        if hold is None:
            hold = self._held[slot] = _Hold(self._make(None))
        hold.parked.why_down = reason
        return hold

    # Nodes come, go, and change what they serve.

    def add(self, node: Node) -> Publisher:
        """A lane to a node that is new."""
        lane = self._lanes[node] = self._make(node)
        return lane

    def remove(self, node: Node) -> None:
        """A node is no master any more: what it has not answered goes to those who are."""
        lane = self._lanes.pop(node)
        self._park(lane.take_all(), f"{node} is no master any more")
        self._dropped += lane.dropped
        lane.close()

    def learn(self, topology: Topology) -> None:
        """The slots are served so, as has been seen just now; every master has its lane."""
        if topology != self._topology:
            self._topology = topology
            for node, lane in self._lanes.items():
                astray = lane.take_unsent(partial(self._is_astray, node))
                self._park(astray, "its slot is moving")
                for slot in lane.slots_in_flight:
                    if slot >= 0 and topology.owner(slot) != node:
                        self._hold(slot, "its slot is moving")
        if self._held:
            in_flight = set().union(*(lane.slots_in_flight for lane in self._lanes.values()))
            for slot in list(self._held):
                self._try(slot, under_way=slot in in_flight)

    def _is_astray(self, node: Node, command: Command) -> bool:
        return command.slot >= 0 and self._topology.owner(command.slot) != node

    def _park(self, commands: list[Command], reason: str) -> None:
        by_slot: dict[int, list[Command]] = defaultdict(list)
        for command in commands:
            by_slot[command.slot].append(command)
        for slot, some in by_slot.items():
            if slot >= 0:
                hold = self._hold(slot, reason)
                hold.parked.put(some)
                if any(command is hold.trial for command in some):
                    hold.trial = None
            else:  # a question to that node alone
                for command in some:
                    self._give_up(command, reason)

    def _try(self, slot: int, *, under_way: bool) -> None:
        """Send the oldest message of a held slot ahead, if that can be."""
        hold = self._held[slot]
        owner = self._topology.owner(slot)
        lane = self._lanes.get(owner) if owner is not None else None
        ahead = hold.trial is not None and not hold.trial.given_up
        if lane is None or ahead or under_way:
            return
        parked = hold.parked.take_all()
        late = [command for command in parked if command.number < hold.accepted]
        for command in late:
            self._give_up(command, "what was sent after it was accepted before it")
        parked = parked[len(late) :]
        if not parked:
            self._free(slot)
            return
        hold.trial = parked[0]
        hold.parked.put(parked[1:])
        lane.put(parked[:1])

    def _free(self, slot: int) -> None:
        hold = self._held.pop(slot)
        self._dropped += hold.parked.dropped
        hold.parked.close()

    def _give_up(self, command: Command, reason: str) -> None:
        self._budget.used -= len(command.data)
        self._dropped += command.fail(f"The cluster did not accept it ({reason}).")

    # What the lanes call.

    def answered(
        self, publisher: Publisher, command: Command, error: hiredis.ReplyError | None
    ) -> bool:
        """Take over what has bounced; let the rest of a slot follow what was accepted."""
        slot = command.slot
        hold = self._held.get(slot)
        if error is not None and is_redirection(str(error)):
            self._look()
            reason = str(error)
            hold = self._hold(slot, reason)
            if hold.trial is command:
                hold.trial = None
            self._park(publisher.take_unsent(lambda c: c.slot == slot), reason)
            if command.given_up:
                self._budget.used -= len(command.data)
                self._dropped += command.accepted is None
            else:
                hold.parked.put([command])
            return True
        if hold is not None:
            if error is None:
                hold.accepted = max(hold.accepted, command.number)
            if hold.trial is command:
                hold.trial = None
                self._follow(slot, hold, publisher)
        return False

    def _follow(self, slot: int, hold: _Hold, lane: Publisher) -> None:
        """The node takes messages of this slot: give it the rest, and hold the slot no more."""
        owner = self._topology.owner(slot)
        if owner is not None and self._lanes.get(owner) is lane:
            lane.put(hold.parked.take_all())
            self._free(slot)

    def close(self) -> None:
        """Fail whoever still waits."""
        for slot in list(self._held):
            self._free(slot)
        for lane in self._lanes.values():
            lane.close()
