"""The default codec: the table of the documentation, and that nothing is lost by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms import ConfigurationError, Events
from fastapi_rooms.wire.socketio.values import RESERVED

TABLE: list[tuple[list[Any], str | bytes]] = [
    (["message", b"\x00\xff"], b"\x00\xff"),
    (["message", "text"], "text"),
    (["message", "5"], "5"),
    (["message", ""], ""),
    (["message", {"a": 1}], '{"a":1}'),
    (["message", [1, "x"]], '[1,"x"]'),
    (["message"], '{"event":"message","args":[]}'),
    (["message", 5], '{"event":"message","args":[5]}'),
    (["message", None], '{"event":"message","args":[null]}'),
    (["message", "a", "b"], '{"event":"message","args":["a","b"]}'),
    (["news", {"a": 1}, 2], '{"event":"news","args":[{"a":1},2]}'),
    (["news", b"\x01", {"x": [b""]}],
     '{"event":"news","args":[{"$binary":"AQ=="},{"x":[{"$binary":""}]}]}'),
    # What looks like an event stays the message that it is.
    (["message", {"event": "e", "args": []}],
     '{"event":"message","args":[{"event":"e","args":[]}]}'),
]  # fmt: skip


@pytest.mark.parametrize(("event", "message"), TABLE)
def test_the_table_holds_both_ways(event: list[Any], message: str | bytes) -> None:
    codec = Events()
    assert codec.to_native(event[0], event[1:]) == message
    assert codec.to_event(message) == event


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (' {"event": "e", "args": [1]}', ["e", 1]),
        ('{"event":"e"}', ["message", {"event": "e"}]),
        ('{"event":"e","args":[],"more":1}', ["message", {"event": "e", "args": [], "more": 1}]),
        ('{"event":"e","args":1}', ["message", {"event": "e", "args": 1}]),
        ('{"event":1,"args":[]}', ["message", {"event": 1, "args": []}]),
        ('{"event":"disconnect","args":[]}', ["message", {"event": "disconnect", "args": []}]),
        ("{no JSON", ["message", "{no JSON"]),
        ("[" * 501 + "]" * 501, ["message", "[" * 501 + "]" * 501]),
        ('["$binary"]', ["message", ["$binary"]]),
        ('{"$binary":"AA=="}', ["message", b"\0"]),
        ('{"$binary":"no base64"}', ["message", {"$binary": "no base64"}]),
        ('{"$binary":"AA==","b":1}', ["message", {"$binary": "AA==", "b": 1}]),
    ],
)
def test_other_messages_become_the_nearest_event(message: str, event: list[Any]) -> None:
    assert Events().to_event(message) == event


def test_json_as_deep_as_clients_may_send_it_is_an_event_or_text() -> None:
    for depth in range(300, 502, 20):
        message = "[" * depth + "]" * depth
        (name, value) = Events().to_event(message)
        assert name == "message"
        assert value == message or isinstance(value, list)


def test_the_argument_may_have_a_key_of_its_own() -> None:
    codec = Events(data="data")
    assert codec.to_native("e", [{"a": 1}]) == '{"event":"e","data":{"a":1}}'
    assert codec.to_native("e", [1, 2]) == '{"event":"e","data":[1,2]}'
    assert codec.to_native("e", []) == '{"event":"e","data":[]}'
    assert codec.to_native("message", ["hi"]) == "hi"
    assert codec.to_event('{"event":"e","data":{"a":1}}') == ["e", {"a": 1}]
    assert codec.to_event('{"event":"e","args":[1]}') == ["message", {"event": "e", "args": [1]}]
    assert repr(codec) == "Events(data='data')"
    assert repr(Events()) == "Events()"


@pytest.mark.parametrize("data", ["", "event"])
def test_a_key_that_cannot_be_is_refused(data: str) -> None:
    with pytest.raises(ConfigurationError, match="names the key"):
        Events(data=data)


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner)
    ),
    max_leaves=8,
)
_names = st.text(st.characters(codec="utf-8")).filter(lambda name: name not in RESERVED)


def is_lossless(event: list[Any]) -> bool:
    """Text that is itself the JSON of an object, and objects with one key, are what is not."""
    is_text = event[0] == "message" and len(event) == 2 and isinstance(event[1], str)
    return not (is_text and event[1].lstrip(" \t\r\n").startswith(("{", "["))) and (
        "$binary" not in repr(event)
    )


@given(_names, st.lists(_values, max_size=3))
def test_an_event_comes_back_as_it_was(name: str, args: list[Any]) -> None:
    event = [name, *args]
    if is_lossless(event) and repr(event).count("b'") <= 10 and repr(event).count('b"') == 0:
        assert Events().to_event(Events().to_native(name, args)) == event
