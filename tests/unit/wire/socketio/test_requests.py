"""Requests and answers as Socket.IO's adapter and emitter write and read them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastapi_rooms import MalformedEnvelope
from fastapi_rooms.core.target import Target
from fastapi_rooms.wire.socketio import msgpack, requests, responses
from fastapi_rooms.wire.socketio.requests import Kind, Request

# Captured from `@socket.io/redis-adapter` 8.3.0 and `@socket.io/redis-emitter` 5.1.0.
VECTORS: list[tuple[bytes, Request]] = [
    (
        b'{"type":2,"opts":{"rooms":["r1"],"except":[]},"rooms":["j1"]}',
        Request(Kind.JOIN, None, None, Target(("r1",)), ("j1",)),
    ),
    (
        b'{"type":3,"opts":{"rooms":["r1"],"except":[]},"rooms":["j1",7]}',
        Request(Kind.LEAVE, None, None, Target(("r1",)), ("j1", "7")),
    ),
    (
        b'{"type":4,"opts":{"rooms":["r7"],"except":[]},"close":true}',
        Request(Kind.DISCONNECT, None, None, Target(("r7",))),
    ),
    (
        b'{"uid":"emitter","type":6,"data":["hello",1,"x"]}',
        Request(Kind.SERVER_SIDE_EMIT, "emitter", None, data=["hello", 1, "x"]),
    ),
    (
        b'{"uid":"Jz1Cmv","requestId":"0_WDOd","type":5,"opts":{"rooms":[],"except":[]}}',
        Request(Kind.FETCH, "Jz1Cmv", "0_WDOd"),
    ),
    (
        b'{"uid":"Jz1Cmv","requestId":"0_WDOd","type":1}',
        Request(Kind.ALL_ROOMS, "Jz1Cmv", "0_WDOd"),
    ),
    (
        b'{"uid":"Jz1Cmv","requestId":"0_WDOd","type":6,"data":["hello",1]}',
        Request(Kind.SERVER_SIDE_EMIT, "Jz1Cmv", "0_WDOd", data=["hello", 1]),
    ),
    (
        b'{"uid":"Jz1Cmv","requestId":"0_WDOd","type":0,"rooms":["a"]}',
        Request(Kind.SOCKETS, "Jz1Cmv", "0_WDOd", Target(("a",))),
    ),
    (
        b'{"uid":"old","requestId":"0_WDOd","type":2,"sid":"s","room":"r"}',
        Request(Kind.JOIN, "old", "0_WDOd", Target(()), ("r",), sid="s"),
    ),
    (
        bytes.fromhex(
            "85a3756964a64a7a31436d76a9726571756573744964a6783373436c72a47479706507a67061636b657483"
            "a47479706502a46461746192a17101a36e7370a12fa46f70747383a5726f6f6d7390a665786365707490"
            "a5666c61677381a774696d656f7574cd03e8"
        ),
        Request(
            Kind.BROADCAST,
            "Jz1Cmv",
            "x3sClr",
            packet={"type": 2, "data": ["q", 1], "nsp": "/"},
            opts={"rooms": [], "except": [], "flags": {"timeout": 1000}},
        ),
    ),
]


@pytest.mark.parametrize(("data", "request_"), VECTORS)
def test_what_they_ask_is_understood(data: bytes, request_: Request) -> None:
    assert requests.decode(data) == request_
    assert not requests.is_own(data)


@pytest.mark.parametrize("kind", [8, 9, -1, "5", None, 5.0, True])
def test_a_type_that_is_not_known_is_nothing(kind: Any) -> None:
    assert requests.decode(json.dumps({"type": kind}).encode()) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xc0",
        b'{"type":5}',
        b'{"type":5,"opts":[]}',
        b'{"type":2,"opts":{"rooms":5}}',
        b'{"type":6}',
        b'{"type":6,"data":[]}',
        b'{"type":6,"data":[1]}',
        b'{"type":6,"data":"x"}',
        b'{"type":7}',
        b'{"type":7,"packet":[]}',
        b'{"type":1,"uid":5}',
        b'{"type":1,"uid":""}',
        b'{"type":1,"requestId":"a\\nb"}',
        json.dumps({"type": 1, "requestId": "x" * 129}).encode(),
        b"[" * 5_000,
    ],
)
def test_a_request_that_makes_no_sense_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedEnvelope):
        requests.decode(data)


TARGET = Target(("r1", "7"), ("x",))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            requests.encode("u", Kind.FETCH, TARGET, request_id="q"),
            {"requestId": "q", "type": 5, "opts": {"rooms": ["r1", "7", 7], "except": ["x"]}},
        ),
        (
            requests.encode("u", Kind.SOCKETS, Target(), request_id="q"),
            {"requestId": "q", "type": 0, "rooms": []},
        ),
        (requests.encode("u", Kind.ALL_ROOMS, request_id="q"), {"requestId": "q", "type": 1}),
        (
            requests.encode("u", Kind.JOIN, Target(("r",)), rooms=("8",)),
            {"type": 2, "opts": {"rooms": ["r"], "except": []}, "rooms": ["8"]},
        ),
        (
            requests.encode("u", Kind.LEAVE, Target(("r",)), rooms=("8",)),
            {"type": 3, "opts": {"rooms": ["r"], "except": []}, "rooms": ["8", 8]},
        ),
        (
            requests.encode("u", Kind.DISCONNECT, Target()),
            {"type": 4, "opts": {"rooms": [], "except": []}, "close": True},
        ),
        (
            requests.encode("u", Kind.SERVER_SIDE_EMIT, data=["e", 1]),
            {"type": 6, "data": ["e", 1]},
        ),
    ],
)
def test_what_we_ask_has_their_form(request_: bytes, expected: dict[str, Any]) -> None:
    assert json.loads(request_) == {"uid": "u", **expected}


def test_our_own_questions_are_known_by_how_they_begin() -> None:
    uid = "rooms.0a0657e0d0001936"
    question = requests.encode(uid, Kind.FETCH, Target(), request_id="0123456789abcdef")
    assert requests.is_own(question)
    assert requests.own_question(question) == (uid, "0123456789abcdef")
    command = requests.encode(uid, Kind.JOIN, Target(), rooms=("a",))
    assert requests.is_own(command)
    assert requests.own_question(command) is None


# Answers.


def test_our_answers_have_their_form() -> None:
    row = responses.row("s", ["s", "r"], {"name": "ann"})
    fetched = json.loads(responses.of_rows("q", [row, row]))
    assert fetched["requestId"] == "q"
    assert fetched["sockets"][1]["id"] == "s"
    assert fetched["sockets"][1]["data"] == {"name": "ann"}
    assert len(fetched["sockets"][1]["handshake"]) == 9
    assert json.loads(responses.of_rows("q", [])) == {"requestId": "q", "sockets": []}
    assert json.loads(responses.of_rooms("q", ["a"])) == {"requestId": "q", "rooms": ["a"]}
    assert json.loads(responses.of_sids("q", ["a"])) == {"requestId": "q", "sockets": ["a"]}
    assert json.loads(responses.of_event("q", b"null")) == {
        "type": 6,
        "requestId": "q",
        "data": None,
    }
    assert json.loads(responses.of_count("q", 0)) == {
        "type": 8,
        "requestId": "q",
        "clientCount": 0,
    }


ROW = {"id": "s", "handshake": {}, "rooms": ["s", 42, ""], "data": {"a": 1}}


@pytest.mark.parametrize(
    ("kind", "answer", "value"),
    [
        (Kind.FETCH, {"sockets": [ROW]}, [["s", ["s", "42"], {"a": 1}]]),
        (Kind.FETCH, {"sockets": [{"id": "s", "rooms": [], "data": 5}]}, [["s", [], {}]]),
        (Kind.SOCKETS, {"sockets": ["a", "b"]}, ["a", "b"]),
        (Kind.ALL_ROOMS, {"rooms": ["a", 42, "x" * 300]}, ["a", "42"]),
        (Kind.SERVER_SIDE_EMIT, {"type": 6, "data": {"a": [1]}}, {"a": [1]}),
        (Kind.SERVER_SIDE_EMIT, {"type": 6}, None),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_their_answers_are_understood(
    kind: Kind, answer: dict[str, Any], value: Any, *, packed: bool
) -> None:
    message = {"requestId": "q", **answer}
    data = msgpack.pack(message) if packed else json.dumps(message).encode()
    assert responses.decode(data, kind) == ("q", False, value)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Kind.FETCH, {"sockets": None}),
        (Kind.FETCH, {"sockets": [{"id": 5, "rooms": []}]}),
        (Kind.FETCH, {"sockets": [{"id": "", "rooms": []}]}),
        (Kind.FETCH, {"sockets": [{"id": "a", "rooms": 5}]}),
        (Kind.FETCH, {"sockets": ["a"]}),
        (Kind.SOCKETS, {"sockets": [5]}),
        (Kind.SOCKETS, {}),
        (Kind.ALL_ROOMS, {"rooms": [None]}),
        (Kind.ALL_ROOMS, {"rooms": "a"}),
    ],
)
def test_an_answer_to_something_else_is_malformed(kind: Kind, answer: dict[str, Any]) -> None:
    with pytest.raises(MalformedEnvelope):
        responses.decode(json.dumps({"requestId": "q", **answer}).encode(), kind)


def test_an_answer_without_an_id_is_malformed() -> None:
    with pytest.raises(MalformedEnvelope):
        responses.decode(b'{"sockets":[]}', Kind.FETCH)


def test_a_worker_of_ours_says_only_that_it_was_reached() -> None:
    assert responses.decode(responses.of_own("q"), Kind.FETCH) == ("q", True, None)
