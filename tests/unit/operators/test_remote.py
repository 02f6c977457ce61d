"""What workers tell of their sockets, and what can be done with one of them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, astuple, replace
from typing import Any

import pytest

from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import ConfigurationError, InvalidRoomName, UsageError
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.operators.remote import (
    COUNT,
    NOTHING,
    REPLIES,
    ROOMS,
    RemoteSocket,
    ServerReply,
    sockets_for,
)
from fastapi_rooms.wire.verbs import Verb
from tests.unit.support import OTHER_NODE, RecordingDispatcher

# One socket of another worker.


@pytest.fixture
def recorder() -> RecordingDispatcher:
    return RecordingDispatcher()


@pytest.fixture
def ann(recorder: RecordingDispatcher) -> RemoteSocket:
    answer: Any = sockets_for(recorder)
    [ann] = answer.read(OTHER_NODE, [["ann", ["lobby", "ann"], {"name": "Ann"}]])
    assert isinstance(ann, RemoteSocket)
    return ann


async def test_its_worker_alone_is_asked_to_do_something_with_it(
    ann: RemoteSocket, recorder: RecordingDispatcher
) -> None:
    await ann.join("a", "b")
    await ann.leave("a", timeout=0.5)
    await ann.disconnect()
    await ann.disconnect(4001, "moved", timeout=2)
    expected: list[tuple[Verb, dict[str, Any], float | None]] = [
        (Verb.JOIN, {"rooms": ["a", "b"]}, None),
        (Verb.LEAVE, {"rooms": ["a"]}, 0.5),
        (Verb.DISCONNECT, {"code": 1000, "reason": ""}, None),
        (Verb.DISCONNECT, {"code": 4001, "reason": "moved"}, 2),
    ]
    nobody = Target(())
    assert recorder.requests == [
        (ClusterRequest(verb, nobody, {**arguments, "sid": "ann"}, node=OTHER_NODE), timeout)
        for verb, arguments, timeout in expected
    ]


async def test_what_is_sent_to_it_goes_to_its_sid(
    ann: RemoteSocket, recorder: RecordingDispatcher
) -> None:
    await ann.send_text("hé")
    await ann.send_bytes(b"\xff")
    await ann.send_json({"n": 1})
    to_ann = Target(("ann",))
    assert recorder.sent == [
        (to_ann, "hé".encode(), False, False, False),
        (to_ann, b"\xff", True, False, False),
        (to_ann, b'{"n":1}', False, False, False),
    ]


@pytest.mark.parametrize("verb", ["join", "leave"])
async def test_a_bad_name_is_refused_before_its_worker_is_asked(
    ann: RemoteSocket, recorder: RecordingDispatcher, verb: str
) -> None:
    with pytest.raises(InvalidRoomName):
        await getattr(ann, verb)("fine", "")
    assert recorder.requests == []


@pytest.mark.parametrize(
    ("code", "reason", "error"), [(1006, "", ConfigurationError), (1000, "x" * 124, UsageError)]
)
async def test_a_close_that_cannot_be_sent_is_refused_before_its_worker_is_asked(
    ann: RemoteSocket, recorder: RecordingDispatcher, code: int, reason: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await ann.disconnect(code, reason)
    assert recorder.requests == []


def test_it_shows_who_and_where_it_is(ann: RemoteSocket) -> None:
    assert repr(ann) == (
        f"RemoteSocket(sid='ann', node='{OTHER_NODE}', rooms=('ann', 'lobby'), "
        "data={'name': 'Ann'})"
    )
    assert (ann.sid, ann.node, ann.data) == ("ann", OTHER_NODE, {"name": "Ann"})
    assert ann.rooms == ("ann", "lobby")


def test_what_it_is_reached_by_is_nothing_that_is_known_of_it(ann: RemoteSocket) -> None:
    by_hand = RemoteSocket("ann", OTHER_NODE, ("ann", "lobby"), {"name": "Ann"})
    assert ann == by_hand
    assert hash(ann) == hash(by_hand)
    assert astuple(ann) == ("ann", OTHER_NODE, ("ann", "lobby"), {"name": "Ann"})
    with pytest.raises(FrozenInstanceError):
        ann.sid = "bob"  # type: ignore[misc]


def _pickled(socket: RemoteSocket) -> RemoteSocket:
    again = pickle.loads(pickle.dumps(socket))
    assert isinstance(again, RemoteSocket)
    return again


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, _pickled, replace])
async def test_a_copy_can_be_read_and_says_that_nothing_can_be_done_with_it(
    ann: RemoteSocket, recorder: RecordingDispatcher, again: Callable[[RemoteSocket], RemoteSocket]
) -> None:
    copied = again(ann)
    assert copied == ann
    with pytest.raises(UsageError, match="fetch_sockets"):
        await copied.join("tea")
    assert not hasattr(copied, "nothing")
    assert recorder.requests == []


# How responses are read.


@pytest.mark.parametrize(
    "row",
    [
        ["", [], {}],
        ["x" * 256, [], {}],
        [5, [], {}],
        ["ann", [""], {}],
        ["ann", [5], {}],
        ["ann", {}, {}],
        ["ann", [], []],
        ["ann", []],
        None,
    ],
)
def test_a_malformed_socket_is_refused(row: Any) -> None:
    answer: Any = sockets_for(RecordingDispatcher())
    [found] = answer.read(OTHER_NODE, [["ann", ["tea"], {"a": 1}]])
    assert (found.sid, found.rooms, found.data) == ("ann", ("tea",), {"a": 1})
    with pytest.raises(ValueError, match=r"expected sid|room name"):
        answer.read(OTHER_NODE, [row])


async def test_fetched_sockets_go_by_the_dispatcher_and_are_those_of_all_workers(
    recorder: RecordingDispatcher,
) -> None:
    reader = sockets_for(recorder)
    assert reader.in_parts
    parts = [
        reader.read("one", [["ann", ["ann"], {}], ["bob", ["bob"], {}]]),
        reader.read("two", []),
        reader.read("two", [["cid", ["cid"], {}]]),
    ]
    sockets = reader.merge(parts)
    assert [(socket.sid, socket.node) for socket in sockets] == [
        ("ann", "one"),
        ("bob", "one"),
        ("cid", "two"),
    ]
    await sockets[2].leave("lobby")
    [(request, _)] = recorder.requests
    assert (request.node, request.arguments["sid"]) == ("two", "cid")


def test_nothing_is_read_from_null_alone() -> None:
    assert NOTHING.read(OTHER_NODE, None) is None
    assert NOTHING.merge([None, None]) is None
    responses: list[Any] = [0, False, [], "null"]
    for response in responses:
        with pytest.raises(ValueError, match="null"):
            NOTHING.read(OTHER_NODE, response)


def test_counts_are_added_up() -> None:
    assert COUNT.merge([COUNT.read(OTHER_NODE, count) for count in (0, 3, 4)]) == 7
    assert COUNT.merge([]) == 0


@pytest.mark.parametrize("response", [-1, 1.0, True, "1", None, [1]])
def test_what_is_no_count_is_refused(response: Any) -> None:
    with pytest.raises(ValueError, match="count"):
        COUNT.read(OTHER_NODE, response)


def test_rooms_of_several_workers_are_named_once() -> None:
    assert ROOMS.in_parts
    parts = [ROOMS.read(OTHER_NODE, rooms) for rooms in (["a", "b"], [], ["b", "c"])]
    assert ROOMS.merge(parts) == {"a", "b", "c"}
    assert ROOMS.merge([]) == set()


@pytest.mark.parametrize("response", [None, "rooms", {}, [""], [5], ["x" * 256]])
def test_what_are_no_rooms_is_refused(response: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        ROOMS.read(OTHER_NODE, response)


def test_a_reply_is_whatever_the_handler_returned() -> None:
    values: list[Any] = [None, 1, {"a": []}]
    replies = [REPLIES.read(OTHER_NODE, value) for value in values]
    assert REPLIES.merge(replies) == [
        ServerReply(OTHER_NODE, None, None),
        ServerReply(OTHER_NODE, 1, None),
        ServerReply(OTHER_NODE, {"a": []}, None),
    ]
