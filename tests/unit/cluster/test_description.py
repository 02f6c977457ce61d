"""What workers say of themselves, and what is believed of it."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from fastapi_rooms import BackendRole, EdgeRole, RoomManager, UsageError, Worker, __version__
from fastapi_rooms.cluster import description
from fastapi_rooms.cluster.commands import EMPTY_NAMESPACE
from fastapi_rooms.cluster.description import WORKERS
from fastapi_rooms.testing import Cluster, eventually

SAID = {"version": "1.2.3", "host": "box", "pid": 7, "uptime": 1.5, "sockets": 2}


async def test_a_worker_describes_itself() -> None:
    async with Cluster(1) as cluster:
        (rooms,) = cluster
        await cluster.member(rooms)
        await cluster.member(rooms.of("/chat"))
        (worker,) = await rooms.workers()
        assert rooms.nodes() == {worker.node}
        assert (worker.version, worker.pid, worker.sockets) == (__version__, os.getpid(), 2)

        async def is_up_longer() -> bool:
            return (await rooms.workers())[0].uptime > worker.uptime > 0

        await eventually(is_up_longer, what="its uptime rises")


async def test_an_observer_is_no_worker() -> None:
    async with RoomManager(observer=True) as rooms:
        assert await rooms.workers() == []


def test_what_a_worker_says_is_read() -> None:
    worker = WORKERS.read("node", {**SAID, "newer": "than this"})
    assert worker == Worker("node", "1.2.3", "box", 7, 1.5, 2)
    assert WORKERS.read("node", {**SAID, "uptime": 3}).uptime == 3.0


def test_what_an_edge_and_a_backend_say_is_read() -> None:
    edge = {"clients": 3, "routes": {"/chat": "chat"}}
    assert WORKERS.read("node", {**SAID, "edge": edge}).edge == EdgeRole(3, {"/chat": "chat"})
    backend = {"name": "chat", "clients": 3, "capacity": 10}
    assert WORKERS.read("node", {**SAID, "backend": backend}).backend == BackendRole("chat", 3, 10)


@pytest.mark.parametrize(
    "role",
    [
        {"edge": {}},
        {"edge": {"clients": 1, "routes": {"/": 1}}},
        {"edge": "edge"},
        {"backend": {"name": "chat", "clients": "1", "capacity": 10}},
    ],
)
def test_a_malformed_role_is_refused(role: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not an? (edge|backend)"):
        WORKERS.read("node", {**SAID, **role})


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        *({name: value for name, value in SAID.items() if name != left_out} for left_out in SAID),
        *({**SAID, name: None} for name in SAID),
    ],
)
def test_a_malformed_description_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="not a worker"):
        WORKERS.read("node", answer)


def test_an_empty_namespace_describes_no_worker() -> None:
    with pytest.raises(UsageError):
        EMPTY_NAMESPACE.describe()


def test_a_checkout_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(description, "version", not_installed)
    assert description.version_here.__wrapped__() == "0+unknown"
