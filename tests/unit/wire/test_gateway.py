"""The bodies of frames between edges and backends; what is fuzzed is in `tests/fuzz`."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms.core.presence import MAX_VERSION, UserEvent
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.wire import gateway as wire


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"{}"', b"{", b""])
def test_a_body_that_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedEnvelope, match="JSON"):
        wire.read_json(body)


def test_a_body_has_a_greatest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_JSON", 9)
    assert wire.read_json(b'{"a":"b"}') == {"a": "b"}
    with pytest.raises(MalformedEnvelope, match="10 bytes is longer than 9"):
        wire.read_json(b'{"a":"bc"}')


def test_who_came_and_left_is_read_back() -> None:
    events = [UserEvent("join", "ann", 1), UserEvent("leave", "bob", MAX_VERSION)]
    users = wire.Users("/", "tea", events, frozenset({1}))
    assert wire.unpack_users(wire.pack_users(users)) == users


@pytest.mark.parametrize(
    "event",
    [
        ["vanish", "ann", 1, True],
        ["join", "", 1, True],
        ["join", "x" * 300, 1, True],
        ["join", 1, 1, True],
        ["join", "ann", 0, True],
        ["join", "ann", MAX_VERSION + 1, True],
        ["join", "ann", "1", True],
        ["join", "ann", 1, 1],
        ["join", "ann", 1],
        {"join": "ann"},
        "join",
    ],
)
def test_nobody_comes_or_leaves_in_a_way_that_cannot_be(event: Any) -> None:
    body = wire.to_json({"namespace": "/", "room": "tea", "events": [event]})
    with pytest.raises(MalformedEnvelope):
        wire.unpack_users(body)
