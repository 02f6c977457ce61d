"""The checks of `fastapi-rooms doctor` for edges and backends, where there are any: pure."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi_rooms import BackendRole, EdgeRole, Worker
from fastapi_rooms.cli.findings import Finding, Grade
from fastapi_rooms.cli.output import plural


def edge_findings(workers: Sequence[Worker]) -> list[Finding]:
    """What there is to say; nothing where no worker is an edge or a backend."""
    edges = [worker.edge for worker in workers if worker.edge is not None]
    backends = [worker.backend for worker in workers if worker.backend is not None]
    routed = {name for edge in edges for name in edge.routes.values()}
    findings = [_edges(edges)] if edges else []
    for name in sorted(routed | {backend.name for backend in backends}):
        of_name = [backend for backend in backends if backend.name == name]
        findings.append(_of_name(name, of_name, edges))
    return findings


def _edges(edges: Sequence[EdgeRole]) -> Finding:
    clients = sum(edge.clients for edge in edges)
    text = f"{plural(len(edges), 'edge')} with {plural(clients, 'client')}"
    if len({frozenset(edge.routes.items()) for edge in edges}) > 1:
        advice = "Give all edges the same --route options, if clients reach any of them."
        return Finding("edges", Grade.NOTE, f"{text}; their routes differ", advice)
    return Finding("edges", Grade.OK, text)


def _of_name(name: str, backends: Sequence[BackendRole], edges: Sequence[EdgeRole]) -> Finding:
    subject = f"backends {name}"
    routing = sum(name in edge.routes.values() for edge in edges)
    if not backends:
        text = f"there are none, and {plural(routing, 'edge')} send clients to them: they get 503"
        return Finding(subject, Grade.WRONG, text, f"fastapi-rooms backend app:app --name {name}")
    clients = sum(backend.clients for backend in backends)
    capacity = sum(backend.capacity for backend in backends)
    text = f"{plural(len(backends), 'backend')}, with {clients} of {plural(capacity, 'client')}"
    if not routing:
        advice = f"Give edges a route to them: --route /path={name}. Or is the name misspelt?"
        return Finding(subject, Grade.NOTE, f"{text}; no edge sends clients to them", advice)
    if clients >= capacity:
        advice = "Start another, or raise --capacity."
        return Finding(subject, Grade.WRONG, f"{text}: they are full", advice)
    if clients > capacity - max(backend.capacity for backend in backends):
        advice = "Start another, so that one can be restarted without its clients having to wait."
        return Finding(subject, Grade.NOTE, f"{text}; if one ends, the others lack room", advice)
    return Finding(subject, Grade.OK, text)
