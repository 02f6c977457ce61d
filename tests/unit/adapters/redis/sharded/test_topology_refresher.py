"""Which topology is accepted, and which node is asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import AuthenticationError

from fastapi_rooms.adapters.redis.sharded.slots import Node, Topology
from fastapi_rooms.adapters.redis.sharded.topology_refresher import TopologyRefresher
from fastapi_rooms.testing import eventually

A, B, SEED = Node("a", 1), Node("b", 2), Node("seed", 3)
AT_A: list[Any] = [[0, 16_383, [b"a", 1, b"id"]]]
AT_B: list[Any] = [[0, 16_383, [b"b", 2, b"id"]]]


class Nodes:
    """What each node answers: a reply, an error, or nothing."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.connected = [A, B]
        self.asked: list[Node] = []
        self.accepted: list[Topology] = []
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
        self.accepted.append(topology)
        if self.fault is not None:
            raise self.fault

    def note_failure(self, reason: str, refused: bool) -> None:
        self.failed.append((reason, refused))


@asynccontextmanager
async def refreshing(nodes: Nodes, interval: float = 0.1) -> AsyncIterator[TopologyRefresher]:
    refresher = TopologyRefresher(
        connected=lambda: nodes.connected,
        others=lambda: [SEED],
        ask=nodes.ask,
        ask_new=nodes.ask,
        accepted=nodes.note,
        failed=nodes.note_failure,
        interval=interval,
        patience=0.05,
    )
    task = asyncio.create_task(refresher.run())
    try:
        yield refresher
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_first_answer_is_accepted_and_nodes_take_turns() -> None:
    nodes = Nodes(a=AT_A, b=AT_A)
    async with refreshing(nodes):
        await eventually(lambda: len(nodes.accepted) == 4)
    assert nodes.asked[:4] in ([A, B, A, B], [B, A, B, A])
    assert {topology.owner(0) for topology in nodes.accepted} == {A}


async def test_a_change_is_accepted_when_two_answers_agree() -> None:
    nodes = Nodes(a=AT_A, b=AT_A)
    async with refreshing(nodes):
        await eventually(lambda: len(nodes.accepted) >= 2)
        nodes.answers["b"] = AT_B  # one node alone says so
        seen = len(nodes.asked)
        await eventually(lambda: nodes.asked[seen:].count(B) >= 2)
        assert {topology.owner(0) for topology in nodes.accepted} == {A}
        nodes.answers["a"] = AT_B
        await eventually(lambda: nodes.accepted[-1].owner(0) == B)


async def test_who_does_not_answer_is_asked_last() -> None:
    nodes = Nodes(b=AT_A)
    async with refreshing(nodes):
        await eventually(lambda: len(nodes.accepted) == 4)
    assert nodes.asked.count(A) <= 1
    assert SEED not in nodes.asked
    assert nodes.failed == []


async def test_others_are_asked_when_no_known_node_answers() -> None:
    nodes = Nodes(a=ConnectionError("gone"), b="what?", seed=AT_A)
    async with refreshing(nodes):
        await eventually(lambda: nodes.accepted)
    assert set(nodes.asked) == {A, B, SEED}


async def test_it_is_said_why_nobody_answers_and_asked_again() -> None:
    nodes = Nodes(seed=AuthenticationError("invalid username-password pair"))
    nodes.connected = []
    async with refreshing(nodes):
        await eventually(lambda: nodes.failed)
        why, is_login_refused = nodes.failed[0]
        assert why.startswith("seed:3: invalid username-password pair (WRONGPASS)")
        assert is_login_refused
        nodes.answers["seed"] = []
        await eventually(lambda: nodes.failed[-1] == ("seed:3 knows of no slots", False))
        nodes.answers["seed"] = AT_A
        await eventually(lambda: nodes.accepted)


async def test_it_refreshes_soon_when_it_is_told_to() -> None:
    nodes = Nodes(a=AT_A, b=AT_A)
    async with refreshing(nodes, interval=3600) as refresher:
        await eventually(lambda: nodes.accepted)
        for _ in range(9):  # by itself it would ask ever more seldom
            seen = len(nodes.accepted)
            refresher.refresh_soon()
            await eventually(lambda seen=seen: len(nodes.accepted) > seen)  # type: ignore[misc]
        before = refresher.confirmed_at
        refresher.refresh_soon()
        await eventually(lambda: refresher.confirmed_at > before)


async def test_what_could_not_be_followed_is_told_once_and_tried_again_with_every_refresh(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes = Nodes(a=AT_A, b=AT_A)
    nodes.fault = KeyError("a")
    async with refreshing(nodes) as refresher:
        before = refresher.confirmed_at
        await eventually(lambda: len(nodes.accepted) == 4)
        assert refresher.confirmed_at == before, "what depends on it has not been done"
        nodes.fault = None
        await eventually(lambda: refresher.confirmed_at > before)
        failed = len(nodes.failed)
        assert set(nodes.failed) == {("its nodes could not be followed: KeyError('a')", False)}
        nodes.fault = KeyError("a")
        await eventually(lambda: len(nodes.failed) > failed)
    assert {topology.owner(0) for topology in nodes.accepted} == {A}
    assert len(caplog.records) == 2, "one for each time that it began"
    assert all(record.exc_info for record in caplog.records)
