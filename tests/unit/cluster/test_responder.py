"""Requests of the other workers, which this one carries out and answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from fastapi_rooms import UsageError, concurrency
from fastapi_rooms.cluster import responder
from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.cluster.pending import PIECE_BYTES
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire.envelope import HeartbeatKind, Request
from tests.unit.cluster.support import ANN, Carrier, HandlerNamespace, make_cluster
from tests.unit.support import WORKERS, other_tasks


def receive_request(
    cluster: Cluster, verb: str = "emit", number: int = 7, **arguments: Any
) -> None:
    if verb == "emit":
        arguments = {"event": "x", "args": []} | arguments
    assert cluster.received(Request(ANN, 1, "/", Target(), number, verb, arguments))


async def test_a_large_answer_goes_out_in_pieces(
    carrier: Carrier, namespace: HandlerNamespace, cluster: Cluster
) -> None:
    namespace.results = ["x" * 2 * PIECE_BYTES]
    receive_request(cluster)
    await eventually(lambda: len(carrier.replies()) == 3, what="three pieces")
    assert [(r.piece, r.last, r.refused) for r in carrier.replies()] == [
        (0, False, False),
        (1, False, False),
        (2, True, False),
    ]
    assert len(b"".join(r.data for r in carrier.replies())) == 2 * PIECE_BYTES + 2


async def test_an_error_here_is_sent_to_whoever_asked_and_logged(
    carrier: Carrier,
    namespace: HandlerNamespace,
    cluster: Cluster,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails() -> None:
        raise ValueError("later")

    async def fails_in_no_words() -> None:
        raise UsageError("A file: \udcff")

    async def exits() -> None:
        raise SystemExit(3)

    namespace.results = [object(), fails(), ValueError("at once"), fails_in_no_words()]
    namespace.results += [exits(), SystemExit(3)]
    for _ in range(6):
        receive_request(cluster)
    await eventually(lambda: len(carrier.replies()) == 6, what="six refusals")
    assert all(reply.refused for reply in carrier.replies())
    assert sorted(reply.data.decode().split(":")[0] for reply in carrier.replies()) == [
        "A file",
        "SystemExit",
        "SystemExit",
        "TypeError",
        "ValueError",
        "ValueError",
    ]
    assert sum("asked for by another worker" in record.message for record in caplog.records) == 5


async def test_a_request_that_wants_no_answer_gets_none(
    carrier: Carrier, namespace: HandlerNamespace, cluster: Cluster
) -> None:
    done = asyncio.Event()

    async def later() -> None:
        done.set()

    namespace.results = [later(), "at once"]
    receive_request(cluster, number=0)
    receive_request(cluster, number=0)
    await done.wait()
    await eventually(lambda: not other_tasks(), what="it is over")
    assert carrier.replies() == []


async def test_requests_over_the_limit_are_refused(
    carrier: Carrier, namespace: HandlerNamespace, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder, "MAX_RUNNING", 2)
    go_on = asyncio.Event()
    namespace.results = [go_on.wait(), go_on.wait()]
    for _ in range(3):
        receive_request(cluster)
    await eventually(lambda: len(carrier.replies()) == 1, what="a refusal")
    assert b"2 requests are under way" in carrier.replies()[0].data
    go_on.set()
    await eventually(lambda: len(carrier.replies()) == 3, what="the others' answers")


async def test_closing_cancels_requests_under_way(
    carrier: Carrier, namespace: HandlerNamespace
) -> None:
    cluster = make_cluster(carrier, namespace)
    await cluster.start()
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    namespace.results = [endless()]
    receive_request(cluster)
    await asyncio.sleep(0)
    await cluster.close(1)
    assert ended.is_set()
    assert carrier.replies() == []


async def test_a_handler_that_will_not_end_does_not_delay_the_closing(
    carrier: Carrier, namespace: HandlerNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make_cluster(carrier, namespace)
    await cluster.start()
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            with suppress(asyncio.CancelledError):
                await go.wait()

    namespace.results = [stubborn()]
    receive_request(cluster, event="reload")
    await asyncio.sleep(0)
    await cluster.close(0.01)
    assert "event 'reload' was cancelled and has not ended" in caplog.text
    assert carrier.heartbeats()[-1] == (WORKERS, HeartbeatKind.BYE)
    go.set()
    await eventually(lambda: not other_tasks(), what="it has ended")
    assert carrier.replies() == []  # there is nobody left who could send it


async def test_an_unknown_verb_is_answered_as_unsupported_and_not_logged(
    carrier: Carrier, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    receive_request(cluster, "fly")
    await eventually(lambda: len(carrier.replies()) == 1, what="a refusal")
    [refusal] = carrier.replies()
    assert (refusal.refused, refusal.unsupported, refusal.request) == (True, True, 7)
    assert refusal.data == b"The verb 'fly' is unknown to this worker's version."
    assert not caplog.records


async def test_an_unknown_verb_that_wants_no_answer_gets_none(
    carrier: Carrier, cluster: Cluster
) -> None:
    receive_request(cluster, "fly", number=0)
    receive_request(cluster, "count", number=8)
    await eventually(lambda: len(carrier.replies()) == 1, what="the other's answer")
    assert [reply.request for reply in carrier.replies()] == [8]


async def test_a_known_verb_that_is_refused_is_not_unsupported(
    carrier: Carrier, cluster: Cluster
) -> None:
    receive_request(cluster, "join", rooms="no list")
    await eventually(lambda: len(carrier.replies()) == 1, what="a refusal")
    [refusal] = carrier.replies()
    assert (refusal.refused, refusal.unsupported) == (True, False)


async def test_a_namespace_that_is_not_here_has_nobody(carrier: Carrier, cluster: Cluster) -> None:
    assert cluster.received(Request(ANN, 1, "/nowhere", Target(), 7, "count", {}))
    await eventually(lambda: len(carrier.replies()) == 1, what="an answer")
    assert carrier.replies()[0].data == b"0"


async def test_not_even_refusals_are_sent_to_a_flood(
    carrier: Carrier,
    namespace: HandlerNamespace,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responder, "MAX_RUNNING", 1)
    go_on = asyncio.Event()
    namespace.results = [go_on.wait()]
    for number in range(1, 5):  # in one turn, so that no refusal has been sent yet
        receive_request(cluster, number=number)
    go_on.set()
    await eventually(lambda: not other_tasks(), what="nothing is under way")
    assert sorted(reply.request for reply in carrier.replies()) == [1, 2]


async def test_answers_that_cannot_be_sent_harm_nothing(
    carrier: Carrier, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    carrier.down = True
    receive_request(cluster, "count")
    await eventually(lambda: len(carrier.replies()) == 1, what="an attempt to answer")
    carrier.down = False
    receive_request(cluster, "count", number=8)
    await eventually(lambda: len(carrier.replies()) == 2, what="an answer")
    assert not caplog.records


class Crowd(HandlerNamespace):
    """A namespace of many rooms."""

    rooms: Mapping[str, Any] = {f"room {number}": None for number in range(50)}


async def test_long_answers_are_made_one_after_the_other_and_no_more_than_some_wait(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "SLICE", 10)
    monkeypatch.setattr(responder, "MAX_LONG_LISTS", 2)
    cluster = make_cluster(carrier, Crowd())
    for number in range(1, 5):
        receive_request(cluster, "rooms", number)
    await eventually(lambda: len(carrier.replies()) == 4, what="four answers")
    answers = {answer.request: answer for answer in carrier.replies()}
    assert [answers[number].refused for number in range(1, 5)] == [False, False, True, True]
    assert b"2 long answers" in answers[4].data
    lines = [json.loads(line) for line in answers[1].data.split(b"\n")]
    assert [len(line) for line in lines] == [10] * 5
    receive_request(cluster, "rooms", 5)
    await eventually(lambda: len(carrier.replies()) == 5, what="one more")
    assert not carrier.replies()[-1].refused
    await cluster.close(1)
