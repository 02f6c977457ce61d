"""Whether a manager reaches the edge that holds a client: an application's others may not.

The client's rooms are at its edge, which is on the carrier of the backend's manager. What another
manager sends to them goes over that one's carrier, and has to get there all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi_rooms.adapters import (
    Adapter,
    MemoryAdapter,
    RabbitMQAdapter,
    RedisAdapter,
    RedisClusterAdapter,
)
from fastapi_rooms.cluster.description import WORKERS
from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import (
    AdapterUnavailable,
    NotStarted,
    RequestRefused,
    RequestTimeout,
    UsageError,
)
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire.verbs import Verb

if TYPE_CHECKING:
    from fastapi_rooms.worker.runtime import Runtime

logger = logging.getLogger("fastapi_rooms")

HELD = "fastapi_rooms.held"
"""Where the ASGI scope of a client that an edge holds has its `Held`."""

ADVICE = (
    "Behind an edge, an endpoint uses the manager of its backend: give this one to it, by "
    "Backend(…, adapter=rooms), or --manager module:name where the command runs it. One with the "
    "same carrier and prefix can be used, too."
)

_CARRIERS: dict[type[Any], str] = {
    MemoryAdapter: "memory",
    RedisAdapter: "Redis",
    RedisClusterAdapter: "Redis Cluster",
    RabbitMQAdapter: "RabbitMQ",
}
"""Of the adapters whose carriers are known; others may lead anywhere."""


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds a client, and for whom."""

    edge: NodeId
    """The edge."""
    backend: str
    """The name of the backend that runs its endpoint."""
    runtime: Runtime
    """That of the backend's manager."""


def difference(ours: Adapter, theirs: Adapter, backend: str) -> str:
    """Why what is published by one cannot arrive at the other; empty where it can, or may."""
    here, there = _carrier_of(ours), _carrier_of(theirs)
    if here and there and here != there:
        return f"it is on {here}, and the backend {backend!r} on {there}"
    if (
        isinstance(ours, MemoryAdapter)
        and isinstance(theirs, MemoryAdapter)
        and ours.bus is not theirs.bus
    ):
        return f"it is on another memory bus than the backend {backend!r}"
    if ours.prefix != theirs.prefix:
        return (
            f"its prefix is {ours.prefix!r}, and that of the backend {backend!r} {theirs.prefix!r}"
        )
    return ""


def _carrier_of(adapter: Adapter) -> str:
    return next((name for kind, name in _CARRIERS.items() if isinstance(adapter, kind)), "")


class EdgeCarrier:
    """What one manager finds out about the edges of clients that it is to connect."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tasks = Tasks()
        self._has_warned = False

    def check(self, scope: Mapping[str, Any]) -> None:
        """See that this manager reaches the edge of a client; look into it where it may not.

        From then on its `local` means the clients of the backend, too. Raises `UsageError` if it
        cannot.
        """
        held = scope.get(HELD)
        runtime = self._runtime
        if not isinstance(held, Held) or held.runtime is runtime:
            return
        if why := difference(runtime.adapter, held.runtime.adapter, held.backend):
            raise UsageError(
                "This RoomManager cannot reach the client, whose rooms are at an edge: "
                f"{why}. {ADVICE}"
            )
        run = runtime.run
        run.frames.backends.add(held.runtime.run.frames)
        is_known = run.cluster.knows(held.edge)
        if not (is_known or self._has_warned or self._tasks):
            self._tasks.start(self._find(held), "fastapi_rooms edge")

    async def _find(self, held: Held) -> None:
        """Ask an edge that is not known who it is, and warn if it is not there."""
        cluster, timeout = self._runtime.run.cluster, self._runtime.settings.request_timeout
        request = ClusterRequest(Verb.DESCRIBE, Target(), {}, node=held.edge)
        try:
            found = await cluster.request("/", request, WORKERS, timeout)
        except RequestTimeout as error:
            found = error.partial
        except RequestRefused:
            return  # it is there
        except (AdapterUnavailable, NotStarted):
            return  # the next client has it asked again
        if not (found or cluster.knows(held.edge)):
            self._has_warned = True
            logger.warning(
                "A RoomManager does not find the edge %s, which holds a client of the backend %r: "
                "what it sends to rooms does not reach that client. %s",
                held.edge,
                held.backend,
                ADVICE,
            )

    async def stop(self, timeout: float) -> None:
        """The run is about to end."""
        await self._tasks.cancel(timeout)
        self._has_warned = False

    def forget(self) -> None:
        """The event loop of the run is gone."""
        self._tasks.forget()
        self._has_warned = False
