"""JSON: no narrower than Starlette's, exact, and with what applications have at hand."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from fastapi_rooms.core.json_codec import DEFAULT_JSON, MAX_DEPTH, WIRE_JSON

Point = namedtuple("Point", "x y")  # noqa: PYI024 -- what people have


class Level(IntEnum):
    HIGH = 3


class Colour(str, Enum):  # noqa: UP042 -- as FastAPI's tutorial has it
    RED = "red"


class Model(BaseModel):
    price: Decimal = Decimal("1.10")
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Record:
    a: Any


def sent(value: Any) -> Any:
    """The value as a browser reads it."""
    return json.loads(DEFAULT_JSON.dumps(value))


STARLETTES: dict[str, Any] = {
    "int keys": {1: "one"},
    "a large integer": {"id": 2**64},
    "a small integer": {"id": -(2**63) - 1},
    "uint256": [2**256 - 1],
    "a lone surrogate": {"text": "so funny \ud83d"},
    "a lone surrogate as a key": {"\ude00": 1},
    "a named tuple": {"at": Point(1, 2)},
    "defaultdict": defaultdict(int, a=1),
    "OrderedDict": OrderedDict(a=1),
    "IntEnum": {"level": Level.HIGH},
    "str enum": {"colour": Colour.RED},
    "a str enum as a key": {Colour.RED: 1},
    "bool and None as keys": {True: 1, None: 2},
    "a float as a key": {1.5: 1},
    "deep": json.loads("[" * 400 + "]" * 400),
    "text": "hé 🎉",
}


@pytest.mark.parametrize("value", STARLETTES.values(), ids=STARLETTES)
def test_what_starlette_sends_is_sent_the_same(value: Any) -> None:
    assert sent(value) == json.loads(json.dumps(value))


MORE: dict[str, tuple[Any, Any]] = {
    "a set": ({1}, [1]),
    "a frozenset": (frozenset({"a"}), ["a"]),
    "Decimal with a fraction": (Decimal("1.50"), 1.5),
    "whole Decimal": (Decimal(12), 12),
    "a date and time": (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
    "UUID": (UUID(int=1), str(UUID(int=1))),
    "a Pydantic model": (Model(), {"price": "1.10", "at": "2026-01-02T00:00:00Z"}),
    "a dataclass": (Record(1), {"a": 1}),
}


@pytest.mark.parametrize(("value", "expected"), MORE.values(), ids=MORE)
@pytest.mark.parametrize("beside", [0, 2**64], ids=["by orjson", "beside what orjson cannot"])
def test_what_applications_have_at_hand_is_sent(value: Any, expected: Any, beside: int) -> None:
    assert sent({"value": value, "beside": beside}) == {"value": expected, "beside": beside}


def test_a_dataclass_may_hold_what_orjson_cannot_write() -> None:
    assert sent(Record({1: 2**70, "s": {Level.HIGH}})) == {"a": {"1": 2**70, "s": [3]}}


@pytest.mark.parametrize("beside", [{}, {1: 2}, {"a": 2**70}])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_number_for_is_null_whoever_writes_it(number: float, beside: Any) -> None:
    written = sent([number, "NaN", "Infinity", {"a": [number]}, beside])
    assert written == [None, "NaN", "Infinity", {"a": [None]}, json.loads(json.dumps(beside))]


@pytest.mark.parametrize("key", [UUID(int=1), datetime(2026, 1, 2, tzinfo=UTC), Level.HIGH])
def test_keys_are_written_as_values_are(key: Any) -> None:
    assert sent({key: {"a": 1}}) == {str(sent(key)): {"a": 1}}


@pytest.mark.parametrize("value", [object(), b"bytes", {"a": object()}, [2**64, object()], Model])
def test_what_has_no_json_is_refused_with_the_cure(value: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be sent as JSON.*RoomManager\(json=…\)"):
        DEFAULT_JSON.dumps(value)


def test_what_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match=r"Circular|deeply"):
        DEFAULT_JSON.dumps(loop)


INCOMING = {
    "half an emoji": r'{"text": "so funny \ud83d"}',
    "2**64": '{"id": 18446744073709551616}',
    "below 64 bits": "-9223372036854775809",
    "the largest of 64 bits": "[18446744073709551615, -9223372036854775808]",
    "uint256": str(2**256 - 1),
    "a long fraction": "0.12345678901234567890123",
    "a number in a text": '"12345678901234567890123"',
    "NaN": "[NaN, Infinity]",
    "text": '"hé 🎉"',
    "spaces": " [1 ] ",
}


@pytest.mark.parametrize("text", INCOMING.values(), ids=INCOMING)
def test_what_starlette_reads_is_read_the_same(text: str) -> None:
    expected = json.loads(text)
    for data in (text, text.encode()):
        value = DEFAULT_JSON.loads(data)
        assert repr(value) == repr(expected)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", "'a'", "[" * 100_000, "1" * 10_000, '"\x00"', "\ud800"],
    ids=["nothing", "cut off", "comma", "quotes", "nesting", "digits", "control", "surrogate"],
)
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        DEFAULT_JSON.loads(text)


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=10,
    )
)
def test_what_is_sent_comes_back(value: Any) -> None:
    assert DEFAULT_JSON.loads(DEFAULT_JSON.dumps(value)) == value


INNER = ["[]", "1", "1e999", "NaN", str(2**70), r'"\ud800"', '"["', '{"a": 1}']


def nested(around: str, inner: str, depth: int) -> str:
    for _ in range(depth):
        inner = around % inner
    return inner


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("around", ["[%s]", '{"a":%s}', "[[], %s, []]"])
def test_what_can_be_read_can_be_written_with_something_around_it(around: str, inner: str) -> None:
    for depth in (1, 100, 253, 254, 255, 300, MAX_DEPTH - 1):
        value = DEFAULT_JSON.loads(nested(around, inner, depth))
        DEFAULT_JSON.dumps({"from": "ann", "said": [value]})
        WIRE_JSON.loads(WIRE_JSON.dumps([["sid", ["rooms"], {"data": value}]]))
    for depth in (MAX_DEPTH + 1, 900, 1024):
        with pytest.raises(ValueError, match="deep"):
            DEFAULT_JSON.loads(nested(around, inner, depth))


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", '{"a": 1e999}', "[-2e308, 1]"])
def test_workers_tell_each_other_no_numbers_that_json_does_not_have(text: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        WIRE_JSON.loads(text)
    assert DEFAULT_JSON.loads(text) is not None
