"""Payloads: encoded once, whatever became of what they were made from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from fastapi_rooms.core.payload import Batch, Payload
from fastapi_rooms.errors import UsageError
from tests.unit.strategies import any_text


@given(any_text)
def test_text_is_utf_8_bytes_and_reads_back_as_the_same_text(text: str) -> None:
    payload = Payload.of_text(text)
    assert not payload.binary
    assert payload.data == text.encode()
    assert payload.text == text
    assert Payload(payload.data, binary=False).text == text  # as another worker gets it


@given(st.binary())
def test_bytes_stay_as_they_are(data: bytes) -> None:
    payload = Payload.of_bytes(data)
    assert payload.binary
    assert payload.data == data


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_that_can_change_later_are_copied(kind: Any) -> None:
    source = bytearray(b"before")
    payload = Payload.of_bytes(kind(source))
    source[:] = b"after!"
    assert payload.data == b"before"
    assert type(payload.data) is bytes


def test_json_is_a_text_message() -> None:
    value = {"text": "hé", "n": [1, 2.5, None, True]}
    payload = Payload.of_json(value)
    assert not payload.binary
    assert json.loads(payload.text) == value


def test_an_asgi_event_carries_text_as_text_and_bytes_as_bytes() -> None:
    assert Payload.of_text("hé").asgi() == {"type": "websocket.send", "text": "hé"}
    assert Payload.of_bytes(b"\xff").asgi() == {"type": "websocket.send", "bytes": b"\xff"}
    assert Payload.of_json([1]).asgi() == {"type": "websocket.send", "text": "[1]"}


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (125, b"\x7d"),
        (126, b"\x7e\x00\x7e"),
        (0xFFFF, b"\x7e\xff\xff"),
        (0x10000, b"\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_frame_is_final_unmasked_and_says_its_length_as_short_as_it_can(
    size: int, header: bytes
) -> None:
    data = b"x" * size
    assert Payload(data, binary=False).frame == b"\x81" + header + data
    assert Payload(data, binary=True).frame == b"\x82" + header + data


@given(st.binary(max_size=200), st.booleans())
@example(bytes(70_000), True)
def test_a_real_client_reads_the_frame_as_the_message(data: bytes, binary: bool) -> None:
    if not binary:
        data = data.decode(errors="replace").encode()
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    client.receive_data(Payload(data, binary=binary).frame)
    [frame] = client.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.data) == (Opcode.BINARY if binary else Opcode.TEXT, data)
    assert frame.fin


def test_a_batch_is_the_frames_of_its_messages_one_after_the_other() -> None:
    one, two = Payload.of_text("one"), Payload.of_bytes(b"two")
    batch = Batch([one, two])
    assert batch.frame == one.frame + two.frame
    assert list(batch.parts) == [one, two]
    assert list(one.parts) == [one]


def test_middleware_that_writes_into_an_event_harms_no_other_member() -> None:
    payload = Payload.of_text("hello")
    payload.asgi()["text"] = "changed"
    assert payload.asgi()["text"] == "hello"


@pytest.mark.parametrize("data", [b"text", 1, None, ["text"]])
def test_send_text_takes_nothing_but_text(data: Any) -> None:
    with pytest.raises(TypeError, match=f"send_text takes a str, not {type(data).__name__}"):
        Payload.of_text(data)


@pytest.mark.parametrize("data", ["text", 1, None, [1]])
def test_send_bytes_takes_nothing_but_bytes(data: Any) -> None:
    with pytest.raises(TypeError, match=f"send_bytes takes bytes, not {type(data).__name__}"):
        Payload.of_bytes(data)


def test_a_lone_surrogate_is_refused_before_it_could_break_a_connection() -> None:
    with pytest.raises(UnicodeEncodeError):
        Payload.of_text("\ud800")
    assert Payload.of_json("\ud800").text == '"\\ud800"'


def test_what_json_cannot_say_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        Payload.of_json(object())


def test_binary_data_that_is_no_utf_8_has_no_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        _ = Payload.of_bytes(b"\xff").text


def test_a_codec_that_makes_text_is_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match=r"made a str of a value.*\.encode\(\)"):
        Payload.of_json({}, json)  # type: ignore[arg-type]
