"""Whether a manager reaches the edge that holds a client: an application's others may not.

The client's rooms are at its edge, which is on the carrier of the backend's manager. What another
manager sends to them goes over that one's carrier, and has to get there all the same.
"""

from __future__ import annotations

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
from fastapi_rooms.errors import UsageError
from fastapi_rooms.types import NodeId

if TYPE_CHECKING:
    from fastapi_rooms.worker.runtime import Runtime

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


def check_reaches(runtime: Runtime, scope: Mapping[str, Any]) -> None:
    """Raise `UsageError` if a manager cannot reach the edge that holds a client."""
    held = scope.get(HELD)
    if not isinstance(held, Held) or held.runtime is runtime:
        return
    if why := difference(runtime.adapter, held.runtime.adapter, held.backend):
        raise UsageError(
            f"This RoomManager cannot reach the client, whose rooms are at an edge: {why}. {ADVICE}"
        )
