"""Publishing to a cluster: a publisher for each node, and every slot in order when it moves.

Strategy: a [publisher][fastapi_rooms.adapters.redis.pubsub.publisher] keeps the order of everything
that goes to one node. A slot that its node does not serve (any more) is paused: messages that were
redirected, and new ones, wait in a queue of the slot until the topology is refreshed and everything
in flight is answered. Then the oldest message is sent alone, as a trial, and the rest follows once
it is accepted. So a cluster that is just recovering cannot accept the second message of a slot and
refuse the first.

If that has happened all the same, the first message would arrive after the second, and be dropped
as a duplicate. So it is not sent again, and its sender gets an error. (One case remains: if the
connection is lost together with both answers, nobody can know, and what is unanswered is sent
again.)
"""

from __future__ import annotations

from asyncio import Future
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import hiredis

from fastapi_rooms.adapters.command_queue import ByteBudget, Command
from fastapi_rooms.adapters.redis.pubsub.publisher import Publisher, command_queue
from fastapi_rooms.adapters.redis.sharded.dialect import WORDS
from fastapi_rooms.adapters.redis.sharded.slots import Node, Topology, is_redirection, slot_of
from fastapi_rooms.types import Channel


class _PausedSlot:
    """A slot that no node is known to serve: its messages wait, and fail if that takes too long."""

    __slots__ = ("newest_accepted", "queue", "reason", "trial")

    def __init__(self, budget: ByteBudget, timeout: float, reason: str) -> None:
        self.queue = command_queue(
            WORDS.publish, budget, timeout=timeout, why_waiting=lambda: self.reason
        )
        self.reason = reason
        """Why it is paused, for errors."""
        self.trial: Command | None = None
        """The message that was sent ahead."""
        self.newest_accepted = -1
        """The number of the newest message of this slot that was accepted while it was paused."""

    def answered(self, command: Command, *, accepted: bool) -> bool:
        """A message of this slot is answered; returns whether it was the trial."""
        if accepted:
            self.newest_accepted = max(self.newest_accepted, command.number)
        if self.trial is not command:
            return False
        self.trial = None
        return True


