"""How edges and backends are, for readiness and for metrics."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from starlette.types import Scope, Send

from fastapi_rooms.wire import gateway as wire


@dataclass(frozen=True, slots=True)
class GatewayHealth:
    """How an edge is. Counts are since it was made."""

    ready: bool
    """Whether new clients may be sent here: it runs and is not draining, its manager is ready, and
    at least one of its routes has a backend."""
    reason: str
    """Why it is not, for people; empty when it is."""
    clients: int
    """How many it holds, those included who wait for a backend."""
    attached: int
    """How many of them have an endpoint: one that runs, or is being opened."""
    backends: dict[str, int]
    """How many live backends it knows, by the names in its routes."""
    reattached: int
    """How often a client got another endpoint, on the same connection."""
    lost: int
    """How many messages of clients may have been taken by no endpoint, at most."""
    dropped: int
    """Frames that were dropped, as they made no sense; of the present run."""


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """How a backend is."""

    ready: bool
    """Whether edges may send clients here: it runs and is not draining, and its manager is ready.
    One that is full is ready all the same."""
    reason: str
    """Why it is not, for people; empty when it is."""
    clients: int
    """How many it serves."""
    capacity: int
    """How many it takes."""
    edges: int
    """How many live edges it knows."""
    dropped: int
    """Frames that were dropped, as they made no sense; of the present run."""


@dataclass(slots=True)
class Tally:
    """What an edge counts."""

    reattached: int = 0
    lost: int = 0


async def answer_health(scope: Scope, send: Send, health: GatewayHealth) -> None:
    """Answer a readiness probe: 200 or 503, and the counts.

    Edges face the public, and a reason may name the Redis: so it is left out.
    """
    status = 200 if health.ready else 503
    if scope["method"] not in ("GET", "HEAD"):
        status = 405
    counts = {name: value for name, value in asdict(health).items() if name != "reason"}
    body = b"" if status == 405 else wire.to_json(counts)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *([(b"allow", b"GET, HEAD")] if status == 405 else []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
