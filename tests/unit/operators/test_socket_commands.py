"""The verbs over the addressed sockets: what each asks of the workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import ConfigurationError, InvalidRoomName, UsageError
from fastapi_rooms.operators.broadcast import BroadcastOperator
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.wire.verbs import Verb
from tests.unit.support import RecordingDispatcher

LOBBY = Target(("lobby",), ("ann",))

Call = Callable[..., Awaitable[object]]

CALLS: dict[str, tuple[Call, Verb, dict[str, Any], object]] = {
    "fetch_sockets": (lambda op, **more: op.fetch_sockets(**more), Verb.FETCH, {}, []),
    "count": (lambda op, **more: op.count(**more), Verb.COUNT, {}, 0),
    "sockets_join": (
        lambda op, **more: op.sockets_join("a", "b", **more),
        Verb.JOIN,
        {"rooms": ["a", "b"]},
        None,
    ),
    "sockets_leave": (
        lambda op, **more: op.sockets_leave("a", **more),
        Verb.LEAVE,
        {"rooms": ["a"]},
        None,
    ),
    "disconnect_sockets": (
        lambda op, **more: op.disconnect_sockets(4001, "moved", **more),
        Verb.DISCONNECT,
        {"code": 4001, "reason": "moved"},
        None,
    ),
    "disconnect_sockets, as it is left out": (
        lambda op, **more: op.disconnect_sockets(**more),
        Verb.DISCONNECT,
        {"code": 1000, "reason": ""},
        None,
    ),
}


@pytest.fixture
def recorder() -> RecordingDispatcher:
    return RecordingDispatcher()


@pytest.mark.parametrize(("call", "verb", "arguments", "result"), CALLS.values(), ids=CALLS)
async def test_a_command_asks_all_workers_about_the_sockets_it_addresses(
    recorder: RecordingDispatcher,
    call: Call,
    verb: Verb,
    arguments: dict[str, Any],
    result: object,
) -> None:
    operator = BroadcastOperator(recorder, LOBBY)
    assert await call(operator) == result
    assert recorder.requests == [(ClusterRequest(verb, LOBBY, arguments), None)]
    [(request, _)] = recorder.requests
    assert (request.here, request.elsewhere, request.node) == (True, True, None)


@pytest.mark.parametrize("call", [call for call, *_ in CALLS.values()], ids=CALLS)
async def test_a_local_command_asks_this_worker_only(
    recorder: RecordingDispatcher, call: Call
) -> None:
    await call(BroadcastOperator(recorder, LOBBY).local)
    [(request, _)] = recorder.requests
    assert (request.here, request.elsewhere) == (True, False)


@pytest.mark.parametrize("call", [call for call, *_ in CALLS.values()], ids=CALLS)
async def test_a_timeout_is_passed_on(recorder: RecordingDispatcher, call: Call) -> None:
    await call(BroadcastOperator(recorder), timeout=0.5)
    [(_, timeout)] = recorder.requests
    assert timeout == 0.5


@pytest.mark.parametrize("verb", ["sockets_join", "sockets_leave"])
@pytest.mark.parametrize("name", ["", "x" * 256, None, 5])
async def test_a_bad_name_is_refused_before_anybody_is_asked(
    recorder: RecordingDispatcher, verb: str, name: Any
) -> None:
    with pytest.raises(InvalidRoomName):
        await getattr(BroadcastOperator(recorder), verb)("fine", name)
    assert recorder.requests == []


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [(1005, "", ConfigurationError), (1000, "x" * 124, UsageError), (1000, None, UsageError)],
)
async def test_a_close_that_cannot_be_sent_is_refused_before_anybody_is_asked(
    recorder: RecordingDispatcher, code: int, reason: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await BroadcastOperator(recorder).disconnect_sockets(code, reason)
    assert recorder.requests == []
