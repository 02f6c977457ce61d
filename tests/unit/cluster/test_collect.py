"""One result of many workers' responses, or an error that holds what there is of it."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms import RequestRefused, RequestTimeout, concurrency
from fastapi_rooms.cluster.collect import collect
from fastapi_rooms.cluster.pending import PendingRequest
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.dispatcher import ClusterRequest, ResponseReader
from fastapi_rooms.operators.remote import COUNT, ROOMS
from fastapi_rooms.wire.envelope import Reply
from fastapi_rooms.wire.verbs import Verb

REQUEST = ClusterRequest(Verb.COUNT, Target(), {})


def _pending(*missing: str, **responses: bytes) -> PendingRequest:
    pending = PendingRequest(missing)
    pending.responses.update(responses)
    return pending


async def test_responses_are_read_and_merged() -> None:
    assert await collect(REQUEST, COUNT, _pending(ann=b"1", bob=b"2"), 5) == 3
    assert await collect(REQUEST, COUNT, _pending(), 5) == 0


@pytest.mark.parametrize("response", [b"no JSON", b"", b'"no count"', b"-1"])
async def test_a_response_that_makes_no_sense_is_a_refusal_of_that_worker(response: bytes) -> None:
    with pytest.raises(RequestRefused) as raised:
        await collect(REQUEST, COUNT, _pending(ann=response, bob=b"2"), 5)
    assert set(raised.value.refusals) == {"ann"}
    assert raised.value.refusals["ann"].startswith("its answer makes no sense: ")
    assert raised.value.partial == 2
    assert raised.value.unsupported == set()


async def test_a_timeout_has_what_others_answered_and_refused() -> None:
    pending = _pending("cid", bob=b"2")
    pending.refusals["ann"] = "not today"
    with pytest.raises(RequestTimeout, match="'count' within 5 s from cid") as raised:
        await collect(REQUEST, COUNT, pending, 5)
    error = raised.value
    assert error.silent == {"cid"}
    assert (error.partial, error.unidentified) == (2, 0)
    assert error.refusals == {"ann": "not today"}


async def test_a_list_is_read_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "SLICE", 2)
    read: list[Any] = []

    def note(node: str, response: Any) -> Any:
        read.append((node, response))
        return response

    reader: ResponseReader[list[int], int] = ResponseReader(
        note, lambda parts: sum(map(sum, parts)), in_parts=True
    )
    assert await collect(REQUEST, reader, _pending(ann=b"[1,2,3]", bob=b"[4]"), 5) == 10
    assert read == [("ann", [1, 2]), ("ann", [3]), ("bob", [4])]


async def test_what_should_be_a_list_and_is_none_is_a_refusal() -> None:
    with pytest.raises(RequestRefused, match="expected a list") as raised:
        await collect(REQUEST, ROOMS, _pending(ann=b"3", bob=b'["tea"]'), 5)
    assert raised.value.partial == {"tea"}


async def test_a_list_that_comes_in_lines_is_one_list() -> None:
    request = ClusterRequest(Verb.ROOMS, Target(), {})
    pending = _pending(ann=b'["a","b"]\n["c"]', bob=b"[]")
    assert await collect(request, ROOMS, pending, 5) == {"a", "b", "c"}


@pytest.mark.parametrize("response", [b'["a"]\n', b'["a"]\n{}', b"\n" * 1000])
async def test_lines_that_are_no_lists_are_a_refusal(response: bytes) -> None:
    with pytest.raises(RequestRefused):
        await collect(ClusterRequest(Verb.ROOMS, Target(), {}), ROOMS, _pending(ann=response), 5)


async def test_what_a_refusal_says_is_short_and_cannot_control_a_terminal() -> None:
    pending = PendingRequest(("ann",))
    reason = ("\x1b[2J\nERROR forged" + "x" * 100_000).encode()
    assert pending.take(Reply("ann", 1, 7, 0, last=True, refused=True, data=reason))
    with pytest.raises(RequestRefused) as raised:
        await collect(REQUEST, COUNT, pending, 5)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 5000
