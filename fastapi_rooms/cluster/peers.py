"""Which other workers live, by their heartbeats. No I/O, no clock: the caller tells the time.

Every heartbeat of a worker says when to expect the next. One that has missed several is taken for
dead; one that says goodbye is gone at once.

The carrier says how many receive what goes to all workers. Those beyond the known ones are
unidentified: a worker too busy to answer, which is soon heard of; or a connection that died and the
carrier has not noticed, which never is. The rule is the same: silent for too long, taken for dead.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastapi_rooms.types import NodeId

MISSED = 3
"""So many intervals without a heartbeat, and a worker is taken for dead."""

MAX_PEERS = 4096
"""No more workers than this are believed in: whoever may write to Redis can invent some."""

MAX_INTERVAL = 3600.0


class Peers:
    """The other workers, and until when each is believed to live."""

    def __init__(self) -> None:
        self._until: dict[NodeId, float] = {}

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._until)

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, node: object) -> bool:
        return node in self._until

    @property
    def is_full(self) -> bool:
        """Whether a newcomer is not believed in, so that one of these has to go first."""
        return len(self._until) >= MAX_PEERS

    def heard(self, node: NodeId, now: float, interval: float) -> None:
        """A worker lives, and promises another heartbeat within `interval` seconds."""
        if node in self._until or len(self._until) < MAX_PEERS:
            self._until[node] = now + MISSED * min(interval, MAX_INTERVAL)

    def until(self, node: NodeId) -> float | None:
        """Until when a worker is believed to live without being heard; `None` if it is unknown."""
        return self._until.get(node)

    def left(self, node: NodeId) -> None:
        """A worker has gone."""
        self._until.pop(node, None)

    def expire(self, now: float) -> list[NodeId]:
        """Take those for dead that have been silent for too long, and return them."""
        silent = [node for node, until in self._until.items() if until <= now]
        for node in silent:
            del self._until[node]
        return silent


class Unidentified:
    """Receivers of what goes to all workers that have not said who they are."""

    def __init__(self) -> None:
        self._since: list[float] = []

    def __len__(self) -> int:
        return len(self._since)

    def counted(self, number: int, now: float) -> None:
        """There are so many now. If some have gone, the longest-known are taken to be those."""
        number = min(number, MAX_PEERS)
        del self._since[: max(len(self._since) - number, 0)]
        self._since += [now] * (number - len(self._since))

    def introduced(self) -> None:
        """One of them, if there are any, has said who it is."""
        del self._since[:1]

    def dead(self, now: float, interval: float) -> int:
        """How many have been silent for so long that any worker would have been heard of."""
        return sum(since + MISSED * interval <= now for since in self._since)
