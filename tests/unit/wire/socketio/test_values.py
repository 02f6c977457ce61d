"""Values that came from Node servers, as JSON has them."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms import MalformedEnvelope
from fastapi_rooms.core.json_codec import MAX_DEPTH
from fastapi_rooms.wire.socketio import values
from fastapi_rooms.wire.socketio.values import received_values


def nested(depth: int, *, in_objects: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if in_objects else [value]
    return value


@pytest.mark.parametrize("in_objects", [True, False])
def test_values_are_nested_to_a_depth_and_no_deeper(
    monkeypatch: pytest.MonkeyPatch, in_objects: bool
) -> None:
    too_deep = nested(MAX_DEPTH, in_objects=in_objects)
    with pytest.raises(MalformedEnvelope, match="too deeply"):
        received_values([too_deep])
    monkeypatch.setattr(values, "MAX_DEPTH", 10)  # the stack ends before, in some versions
    deepest = nested(9, in_objects=in_objects)
    assert received_values([deepest]) == [deepest]
    with pytest.raises(MalformedEnvelope, match="too deeply"):
        received_values([nested(10, in_objects=in_objects)])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("a", "a"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff", "�"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (1, "1"),
        (1.5, "1.5"),
    ],
)
def test_keys_are_what_javascript_makes_of_them(key: Any, text: str) -> None:
    assert received_values([{key: 1}]) == [{text: 1}]
