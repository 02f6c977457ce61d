"""Whose a socket's rooms are, while its endpoint changes."""

from __future__ import annotations

from fastapi_rooms.gateway.claims import Claims


def test_what_an_earlier_endpoint_joined_is_unclaimed_until_the_next_joins_it_or_it_is_left() -> (
    None
):
    claims = Claims()
    claims.begin_attempt(["a", "b", "c"])
    claims.joined(["a"])
    claims.left("b")
    assert claims.unclaimed == {"c"}
    claims.begin_attempt(["a", "c"])
    assert claims.unclaimed == {"a", "c"}


def test_what_others_had_it_join_is_nobody_elses_until_an_endpoint_joins_it() -> None:
    claims = Claims()
    claims.begin_attempt(["a", "b"])
    claims.by_others(["b", "c"])
    assert claims.unclaimed == {"a"}
    claims.begin_attempt(["a", "b", "c"])
    assert claims.unclaimed == {"a"}
    assert [*claims.others] == ["b", "c"]
    claims.joined(["b"])
    claims.left("c")
    assert [*claims.others] == []
    claims.begin_attempt(["a", "b"])
    assert claims.unclaimed == {"a", "b"}


def test_what_an_endpoint_is_joining_is_not_left_meanwhile_but_if_it_fails() -> None:
    claims = Claims()
    claims.begin_attempt(["a", "b"])
    with claims.at_work(["a"]):
        assert claims.knows("a")
        assert not claims.knows("b")
        assert claims.unclaimed == {"b"}
    assert not claims.knows("a")
    assert claims.unclaimed == {"a", "b"}
