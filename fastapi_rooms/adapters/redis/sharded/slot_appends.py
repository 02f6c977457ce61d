"""Messages on their way into a cluster's history: each slot has an order and a batch of its own.

A slot's messages are one object, which goes as a whole from node to node, with the batch that goes
first. So whatever becomes of a slot, its messages keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.redis.history.appends import Append, Appends
from fastapi_rooms.adapters.redis.history.script import Message
from fastapi_rooms.adapters.redis.sharded.slots import slot_of


class NodeAppends:
    """The messages of the slots at one node, or of those at none.

    Args:
        budget: what they count against.
        timeout: seconds until one fails that is not answered.
        why_waiting: says for errors why they are not answered now.
    """

    def __init__(
        self, budget: ByteBudget, *, timeout: float, why_waiting: Callable[[], str]
    ) -> None:
        self._budget = budget
        self._timeout = timeout
        self._why_waiting = why_waiting
        self._slots: dict[int, Appends] = {}
        self._dropped = 0  # by those that are not here any more
        self.leaving: set[int] = set()
        """Slots that go to another node once the batch under way is answered."""

    def __bool__(self) -> bool:
        return any(self._slots.values())

    def __contains__(self, slot: int) -> bool:
        return slot in self._slots

    @property
    def slots(self) -> list[int]:
        """The slots that are here."""
        return list(self._slots)

    @property
    def dropped(self) -> int:
        """How many messages were refused, or not answered in time."""
        return self._dropped + sum(appends.dropped for appends in self._slots.values())

    @property
    def first_deadline(self) -> float | None:
        """When the first of those that are still wanted is overdue."""
        found = (appends.first_deadline for appends in self._slots.values())
        return min((first for first in found if first is not None), default=None)

    def add(self, message: Message) -> Append:
        """Add a message, behind those of its slot. It fails at once if there is no room for it."""
        slot = slot_of(message.room.channel)
        appends = self._slots.get(slot)
        if appends is None:
            appends = self._slots[slot] = Appends(
                self._budget, timeout=self._timeout, why_waiting=self._why_waiting
            )
        return appends.add(message)

    def orders(self) -> Iterator[Appends]:
        """Those of each slot that is not about to leave. A slot without messages is forgotten."""
        for slot, appends in list(self._slots.items()):
            if slot in self.leaving:
                continue
            if appends:
                yield appends
            else:
                self.take(slot)

    # Slots come and go.

    def is_under_way(self, slot: int) -> bool:
        """Whether a batch of a slot was written and is not answered."""
        return self._slots[slot].under_way is not None

    def put(
        self, slot: int, appends: Appends, why_waiting: Callable[[], str] | None = None
    ) -> None:
        """A slot has come."""
        appends.why_waiting = why_waiting or self._why_waiting
        self._slots[slot] = appends

    def take(self, slot: int) -> Appends:
        """A slot goes: its messages, all of which are to be written."""
        appends = self._slots.pop(slot)
        appends.rewind()
        self._dropped += appends.dropped
        appends.dropped = 0
        self.leaving.discard(slot)
        return appends

    # The connection is lost, or nothing comes.

    def rewind(self) -> None:
        """Nobody knows what has been done of what was written."""
        for appends in self._slots.values():
            appends.rewind()

    def expire(self, now: float) -> bool:
        """Fail what has waited too long; returns whether any of it is under way."""
        overdue = False
        for appends in self._slots.values():
            overdue |= appends.expire(now)
        return overdue

    def fail_all(self, reason: str) -> None:
        """Fail everything, written or not."""
        for appends in self._slots.values():
            appends.fail_all(reason)
