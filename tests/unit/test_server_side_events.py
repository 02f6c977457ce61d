"""Workers that talk to each other: server-side events, and the replies to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastapi_rooms import ConfigurationError, RequestTimeout, RoomManager, ServerReply, UsageError
from fastapi_rooms.testing import Cluster, eventually


@pytest.fixture
async def workers() -> AsyncIterator[list[RoomManager]]:
    async with Cluster(workers=3) as cluster:
        yield cluster.workers


def _record(workers: list[RoomManager]) -> list[tuple[int, tuple[Any, ...]]]:
    """Has every worker note what it is told of `reload`; by the number of the worker."""
    told: list[tuple[int, tuple[Any, ...]]] = []
    for number, worker in enumerate(workers):
        worker.on_server_side("reload")(lambda *args, number=number: told.append((number, args)))
    return told


async def test_an_event_reaches_every_other_worker_with_its_arguments(
    workers: list[RoomManager],
) -> None:
    told = _record(workers)
    await workers[0].server_side_emit("reload", "config", {"n": [1, None]})
    await eventually(lambda: len(told) == 2)
    assert sorted(told) == [(1, ("config", {"n": [1, None]})), (2, ("config", {"n": [1, None]}))]


async def test_an_event_nobody_handles_is_no_error(workers: list[RoomManager]) -> None:
    told = _record(workers)
    await workers[0].server_side_emit("unknown")
    await workers[0].server_side_emit("reload")
    await eventually(lambda: len(told) == 2)


async def test_namespaces_have_handlers_of_their_own(workers: list[RoomManager]) -> None:
    one, two, _ = workers
    told: list[str] = []
    two.on_server_side("reload")(lambda: told.append("/"))
    two.of("/chat").on_server_side("reload")(lambda: told.append("/chat"))
    await one.of("/chat").server_side_emit("reload")
    await eventually(lambda: told)
    await one.server_side_emit("reload")
    await eventually(lambda: len(told) == 2)
    assert told == ["/chat", "/"]


async def test_replies_are_what_the_handlers_return(workers: list[RoomManager]) -> None:
    one, two, three = workers
    two.on_server_side("add")(lambda a, b: a + b)

    @three.on_server_side("add")
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a * 10 + b

    replies = await one.server_side_emit_with_ack("add", 1, 2)
    assert {reply.node: reply for reply in replies} == {
        two.node: ServerReply(two.node, 3, None),
        three.node: ServerReply(three.node, 12, None),
    }


async def test_a_handler_that_raises_or_is_missing_replies_with_the_error(
    workers: list[RoomManager],
) -> None:
    one, two, three = workers

    @two.on_server_side("add")
    def fail() -> None:
        raise ZeroDivisionError("by zero")

    replies = {reply.node: reply for reply in await one.server_side_emit_with_ack("add")}
    assert replies == {
        two.node: ServerReply(two.node, None, "ZeroDivisionError: by zero"),
        three.node: ServerReply(three.node, None, "There is no handler of 'add' here."),
    }


async def test_arguments_that_a_handler_does_not_take_are_refused_counted_and_told_once(
    workers: list[RoomManager], caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = workers
    two.on_server_side("add")(lambda a, b=1: a + b)
    two.on_server_side("any")(dict)  # has no signature
    three.on_server_side("add")(lambda *, a: a)
    for _ in range(3):
        replies = {reply.node: reply for reply in await one.server_side_emit_with_ack("add")}
        reason = "The handler of 'add' here is given 0 arguments: missing a required argument: 'a'."
        assert replies[two.node] == ServerReply(two.node, None, reason)
        assert replies[three.node].error is not None
    await one.server_side_emit("add", 1, 2, 3)
    await eventually(lambda: (two.health.dropped, three.health.dropped) == (4, 4))
    assert [(r.levelname, r.exc_info) for r in caplog.records] == [("WARNING", None)] * 2
    replies = {reply.node: reply for reply in await one.server_side_emit_with_ack("add", 1)}
    assert replies[two.node].value == 2
    assert (await one.server_side_emit_with_ack("any"))[0].value == {}
    assert two.health.dropped == 4


async def test_a_bug_in_a_handler_is_told_with_its_traceback(
    workers: list[RoomManager], caplog: pytest.LogCaptureFixture
) -> None:
    one, two, _ = workers

    @two.on_server_side("add")
    def add(a: Any) -> None:
        def inner() -> None: ...

        inner(a)  # type: ignore[call-arg]  # the bug

    await one.server_side_emit_with_ack("add", 1)
    assert "inner(a)" in caplog.text
    assert two.health.dropped == 0


async def test_a_timeout_has_the_replies_and_errors_that_came_in_time(
    workers: list[RoomManager],
) -> None:
    one, two, three = workers

    @two.on_server_side("add")
    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RequestTimeout) as raised:
        await one.server_side_emit_with_ack("add", timeout=0.05)
    assert raised.value.silent == {two.node}
    assert raised.value.partial == [
        ServerReply(three.node, None, "There is no handler of 'add' here.")
    ]


def test_an_event_has_one_handler() -> None:
    rooms = RoomManager()

    @rooms.on_server_side("reload")
    def handler() -> None: ...

    with pytest.raises(ConfigurationError, match="a handler of 'reload' already"):
        rooms.on_server_side("reload")(lambda: None)
    rooms.of("/chat").on_server_side("reload")(handler)


@pytest.mark.parametrize("event", [None, 5, b"reload"])
async def test_an_event_that_is_no_string_is_refused(event: Any) -> None:
    async with RoomManager() as rooms:
        with pytest.raises(UsageError):
            rooms.on_server_side(event)
        for emit in (rooms.server_side_emit, rooms.server_side_emit_with_ack):
            with pytest.raises(UsageError):
                await emit(event)


async def test_values_that_are_not_json_are_refused(workers: list[RoomManager]) -> None:
    for emit in (workers[0].server_side_emit, workers[0].server_side_emit_with_ack):
        with pytest.raises(TypeError):
            await emit("reload", object())
