"""A message as code without a socket reads it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import orjson
import pytest

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.worker.room_message import RoomMessage, message_of


class Shouts:
    """A codec that can be told from the default one."""

    def dumps(self, value: object) -> bytes:
        return orjson.dumps(value)

    def loads(self, data: str | bytes) -> object:
        return orjson.loads(data.upper())


def test_a_message_reads_as_text_bytes_and_json() -> None:
    message = message_of("news", Payload.of_json({"é": 1}))
    assert not message.binary
    assert message.text == '{"é":1}'
    assert message.bytes == message.text.encode()
    assert message.json() == {"é": 1}


def test_its_json_is_read_by_the_codec_it_was_heard_with() -> None:
    assert message_of("news", Payload.of_text('"a"'), Shouts()).json() == "A"


def test_a_binary_message_reads_as_bytes_whatever_they_are_and_as_base64() -> None:
    message = message_of("news", Payload.of_bytes(b"\xff"))
    assert message.binary
    assert message.bytes == b"\xff"
    assert message.text == "/w=="
    with pytest.raises(ValueError, match="decode"):
        message.json()
    assert message_of("news", Payload.of_bytes(b"[1]")).json() == [1]


def _fields(text: str, *, binary: bool = False) -> dict[str, Any]:
    return {"text": text, "binary": binary, "position": None}


MESSAGES = [
    pytest.param(Payload.of_text("hällo"), _fields("hällo"), id="text"),
    pytest.param(Payload.of_json([1]), _fields("[1]"), id="json"),
    pytest.param(Payload.of_bytes(b"\xff"), _fields("/w==", binary=True), id="bytes"),
]


@pytest.mark.parametrize(("payload", "fields"), MESSAGES)
def test_it_is_plain_data(payload: Payload, fields: dict[str, object]) -> None:
    fields = {"room": "news", **fields}
    assert asdict(message_of("news", payload)) == fields
    assert orjson.loads(orjson.dumps(message_of("news", payload))) == fields
    named = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    assert repr(message_of("news", payload)) == f"RoomMessage({named})"
    with pytest.raises(FrozenInstanceError):
        message_of("news", payload).room = "other"  # type: ignore[misc]


def _pickled(message: RoomMessage) -> RoomMessage:
    again = pickle.loads(pickle.dumps(message))
    assert isinstance(again, RoomMessage)
    return again


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, _pickled, replace])
@pytest.mark.parametrize(("payload", "fields"), MESSAGES)
def test_one_made_by_hand_or_copied_is_like_one_that_was_heard(
    payload: Payload, fields: dict[str, object], again: Callable[[RoomMessage], RoomMessage]
) -> None:
    heard = message_of("news", payload)
    by_hand = RoomMessage("news", **fields)  # type: ignore[arg-type]
    assert again(heard) == by_hand == heard
    assert hash(by_hand) == hash(heard)
    assert again(heard).bytes == by_hand.bytes == heard.bytes
    assert not hasattr(heard, "nothing")


def test_one_made_by_hand_reads_json_and_refuses_what_is_no_base64() -> None:
    assert RoomMessage("news", "[1]").json() == [1]
    with pytest.raises(ValueError, match="base64"):
        _ = RoomMessage("news", "what?", binary=True).bytes
