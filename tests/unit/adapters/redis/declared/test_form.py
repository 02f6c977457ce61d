"""What rooms have, as it is written for others, and what is believed of what they read."""

from __future__ import annotations

import pytest

from fastapi_rooms.adapters.declarations import (
    STALE,
    Declaration,
    Declared,
    HistoryDeclaration,
    PresenceDeclaration,
)
from fastapi_rooms.adapters.history import Retention
from fastapi_rooms.adapters.redis.declared.form import (
    MAX_DECLARATIONS,
    Sightings,
    fields_of,
    items_of,
    parse,
)
from fastapi_rooms.core.position import MAX_OFFSET

TEA = HistoryDeclaration("/", "tea-*", Retention(200, 3600.0))
CHAT = HistoryDeclaration("/chat", "*", Retention(1, 0.5))
WHO = PresenceDeclaration("/chat", "who-*", 10.0)
NO_GRACE = PresenceDeclaration("/", "tea-*", 0)
GOOD = b'{"form":1,"size":1,"ttl":1}'
GRACE = b'{"form":1,"grace":1}'


def test_what_was_written_is_read_by_either_protocol() -> None:
    fields = fields_of((TEA, CHAT, WHO, NO_GRACE), "sign")
    flat = [part for item in fields.items() for part in item]
    assert list(parse(fields)) == list(parse(flat)) == [TEA, CHAT, WHO, NO_GRACE]


def test_what_a_room_has_is_declared_in_its_namespace() -> None:
    declared = Declared((TEA, CHAT, WHO, NO_GRACE))
    assert declared.history["/"].find("tea-green") == TEA.retention
    assert declared.history["/"].find("coffee") is None
    assert declared.history["/chat"].find("coffee") == CHAT.retention
    assert declared.presence["/chat"].find("who-is-it") == 10.0
    assert declared.presence["/"].find("tea-green") == 0
    assert declared.presence["/"].find("who-is-it") is None
    assert declared
    assert not Declared()


def test_a_newer_version_may_say_more() -> None:
    value = b'{"form":1,"size":200,"ttl":3600.0,"sign":"s","presence":true}'
    assert list(parse({b"history /#tea-*": value})) == [TEA]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"history /", GOOD),
        (b"history /#", GOOD),
        (b"history /#te*a", GOOD),
        (b"history tea#a", GOOD),
        (b"history #tea", GOOD),
        (b"history /#\xff", GOOD),
        (b"history /#" + b"a" * 300, GOOD),
        (b"history /" * 300 + b"#a", GOOD),
        (b"history /#tea", b""),
        (b"history /#tea", b"\xff"),
        (b"history /#tea", b"[]"),
        (b"history /#tea", b"1"),
        (b"history /#tea", b'{"form":1,"size":1}'),
        (b"history /#tea", b'{"form":1,"size":0,"ttl":1}'),
        (b"history /#tea", b'{"form":1,"size":true,"ttl":1}'),
        (b"history /#tea", b'{"form":1,"size":1.5,"ttl":1}'),
        (b"history /#tea", b'{"form":1,"size":9007199254740992,"ttl":1}'),
        (b"history /#tea", b'{"form":1,"size":1,"ttl":0}'),
        (b"history /#tea", b'{"form":1,"size":1,"ttl":"1"}'),
        (b"history /#tea", b'{"form":1,"size":1,"ttl":NaN}'),
        (b"history /#tea", b'{"form":1,"size":1,"ttl":1e400}'),
        (b"history /#tea", b'{"form":1,"size":1,"ttl":1e13}'),
        (b"history /#tea", b"[" * 190),
        (b"history /#tea", GOOD + b" " * 300),
        (b"/#tea", GOOD),
        (b"/#tea", GRACE),
        (b"history", GOOD),
        (b"secrets /#tea", GOOD),
        (b"history /#tea", b'{"size":1,"ttl":1}'),
        (b"history /#tea", b'{"form":2,"size":1,"ttl":1}'),
        (b"history /#tea", b'{"form":true,"size":1,"ttl":1}'),
        (b"history /#tea", b'{"form":1.0,"size":1,"ttl":1}'),
        (b"history /#tea", GRACE),
        (b"presence /#tea", GOOD),
        (b"presence tea#a", GRACE),
        (b"presence /#te*a", GRACE),
        (b"presence /#tea", b'{"form":1,"grace":-1}'),
        (b"presence /#tea", b'{"form":1,"grace":true}'),
        (b"presence /#tea", b'{"form":1,"grace":"1"}'),
        (b"presence /#tea", b'{"form":1,"grace":NaN}'),
        (b"presence /#tea", b'{"form":1,"grace":1e400}'),
        (b"presence /#tea", b'{"form":1,"grace":1e13}'),
        (b"presence /#tea", b'{"form":2,"grace":1}'),
    ],
)
def test_what_does_not_fit_is_no_declaration(field: bytes, value: bytes) -> None:
    assert list(parse({field: value, b"history /#good": GOOD})) == [
        HistoryDeclaration("/", "good", Retention(1, 1))
    ]


@pytest.mark.parametrize("reply", [None, 1, b"OK", [], {}, [b"alone"], [1, 2], {b"/#a": None}])
def test_a_reply_of_another_kind_declares_nothing(reply: object) -> None:
    assert list(parse(reply)) == []


def test_more_than_an_application_can_have_are_not_believed() -> None:
    items = {b"history /#%d" % number: GOOD for number in range(MAX_DECLARATIONS)}
    assert len(list(parse(items))) == MAX_DECLARATIONS
    items[b"history /#more"] = GOOD
    with pytest.raises(ValueError, match="10001 fields"):
        list(parse(items))


def test_every_name_that_can_be_declared_can_be_read() -> None:
    namespace, pattern = "/" + "n" * 254, "p" * 255 + "*"
    longest: list[Declaration] = [
        HistoryDeclaration(namespace, pattern, Retention(MAX_OFFSET - 1, 1e12)),
        PresenceDeclaration(namespace, pattern, 1e12),
    ]
    assert list(parse(fields_of(longest, "f" * 16))) == longest


def test_what_nobody_repeats_is_stale_after_some_minutes() -> None:
    sightings = Sightings()
    old = fields_of([TEA], "never again")
    for minute in range(3):
        now = 60.0 * minute
        items = items_of(old | fields_of([CHAT], f"sign {minute}"))
        assert sightings.stale(items, now) == ([b"history /#tea-*"] if now >= STALE else [])


def test_what_comes_back_is_new() -> None:
    sightings = Sightings()
    items = items_of(fields_of([TEA], "sign"))
    assert sightings.stale(items, 0.0) == []
    assert sightings.stale({}, STALE) == []
    assert sightings.stale(items, STALE + 1) == []
