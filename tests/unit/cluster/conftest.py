"""A started cluster on a carrier in a test's hands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.wire.envelope import HeartbeatKind
from tests.unit.cluster.support import (
    ANN,
    Carrier,
    HandlerNamespace,
    make_cluster,
    receive_heartbeat,
)
from tests.unit.support import other_tasks


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
def namespace() -> HandlerNamespace:
    return HandlerNamespace()


@pytest.fixture
async def cluster(carrier: Carrier, namespace: HandlerNamespace) -> AsyncIterator[Cluster]:
    """A started one that knows Ann."""
    cluster = make_cluster(carrier, namespace)
    await cluster.start()
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
    yield cluster
    carrier.release()
    await cluster.close(1)
    assert other_tasks() == set()
