"""When an edge has learnt what rooms have, and lets a backend in."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from fastapi_rooms.errors import AdapterUnavailable, MalformedEnvelope
from fastapi_rooms.gateway import learning as module
from fastapi_rooms.gateway.learning import ATTEMPTS, Learning
from fastapi_rooms.testing import eventually
from fastapi_rooms.worker.learning import Learner


class Edge:
    """Learns as the test has it, and writes down which backends have arrived."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.learnt = 0
        self.is_malformed = False
        self.arrived: list[tuple[str, Any]] = []
        self.learning = Learning(cast("Learner", self), self._arrived)

    async def learn(self) -> None:
        self.learnt += 1
        if self.error is not None:
            raise self.error

    def _arrived(self, node: str, about: dict[str, Any]) -> None:
        self.arrived.append((node, about))
        if self.is_malformed:
            raise MalformedEnvelope("cannot be")

    async def is_done(self) -> None:
        await eventually(lambda: not self.learning._tasks)


@pytest.fixture
async def edge(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.setattr(module, "RETRY", 0.0)
    edge = Edge()
    yield edge
    await edge.learning.close(1)


async def test_a_backend_arrives_once_with_what_it_has_said_last(edge: Edge) -> None:
    edge.learning.heard("one", {"clients": 0})
    edge.learning.heard("one", {"clients": 1})
    await edge.is_done()
    assert edge.arrived == [("one", {"clients": 1})]


async def test_a_backend_that_is_gone_meanwhile_does_not_arrive(edge: Edge) -> None:
    edge.learning.heard("one", {})
    edge.learning.gone("one")
    edge.learning.heard("two", {})
    await edge.is_done()
    assert edge.arrived == [("two", {})]


async def test_a_backend_that_says_what_cannot_be_does_not_arrive_until_it_is_heard_again(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    edge.is_malformed = True
    edge.learning.heard("one", {})
    await edge.is_done()
    assert [one for one in caplog.records if one.levelno > logging.DEBUG] == []
    edge.is_malformed = False
    edge.learning.heard("one", {"again": True})
    await edge.is_done()
    assert edge.arrived[-1] == ("one", {"again": True})


@pytest.mark.parametrize("error", [AdapterUnavailable("forbidden"), RuntimeError("a bug")])
async def test_a_backend_arrives_though_nothing_can_be_read(
    edge: Edge, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    edge.error = error
    edge.learning.heard("one", {})
    await edge.is_done()
    assert edge.learnt == ATTEMPTS
    assert edge.arrived == [("one", {})]
    assert ("a bug" in caplog.text) is isinstance(error, RuntimeError)


async def test_it_is_read_now_and_then_and_at_once_where_the_carrier_may_be_another(
    edge: Edge,
) -> None:
    for now, learnt in ((100.0, 1), (101.0, 1), (105.0, 2)):
        edge.learning.tick(now)
        await edge.is_done()
        assert edge.learnt == learnt
    edge.learning.again()
    edge.learning.tick(105.1)
    await edge.is_done()
    assert edge.learnt == 3
