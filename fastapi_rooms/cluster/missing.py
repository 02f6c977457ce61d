"""Workers that went without a goodbye, until it is sure that they are lost. No I/O, no clock.

One that nobody receives the messages of may only be cut off from the carrier. So it is missing
first, and lost when it has not been heard of for as long as any worker is believed in. One whose
messages somebody still receives hangs, or died without the carrier noticing: it is looked for
again, until it is one or the other.

After an outage of our own the others are given time to come back, as it may have been theirs, too.
"""

from __future__ import annotations

from fastapi_rooms.cluster.peers import MAX_PEERS, MISSED
from fastapi_rooms.types import NodeId


class Missing:
    """The missing workers, and when to look for each."""

    def __init__(self) -> None:
        self._due: dict[NodeId, float] = {}
        self._earliest = 0.0

    def __contains__(self, node: object) -> bool:
        return node in self._due

    def add(self, node: NodeId, due: float) -> None:
        """A worker is missing; it is to be looked for from `due` on."""
        if len(self._due) < MAX_PEERS:
            self._due.setdefault(node, due)

    def remove(self, node: NodeId) -> bool:
        """It is heard of again, has said goodbye, or is lost; returns whether it was missing."""
        return self._due.pop(node, None) is not None

    def cut_off(self, now: float, interval: float) -> None:
        """This worker hears nobody: look for none until any that lives would have been heard of."""
        self._earliest = now + MISSED * interval

    def due(self, now: float, interval: float) -> list[NodeId]:
        """Those to look for now; if they are not found, again after `interval` seconds."""
        if now < self._earliest:
            return []
        due = [node for node, when in self._due.items() if when <= now]
        for node in due:
            self._due[node] = now + interval
        return due
