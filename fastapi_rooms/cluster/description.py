"""What workers say of themselves, for whoever looks after them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from typing import Any

from fastapi_rooms.cluster.commands import CommandTarget
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.dispatcher import ResponseReader
from fastapi_rooms.types import NodeId


@dataclass(frozen=True, slots=True)
class EdgeRole:
    """A worker that is an edge: it holds clients whose endpoints run in backends."""

    clients: int
    """How many it holds."""
    routes: dict[str, str]
    """The names of backends, by path."""


@dataclass(frozen=True, slots=True)
class BackendRole:
    """A worker that is a backend: it runs endpoints for clients that edges hold."""

    name: str
    """What edges call it in their routes."""
    clients: int
    """How many it serves."""
    capacity: int
    """How many it takes."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker says of itself."""

    node: NodeId
    """Its id, new at every start."""
    version: str
    """Of this package, as it is installed there."""
    host: str
    """The name of its machine, or container."""
    pid: int
    """Of its process."""
    uptime: float
    """Seconds since its manager was started."""
    sockets: int
    """How many are connected to it, in all namespaces."""
    edge: EdgeRole | None = None
    """What it is as an edge, if it is one."""
    backend: BackendRole | None = None
    """What it is as a backend, if it is one."""


@cache
def version_here() -> str:
    """The version of this package."""
    try:
        return version("fastapi-rooms")
    except PackageNotFoundError:  # used from a checkout that is not installed
        return "0+unknown"


def describe(
    uptime: float, namespaces: Iterable[CommandTarget[Any]], roles: dict[str, Any]
) -> dict[str, Any]:
    """This worker, in JSON values; `roles` says whether it is an edge, or a backend."""
    return {
        "version": version_here(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "uptime": uptime,
        "sockets": sum(namespace.count(Target()) for namespace in namespaces),
        **roles,
    }


def _read(node: NodeId, answer: Any) -> Worker:
    match answer:
        case {
            "version": str(version),
            "host": str(host),
            "pid": int(pid),
            "uptime": int() | float() as uptime,
            "sockets": int(sockets),
        }:
            roles = _edge(answer.get("edge")), _backend(answer.get("backend"))
            return Worker(node, version, host, pid, float(uptime), sockets, *roles)
        case _:
            raise ValueError("not a worker")


def _edge(answer: Any) -> EdgeRole | None:
    match answer:
        case None:
            return None
        case {"clients": int(clients), "routes": dict(routes)} if all(
            isinstance(name, str) for name in routes.values()
        ):
            return EdgeRole(clients, routes)
        case _:
            raise ValueError("not an edge")


def _backend(answer: Any) -> BackendRole | None:
    match answer:
        case None:
            return None
        case {"name": str(name), "clients": int(clients), "capacity": int(capacity)}:
            return BackendRole(name, clients, capacity)
        case _:
            raise ValueError("not a backend")


WORKERS: ResponseReader[Worker, list[Worker]] = ResponseReader(
    _read, lambda workers: sorted(workers, key=attrgetter("node"))
)