class SlotPublishers:
    """The publishers of a cluster's masters.

    Args:
        budget: how many bytes may wait to be accepted, shared with the publishers.
        timeout: seconds that a message may take to be accepted.
        refresh: asks for a refresh of the topology.
    """

    def __init__(self, budget: ByteBudget, *, timeout: float, refresh: Callable[[], None]) -> None:
        self._budget = budget
        self._timeout = timeout
        self._refresh = refresh
        self._topology = Topology()
        self._publishers: dict[Node, Publisher] = {}
        self._paused: dict[int, _PausedSlot] = {}
        self._dropped = 0

    @property
    def paused(self) -> int:
        """How many slots are paused."""
        return len(self._paused)

    @property
    def dropped(self) -> int:
        """How many messages were not accepted."""
        waiting = sum(paused.queue.dropped for paused in self._paused.values())
        return self._dropped + waiting + sum(p.dropped for p in self._publishers.values())

    # Messages.

    def publish(self, channel: Channel, data: bytes) -> Future[int]:
        """Send it; done when the node of its slot has accepted it, with the number of subscribers.

        Fails with `AdapterUnavailable` if it is refused, or not accepted in time.
        """
        slot = slot_of(channel)
        publisher = self._publisher_of(slot)
        if publisher is None:
            return self._pause(slot, "no node is known to serve its slot").queue.publish(
                channel, data, slot
            )
        return publisher.publish(channel, data, slot)

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send it if the node of its slot can take it at once."""
        slot = slot_of(channel)
        publisher = self._publisher_of(slot)
        if publisher is None:
            self._pause(slot, "no node is known to serve its slot")
            self._dropped += 1
        else:
            publisher.publish_volatile(channel, data, slot)

    def _publisher_of(self, slot: int) -> Publisher | None:
        """Where to send messages of a slot; `None` if it is paused, or has to be."""
        if slot not in self._paused:
            owner = self._topology.owner(slot)
            if owner in self._publishers:
                return self._publishers[owner]
            self._refresh()
        return None

    # Nodes come and go, and slots move between them.

    def add(self, node: Node, publisher: Publisher) -> None:
        """A node is a master now."""
        self._publishers[node] = publisher

    def remove(self, node: Node) -> None:
        """A node is no master any more: what it has not answered waits for another."""
        publisher = self._publishers.pop(node)
        self._park(publisher.queue.take_all(), f"{node} is no master any more")
        self._dropped += publisher.dropped
        publisher.close()

    def update(self, topology: Topology) -> None:
        """The topology was refreshed just now; every master of it has been added."""
        if topology != self._topology:
            self._topology = topology
            for node, publisher in self._publishers.items():
                misplaced = publisher.queue.take_unsent(partial(self._is_misplaced, node))
                self._park(misplaced, "its slot is moving")
                for slot in publisher.queue.shards_in_flight:
                    if topology.owner(slot) != node:
                        self._pause(slot, "its slot is moving")
        if self._paused:
            publishers = self._publishers.values()
            in_flight = set().union(*(p.queue.shards_in_flight for p in publishers))
            for slot in list(self._paused):
                self._try(slot, is_in_flight=slot in in_flight)

    def _is_misplaced(self, node: Node, command: Command) -> bool:
        return command.shard is not None and self._topology.owner(command.shard) != node

    # Slots are paused, tried, and resumed.

    def _pause(self, slot: int, reason: str) -> _PausedSlot:
        paused = self._paused.get(slot)
        if paused is None:
            paused = self._paused[slot] = _PausedSlot(self._budget, self._timeout, reason)
        paused.reason = reason
        return paused

    def _park(self, commands: list[Command], reason: str) -> None:
        """Pause the slots of commands that were taken from a publisher; queries fail instead."""
        by_slot: dict[int, list[Command]] = defaultdict(list)
        for command in commands:
            if command.shard is None:
                self._fail(command, reason)
            else:
                by_slot[command.shard].append(command)
        for slot, some in by_slot.items():
            paused = self._pause(slot, reason)
            paused.queue.put(some)
            if any(command is paused.trial for command in some):
                paused.trial = None

    def _try(self, slot: int, *, is_in_flight: bool) -> None:
        """Send the oldest message of a paused slot, if its node is known and nothing is ahead."""
        paused = self._paused[slot]
        owner = self._topology.owner(slot)
        publisher = self._publishers.get(owner) if owner is not None else None
        is_trying = paused.trial is not None and not paused.trial.is_abandoned
        if publisher is None or is_trying or is_in_flight:
            return
        waiting = paused.queue.take_all()
        late = [command for command in waiting if command.number < paused.newest_accepted]
        for command in late:
            self._fail(command, "what was sent after it was accepted before it")
        waiting = waiting[len(late) :]
        if not waiting:
            self._resume(slot)
            return
        paused.trial = waiting[0]
        if paused.trial.accepted is not None:
            paused.trial.accepted.add_done_callback(self._trial_done)
        paused.queue.put(waiting[1:])
        publisher.put(waiting[:1])

    def _trial_done(self, accepted: Future[int]) -> None:
        """See to it that another is tried soon, if this one's caller was cancelled meanwhile."""
        if accepted.cancelled():
            self._refresh()

    def _resume(self, slot: int) -> None:
        paused = self._paused.pop(slot)
        self._dropped += paused.queue.dropped
        paused.queue.close()

    def _fail(self, command: Command, reason: str) -> None:
        self._dropped += command.fail(f"The cluster did not accept it ({reason}).")

    # What the publishers call.

    def answered(
        self, publisher: Publisher, command: Command, error: hiredis.ReplyError | None
    ) -> bool:
        """Take over a redirected message; send the rest of a slot after its trial was accepted."""
        slot = command.shard
        assert slot is not None
        if error is not None and is_redirection(str(error)):
            self._redirected(publisher, command, slot, str(error))
            return True
        paused = self._paused.get(slot)
        if paused is not None and paused.answered(command, accepted=error is None):
            owner = self._topology.owner(slot)
            if owner is not None and self._publishers.get(owner) is publisher:
                publisher.put(paused.queue.take_all())
                self._resume(slot)
        return False

    def _redirected(self, publisher: Publisher, command: Command, slot: int, reason: str) -> None:
        self._refresh()
        paused = self._pause(slot, reason)
        paused.answered(command, accepted=False)
        self._park(publisher.queue.take_unsent(lambda c: c.shard == slot), reason)
        if command.is_abandoned:
            self._dropped += command.accepted is None
        else:
            paused.queue.put([command])

    def close(self) -> None:
        """Fail the callers that still wait."""
        for slot in list(self._paused):
            self._resume(slot)
        for publisher in self._publishers.values():
            publisher.close()
