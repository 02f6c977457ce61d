"""What an endpoint leaves while it is joining it."""

from __future__ import annotations

from fastapi_rooms.worker.own_joins import OwnJoins


def test_what_is_left_while_it_is_joined_is_not_joined_but_by_a_later_join() -> None:
    joins = OwnJoins()
    first = joins.begin(["tea", "bar"])
    joins.leave(["tea", "elsewhere"])
    second = joins.begin(["tea"])
    assert [joins.has_left(room, first) for room in ("tea", "bar")] == [True, False]
    assert not joins.has_left("tea", second)
    joins.end(["tea", "bar"])
    assert "tea" in joins
    assert "bar" not in joins
    joins.leave(["tea"])
    assert joins.has_left("tea", second)
    joins.end(["tea"])
    assert "tea" not in joins
    assert not joins.has_left("tea", joins.begin(["tea"]))
    assert not joins._left
