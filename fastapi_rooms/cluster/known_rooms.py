"""Which rooms the other workers have, as far as this one has asked: for when one of them is lost.

Heartbeats do not say it, as they must not grow with rooms. So a worker whose application wants to
be told of lost workers asks now and then, in the namespaces where it wants to. What it knows is as
old as the last answer, and no answer has more than `MAX_ROOMS` names.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol, TypeAlias

from fastapi_rooms.cluster.commands import CommandTarget
from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.core.names import check_rooms
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, NotStarted, RequestError
from fastapi_rooms.operators.dispatcher import ClusterRequest, ResponseReader
from fastapi_rooms.types import NodeId, Room
from fastapi_rooms.wire.verbs import Verb

ASK_EVERY = 5
"""Heartbeats between two questions."""

ASK_TIMEOUT = 5.0
"""Seconds that the others have to answer."""

MAX_ROOMS = 1000
"""How many rooms of one worker, in one namespace, are told and remembered."""

MAX_ROOMS_IN_ALL = 100_000
"""How many of all workers are remembered, in one namespace."""

Answer: TypeAlias = tuple[NodeId, tuple[Room, ...]]


class ToldOfLosses(CommandTarget[Any], Protocol):
    """A namespace on this worker, as far as it is told of other workers that are lost."""

    @property
    def wants_losses(self) -> bool:
        """Whether it is to be told."""

    def worker_lost(self, node: NodeId, rooms: tuple[Room, ...]) -> None:
        """A worker is lost, which had these rooms of the namespace as far as is known."""


def _read(node: NodeId, response: Any) -> Answer:
    if not isinstance(response, list):
        raise TypeError("expected a list")
    return node, check_rooms(tuple(response[:MAX_ROOMS]))


_READER: ResponseReader[Answer, list[Answer]] = ResponseReader(_read, list)

Ask: TypeAlias = Callable[
    [str, ClusterRequest, ResponseReader[Answer, list[Answer]], float],
    Coroutine[Any, Any, list[Answer]],
]
"""`Cluster.request`."""


class KnownRooms:
    """The rooms of the other workers; asks for them from start to close.

    Args:
        may_live: whether a worker has not left, and is not lost. Others are not remembered: they
            may have gone after they answered, while somebody else was waited for.
    """

    def __init__(
        self,
        ask: Ask,
        namespaces: Mapping[str, ToldOfLosses],
        interval: float,
        may_live: Callable[[NodeId], bool],
    ) -> None:
        self._ask = ask
        self._namespaces = namespaces
        self._may_live = may_live
        self._interval = ASK_EVERY * interval
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = Tasks()
        self._known: dict[str, dict[NodeId, tuple[Room, ...]]] = {}

    def start(self) -> None:
        """Ask now, and then at intervals, in the namespaces that want to know."""
        delay = self._interval * random.uniform(0.9, 1)  # noqa: S311 -- no secret
        self._timer = self._loop.call_later(delay, self.start)
        wanted = [name for name, ns in list(self._namespaces.items()) if ns.wants_losses]
        if wanted and not self._tasks:  # else the last answers are waited for still
            self._tasks.start(self._ask_all(wanted), "fastapi_rooms rooms of others")

    async def close(self, timeout: float) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.cancel(timeout)

    def of(self, node: NodeId, namespace: str) -> tuple[Room, ...]:
        """The rooms of a worker, in the order of their names."""
        return self._known.get(namespace, {}).get(node, ())

    def forget(self, node: NodeId) -> None:
        """A worker has left, or is lost."""
        for known in self._known.values():
            known.pop(node, None)

    async def _ask_all(self, namespaces: Collection[str]) -> None:
        for namespace in namespaces:
            with suppress(AdapterUnavailable, NotStarted):  # it is asked again
                await self._ask_in(namespace)
        for namespace in self._known.keys() - set(namespaces):
            del self._known[namespace]

    async def _ask_in(self, namespace: str) -> None:
        arguments = {"sids": False, "limit": MAX_ROOMS}
        request = ClusterRequest(Verb.ROOMS, Target(()), arguments, here=False)
        try:
            answers = await self._ask(namespace, request, _READER, ASK_TIMEOUT)
        except RequestError as error:  # not all have answered
            answers = error.partial
        self._remember(namespace, answers)

    def _remember(self, namespace: str, answers: Iterable[Answer]) -> None:
        """Remember what was answered; of workers that did not, what they said before."""
        known = self._known.get(namespace, {}) | dict(answers)
        known = {node: rooms for node, rooms in known.items() if self._may_live(node)}
        left = MAX_ROOMS_IN_ALL
        for node, rooms in known.items():
            known[node] = tuple(sorted(islice(rooms, left)))
            left -= len(known[node])
        self._known[namespace] = known
