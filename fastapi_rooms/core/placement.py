"""Which backend gets the next client: pure, with the time given."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fastapi_rooms.types import NodeId

MISSED = 3
"""So many heartbeats missed, and one is taken for dead."""


@dataclass(slots=True)
class BackendState:
    """What a backend has last said of itself."""

    name: str
    clients: int
    capacity: int
    seen: float
    placed: int = 0
    """How many clients it was given here since."""
    is_leaving: bool = False
    """Whether it only finishes what it has begun."""

    @property
    def load(self) -> float:
        """How full it is, from 0 on."""
        return (self.clients + self.placed) / self.capacity


class Placement:
    """The backends that live, as one edge knows them."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._backends: dict[NodeId, BackendState] = {}

    def __contains__(self, node: NodeId) -> bool:
        """Whether a backend lives, and takes clients."""
        state = self._backends.get(node)
        return state is not None and not state.is_leaving

    @property
    def backends(self) -> dict[NodeId, BackendState]:
        """The live ones that take clients."""
        return {node: state for node, state in self._backends.items() if not state.is_leaving}

    def beat(self, node: NodeId, name: str, clients: int, capacity: int, now: float) -> bool:
        """A backend lives; returns whether it is new."""
        is_new = node not in self
        self._backends[node] = BackendState(name, clients, capacity, now)
        return is_new

    def leaves(self, node: NodeId, now: float) -> None:
        """A backend gets no more clients. It has those whom it does not release, while it lives."""
        if node in self._backends:
            self._backends[node].is_leaving = True
            self._backends[node].seen = now

    def bye(self, node: NodeId) -> None:
        """A backend is gone."""
        self._backends.pop(node, None)

    def expire(self, now: float) -> list[NodeId]:
        """Forget those that have been silent for too long, and return them."""
        limit = now - self._interval * MISSED
        dead = [node for node, state in self._backends.items() if state.seen < limit]
        for node in dead:
            del self._backends[node]
        return dead

    def spare(self, now: float) -> None:
        """Hold nobody's silence against them: it was we who did not listen."""
        for state in self._backends.values():
            state.seen = now

    def pick(self, name: str, exclude: Collection[NodeId] = ()) -> NodeId | None:
        """The emptiest one of a name, which is then counted as given a client."""
        found = [
            (state.load, node)
            for node, state in self._backends.items()
            if state.name == name and node not in exclude and state.load < 1
            if not state.is_leaving
        ]
        if not found:
            return None
        _, node = min(found)
        self._backends[node].placed += 1
        return node


STEADY = 10.0
"""Seconds after whose end an endpoint has nothing to do with how it has begun."""

LONGEST_WAIT = 30.0
"""Seconds that one whose backends die again and again waits for the next, at most."""


class Reopening:
    """How long a client waits for its next endpoint, so that it is harmless whatever it does."""

    def __init__(self) -> None:
        self._hurried = 0
        self._deaths = 0

    def wait(self, lived: float, *, died: bool) -> float:
        """How many seconds to wait, where an endpoint has ended that lived for so many.

        `died` says that its backend did: perhaps by what this client has it do. So one after the
        other is not asked to do that as fast as they come.
        """
        # An endpoint that ends as soon as it has begun is not begun again at full speed.
        self._hurried = self._hurried + 1 if lived < 1 else 0
        if lived >= STEADY:
            self._deaths = 0
        self._deaths = min(self._deaths + died, 9)
        wait = min(0.05 * self._hurried**2, 2.0)
        if died and self._deaths > 1:
            wait = max(wait, min(4.0 ** (self._deaths - 2), LONGEST_WAIT))
        return wait


class Turns:
    """Spreads what many want to do at once: a hundred in a second, each in its turn."""

    def __init__(self, rate: float = 100.0, window: float = 5.0) -> None:
        self._step = 1 / rate
        self._window = window
        self._next = 0.0

    def wait(self, now: float) -> float:
        """How many seconds to wait for the turn that is taken by this call."""
        turn = max(now, self._next)
        wait = turn - now
        # As the queue grows, turns come closer, so that the last one is within the window.
        self._next = turn + self._step * max(0.0, 1 - wait / self._window)
        return wait
