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


@cache
def version_here() -> str:
    """The version of this package."""
    try:
        return version("fastapi-rooms")
    except PackageNotFoundError:  # used from a checkout that is not installed
        return "0+unknown"


def describe(uptime: float, namespaces: Iterable[CommandTarget[Any]]) -> dict[str, Any]:
    """This worker, in JSON values."""
    return {
        "version": version_here(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "uptime": uptime,
        "sockets": sum(namespace.count(Target()) for namespace in namespaces),
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
            return Worker(node, version, host, pid, float(uptime), sockets)
        case _:
            raise ValueError("not a worker")


WORKERS: ResponseReader[Worker, list[Worker]] = ResponseReader(
    _read, lambda workers: sorted(workers, key=attrgetter("node"))
)
