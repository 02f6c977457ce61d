"""Which rooms remember, as it is written for others, and what is believed of what they read."""

from __future__ import annotations

import pytest

from fastapi_rooms.adapters.history import Declaration, Retention
from fastapi_rooms.adapters.redis.history.declared import (
    MAX_DECLARATIONS,
    STALE,
    Sightings,
    fields_of,
    items_of,
    parse,
    patterns_of,
)
from fastapi_rooms.core.position import MAX_OFFSET

TEA = Declaration("/", "tea-*", Retention(200, 3600.0))
CHAT = Declaration("/chat", "*", Retention(1, 0.5))
GOOD = b'{"size":1,"ttl":1}'


def test_what_was_written_is_read_by_either_protocol() -> None:
    fields = fields_of((TEA, CHAT), "sign")
    flat = [part for item in fields.items() for part in item]
    assert list(parse(fields)) == list(parse(flat)) == [TEA, CHAT]


def test_patterns_are_those_of_their_namespace() -> None:
    patterns = patterns_of((TEA, CHAT))
    assert patterns["/"].find("tea-green") == TEA.retention
    assert patterns["/"].find("coffee") is None
    assert patterns["/chat"].find("coffee") == CHAT.retention


def test_a_newer_version_may_say_more() -> None:
    value = b'{"size":200,"ttl":3600.0,"sign":"s","presence":true}'
    assert list(parse({b"/#tea-*": value})) == [TEA]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"/", GOOD),
        (b"/#", GOOD),
        (b"/#te*a", GOOD),
        (b"tea#a", GOOD),
        (b"#tea", GOOD),
        (b"/#\xff", GOOD),
        (b"/#" + b"a" * 300, GOOD),
        (b"/" * 300 + b"#a", GOOD),
        (b"/#tea", b""),
        (b"/#tea", b"\xff"),
        (b"/#tea", b"[]"),
        (b"/#tea", b"1"),
        (b"/#tea", b'{"size":1}'),
        (b"/#tea", b'{"size":0,"ttl":1}'),
        (b"/#tea", b'{"size":true,"ttl":1}'),
        (b"/#tea", b'{"size":1.5,"ttl":1}'),
        (b"/#tea", b'{"size":9007199254740992,"ttl":1}'),
        (b"/#tea", b'{"size":1,"ttl":0}'),
        (b"/#tea", b'{"size":1,"ttl":"1"}'),
        (b"/#tea", b'{"size":1,"ttl":NaN}'),
        (b"/#tea", b'{"size":1,"ttl":1e400}'),
        (b"/#tea", b'{"size":1,"ttl":1e13}'),
        (b"/#tea", b"[" * 190),
        (b"/#tea", GOOD + b" " * 300),
    ],
)
def test_what_does_not_fit_is_no_declaration(field: bytes, value: bytes) -> None:
    assert list(parse({field: value, b"/#good": GOOD})) == [
        Declaration("/", "good", Retention(1, 1))
    ]


@pytest.mark.parametrize("reply", [None, 1, b"OK", [], {}, [b"alone"], [1, 2], {b"/#a": None}])
def test_a_reply_of_another_kind_declares_nothing(reply: object) -> None:
    assert list(parse(reply)) == []


def test_more_than_an_application_can_have_are_not_believed() -> None:
    items = {b"/#%d" % number: GOOD for number in range(MAX_DECLARATIONS)}
    assert len(list(parse(items))) == MAX_DECLARATIONS
    items[b"/#more"] = GOOD
    with pytest.raises(ValueError, match="10001 fields"):
        list(parse(items))


def test_every_name_that_can_be_declared_can_be_read() -> None:
    longest = Declaration("/" + "n" * 254, "p" * 255 + "*", Retention(MAX_OFFSET - 1, 1e12))
    assert list(parse(fields_of([longest], "f" * 16))) == [longest]


def test_what_nobody_repeats_is_stale_after_some_minutes() -> None:
    sightings = Sightings()
    old = fields_of([TEA], "never again")
    for minute in range(3):
        now = 60.0 * minute
        items = items_of(old | fields_of([CHAT], f"sign {minute}"))
        assert sightings.stale(items, now) == ([b"/#tea-*"] if now >= STALE else [])


def test_what_comes_back_is_new() -> None:
    sightings = Sightings()
    items = items_of(fields_of([TEA], "sign"))
    assert sightings.stale(items, 0.0) == []
    assert sightings.stale({}, STALE) == []
    assert sightings.stale(items, STALE + 1) == []
