"""Which topology is believed, and who is asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import AuthenticationError

from fastapi_rooms.adapters.redis.sharded.topology_refresher import TopologyRefresher
from fastapi_rooms.adapters.redis.slots import Node, Topology
from fastapi_rooms.testing import eventually

A, B, SEED = Node("a", 1), Node("b", 2), Node("seed", 3)
AT_A: list[Any] = [[0, 16_383, [b"a", 1, b"id"]]]
AT_B: list[Any] = [[0, 16_383, [b"b", 2, b"id"]]]


class Nodes:
    """What each node answers: a reply, an error, or nothing."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.known = [A, B]
        self.asked: list[Node] = []
        self.learned: list[Topology] = []
        self.fault: Exception | None = None
        self.failed: list[tuple[str, bool]] = []

    async def ask(self, node: Node) -> Any:
        self.asked.append(node)
        answer = self.answers.get(node.host, "nothing")
        if answer == "nothing":
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def note(self, topology: Topology) -> None:
        self.learned.append(topology)
        if self.fault is not None:
            raise self.fault

    def note_failure(self, reason: str, refused: bool) -> None:
        self.failed.append((reason, refused))


@asynccontextmanager
async def looking(nodes: Nodes, interval: float = 0.1) -> AsyncIterator[TopologyRefresher]:
    survey = TopologyRefresher(
        known=lambda: nodes.known,
        others=lambda: [SEED],
        ask=nodes.ask,
        ask_anew=nodes.ask,
        learned=nodes.note,
        failed=nodes.note_failure,
        interval=interval,
        patience=0.05,
    )
    task = asyncio.create_task(survey.run())
    try:
        yield survey
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_first_answer_is_believed_and_nodes_take_turns() -> None:
    nodes = Nodes(a=AT_A, b=AT_A)
    async with looking(nodes):
        await eventually(lambda: len(nodes.learned) == 4)
    assert nodes.asked[:4] in ([A, B, A, B], [B, A, B, A])
    assert {topology.owner(0) for topology in nodes.learned} == {A}


async def test_a_change_is_believed_when_two_looks_agree() -> None:
    nodes = Nodes(a=AT_A, b=AT_A)
    async with looking(nodes):
        await eventually(lambda: len(nodes.learned) >= 2)
        nodes.answers["b"] = AT_B  # one node alone says so
        seen = len(nodes.asked)
        await eventually(lambda: nodes.asked[seen:].count(B) >= 2)
        assert {topology.owner(0) for topology in nodes.learned} == {A}
        nodes.answers["a"] = AT_B
        await eventually(lambda: nodes.learned[-1].owner(0) == B)


async def test_who_does_not_answer_is_asked_last() -> None:
    nodes = Nodes(b=AT_A)
    async with looking(nodes):
        await eventually(lambda: len(nodes.learned) == 4)
    assert nodes.asked.count(A) <= 1
    assert SEED not in nodes.asked
    assert nodes.failed == []


async def test_others_are_asked_when_no_known_node_answers() -> None:
    nodes = Nodes(a=ConnectionError("gone"), b="what?", seed=AT_A)
    async with looking(nodes):
        await eventually(lambda: nodes.learned)
    assert set(nodes.asked) == {A, B, SEED}


async def test_it_is_said_why_nobody_answers_and_looked_for_again() -> None:
    nodes = Nodes(seed=AuthenticationError("invalid username-password pair"))
    nodes.known = []
    async with looking(nodes):
        await eventually(lambda: nodes.failed)
        assert nodes.failed[0] == ("seed:3: invalid username-password pair", True)
        nodes.answers["seed"] = []
        await eventually(lambda: nodes.failed[-1] == ("seed:3 knows of no slots", False))
        nodes.answers["seed"] = AT_A
        await eventually(lambda: nodes.learned)


async def test_it_looks_soon_when_it_is_told_to() -> None:
    nodes = Nodes(a=AT_A, b=AT_A)
    async with looking(nodes, interval=3600) as survey:
        await eventually(lambda: nodes.learned)
        for _ in range(9):  # by itself it would look ever more seldom
            seen = len(nodes.learned)
            survey.soon()
            await eventually(lambda seen=seen: len(nodes.learned) > seen)  # type: ignore[misc]
        before = survey.confirmed
        survey.soon()
        await eventually(lambda: survey.confirmed > before)


async def test_what_could_not_be_followed_is_told_once_and_tried_again_with_every_look(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes = Nodes(a=AT_A, b=AT_A)
    nodes.fault = KeyError("a")
    async with looking(nodes) as survey:
        before = survey.confirmed
        await eventually(lambda: len(nodes.learned) == 4)
        assert survey.confirmed == before, "what depends on it has not been done"
        nodes.fault = None
        await eventually(lambda: survey.confirmed > before)
        failed = len(nodes.failed)
        assert set(nodes.failed) == {("its nodes could not be followed: KeyError('a')", False)}
        nodes.fault = KeyError("a")
        await eventually(lambda: len(nodes.failed) > failed)
    assert {topology.owner(0) for topology in nodes.learned} == {A}
    assert len(caplog.records) == 2, "one for each time that it began"
    assert all(record.exc_info for record in caplog.records)
