"""The client's half of the framing reads what the server's half writes, and the other way round."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.wire import client_framing
from fastapi_rooms.wire.client_frames import (
    Content,
    Heartbeat,
    Hello,
    Joined,
    Left,
    Moved,
    escape,
    parse,
    parse_hello,
    resume,
)

TOKEN = "0123456789abcdef" * 2
MESSAGES: list[str | bytes] = [
    "",
    "hi",
    "two\nlines",
    "\0 begins with NUL",
    "\0m{}\nlike a frame",
    "ä☃",
    b"",
    b"\xff\x00\n",
    b"\0.",
]


def frame_of(payload: Payload) -> str | bytes:
    return payload.data if payload.binary else payload.data.decode()


def payload_of(message: str | bytes) -> Payload:
    return Payload.of_text(message) if isinstance(message, str) else Payload.of_bytes(message)


def test_hello_is_read() -> None:
    said = client_framing.hello(TOKEN, answers=True, window=2.5)
    assert parse_hello(frame_of(said)) == Hello(TOKEN, heartbeat=25.0, window=2.5)


@pytest.mark.parametrize(
    "frame", ["", "hi", "\0h", "\0h[]", "\0h{", '\0h{"version":2}', "\0h{}", b'\0h{"version":1}']
)
def test_what_is_no_hello_is_none(frame: str | bytes) -> None:
    assert parse_hello(frame) is None


@pytest.mark.parametrize(
    ("said", "hello"),
    [
        ({}, Hello(None, 25.0, 0.0)),
        ({"token": 1, "heartbeat": "soon", "window": None}, Hello(None, 25.0, 0.0)),
        ({"token": "", "heartbeat": True, "window": -1}, Hello(None, 25.0, 0.0)),
        ({"token": "x" * 65, "heartbeat": 0, "window": 1e300}, Hello(None, 25.0, 600.0)),
        ({"token": TOKEN, "heartbeat": 5, "window": 3, "more": []}, Hello(TOKEN, 5.0, 3.0)),
    ],
)
def test_of_a_hello_that_makes_no_sense_the_rest_is_used(
    said: dict[str, Any], hello: Hello
) -> None:
    assert parse_hello("\0h" + json.dumps({"version": 1, **said})) == hello


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_messages_come_as_they_were_sent(message: str | bytes) -> None:
    plain = client_framing.framed_payload(payload_of(message))
    assert parse(frame_of(plain)) == Content(message)
    placed = client_framing.in_place("tea\n", "e.1.f", payload_of(message))
    assert parse(frame_of(placed)) == Content(message, "tea\n", "e.1.f")


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_messages_arrive_as_they_were_sent(message: str | bytes) -> None:
    sent = escape(message)
    assert client_framing.unescape(sent) == message
    assert sent != client_framing.ASKS_FOR_HEARTBEAT
    assert not client_framing.is_resume(sent)


def test_all_else_is_read() -> None:
    assert parse(frame_of(client_framing.heartbeat())) == Heartbeat()
    assert parse(frame_of(client_framing.position("tea", "e.1.f"))) == Moved("tea", "e.1.f")
    assert parse(frame_of(client_framing.left("tea"))) == Left("tea")
    for recovered in (True, False, None):
        assert parse(frame_of(client_framing.joined("tea", recovered))) == Joined("tea", recovered)
    assert parse('\0j{"room":"tea","recovered":1}') == Joined("tea", None)


@pytest.mark.parametrize(
    "frame",
    [
        *("\0", "\0x{}", "\0m", "\0m{}", "\0m{}\nx", "\0j", "\0jnull", "\0j[1]", "\0p{}", "\0l{"),
        *(b"\0", b"\0j{}", b"\0b", b"\0m{}\n", b"\0\xff", '\0l{"room":1}', '\0l{"room":""}'),
        *('\0p{"room":"tea"}', '\0p{"room":"tea","position":7}', '\0m{"room":"tea"}\nx'),
        '\0m{"room":"tea","position":"%s"}\nx' % ("1" * 61),
        '\0l{"room":"%s"}' % ("x" * 256),
        '\0x{"room":"tea"}',
    ],
    ids=repr,
)
def test_what_cannot_be_read_is_none(frame: str | bytes) -> None:
    assert parse(frame) is None


def test_the_server_reads_the_resume_frame() -> None:
    positions = {"tea": "1", "bär\n": "2"}
    read = client_framing.parse_resume(resume(TOKEN, positions))
    assert read == client_framing.ClientResume(TOKEN, positions)
    assert client_framing.parse_resume(resume(None, {})) == client_framing.ClientResume()


def test_of_too_many_positions_the_last_are_resumed() -> None:
    positions = {f"room-{number}{'ä' * 40}": "x" * 60 for number in range(2_000)}
    read = client_framing.parse_resume(resume(TOKEN, positions))
    assert read is not None
    assert 300 < len(read.positions) < 2_000
    assert {*read.positions} == {*[*positions][-len(read.positions) :]}
