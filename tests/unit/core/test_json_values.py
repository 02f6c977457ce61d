"""What JSON gives back as it was, and what it does not."""

from __future__ import annotations

import math
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from threading import Lock
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_rooms.core.json_codec import MAX_DEPTH
from fastapi_rooms.core.json_values import NotKept, copy_kept
from fastapi_rooms.wire.gateway import read_json, to_json

Point = namedtuple("Point", "x y")  # noqa: PYI024 -- what people have


class Role(StrEnum):
    ADMIN = "admin"


class Level(IntEnum):
    HIGH = 3


kept = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Half of a surrogate pair, too, as a client can send it.
    | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def types_of(value: Any) -> Any:
    """The types in a value, which `==` does not look at."""
    if isinstance(value, dict):
        return {key: types_of(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [*map(types_of, value)]
    return type(value)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), kept, max_size=3))
def test_a_copy_is_what_json_gives_back_in_value_type_and_order(values: dict[str, Any]) -> None:
    copied = copy_kept(values)
    returned = read_json(to_json(copied))
    assert values == copied == returned
    assert types_of(values) == types_of(copied) == types_of(returned)
    assert [*values] == [*copied]


def test_a_copy_shares_nothing_that_can_change() -> None:
    values: dict[str, Any] = {"list": [{}], "dict": {"inner": []}}
    copied = copy_kept(values)
    values["list"][0]["new"] = 1
    values["dict"]["inner"].append(1)
    assert copied == {"list": [{}], "dict": {"inner": []}}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({1}, "is of type set, and would come back as a list"),
        (frozenset(), "is of type frozenset, and would come back as a list"),
        ((1, 2), "is of type tuple, and would come back as a list"),
        (Point(1, 2), "Point, and would come back as a list"),
        (datetime(2026, 1, 1, tzinfo=UTC), "is of type datetime.datetime, which JSON"),
        (date(2026, 1, 1), "is of type datetime.date, which JSON"),
        (UUID(int=1), "is of type uuid.UUID, which JSON"),
        (Decimal(1), "is of type decimal.Decimal, which JSON"),
        (b"x", "is of type bytes, which JSON"),
        (Lock(), "which JSON does not have"),
        (object(), "is of type object, which JSON"),
        (Role.ADMIN, "Role, and would come back as a plain str"),
        (Level.HIGH, "Level, and would come back as a plain int"),
        (OrderedDict(), "is of type collections.OrderedDict, and would come back as a plain dict"),
        (math.nan, "is nan, which JSON does not have"),
        (-math.inf, "is -inf, which JSON does not have"),
    ],
)
def test_what_would_come_back_as_something_else_is_named(value: object, why: str) -> None:
    with pytest.raises(NotKept, match=why) as found:
        copy_kept({"fine": 1, "here": [0, {"inner": value}]})
    assert found.value.path == ("here", 1, "inner")


def test_keys_have_to_be_text() -> None:
    with pytest.raises(NotKept, match="has the key 1, and keys come back as text") as found:
        copy_kept({"here": {1: 2}})
    assert found.value.path == ("here",)


def test_the_whole_has_to_be_a_dict_of_no_other_type() -> None:
    with pytest.raises(NotKept, match="OrderedDict") as found:
        copy_kept(OrderedDict())
    assert found.value.path == ()


def test_it_may_be_as_deep_as_what_a_client_sends_and_no_deeper() -> None:
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        deep = {"inner": deep}
    assert copy_kept(deep) == deep == read_json(to_json(deep))
    with pytest.raises(NotKept, match="more than 500 levels"):
        copy_kept({"inner": deep})
    itself: dict[str, Any] = {}
    itself["me"] = [itself]
    with pytest.raises(NotKept, match="holds itself") as found:
        copy_kept(itself)
    assert found.value.path == ("me",)
