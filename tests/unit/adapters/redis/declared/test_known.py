"""What somebody goes by who reads now and then what workers have declared."""

from __future__ import annotations

import pytest

from fastapi_rooms.adapters.declarations import STALE, PresenceDeclaration
from fastapi_rooms.adapters.redis.declared.form import MAX_DECLARATIONS, fields_of
from fastapi_rooms.adapters.redis.declared.known import READ_INTERVAL, Known

START = 1000.0
TEA = fields_of([PresenceDeclaration("/", "tea", 1)], "")
MATE = fields_of([PresenceDeclaration("/", "mate", 1)], "")


def knows(known: Known, room: str) -> bool:
    patterns = known.declared.presence.get("/")
    return patterns is not None and patterns.find(room) is not None


def test_it_is_read_before_anything_and_again_after_a_while() -> None:
    known = Known()
    assert known.is_due(START)
    known.keep(START)
    assert not known.is_due(START + READ_INTERVAL / 2)
    assert known.is_due(START + READ_INTERVAL)
    known.keep(START + READ_INTERVAL)
    known.doubt()
    assert known.is_due(START + READ_INTERVAL)


def test_what_was_read_last_counts() -> None:
    known = Known()
    known.read(TEA, START)
    assert knows(known, "tea")
    known.read(MATE, START)
    assert (knows(known, "tea"), knows(known, "mate")) == (False, True)


def test_nothing_is_taken_for_a_redis_that_was_emptied_until_workers_would_have_told_it() -> None:
    known = Known()
    known.read({}, START)
    assert not known.declared
    known.read(TEA, START)
    known.read({}, START + STALE)
    assert knows(known, "tea")
    known.read({}, START + STALE + 1)
    assert not known.declared


def test_what_cannot_be_believed_changes_nothing() -> None:
    known = Known()
    known.read(TEA, START)
    with pytest.raises(ValueError, match="fields"):
        known.read({b"%d" % n: b"" for n in range(MAX_DECLARATIONS + 1)}, START)
    assert knows(known, "tea")
