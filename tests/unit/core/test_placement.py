"""Which backend gets a client, and when those who lost one get another."""

from __future__ import annotations

from fastapi_rooms.core.placement import Placement, Reopening, Turns

A, B = "a" * 16, "b" * 16


def test_the_emptiest_backend_of_the_name_gets_the_client() -> None:
    placement = Placement(1.0)
    assert placement.beat(A, "chat", 50, 100, now=0)
    assert placement.beat(B, "chat", 60, 200, now=0)
    assert not placement.beat(B, "chat", 60, 200, now=1)
    assert placement.pick("chat") == B
    assert placement.pick("chat", exclude={B}) == A
    assert placement.pick("game") is None


def test_clients_that_were_just_placed_count() -> None:
    placement = Placement(1.0)
    placement.beat(A, "chat", 0, 10, now=0)
    placement.beat(B, "chat", 0, 10, now=0)
    picked = [placement.pick("chat") for _ in range(20)]
    assert picked.count(A) == picked.count(B) == 10
    assert placement.pick("chat") is None, "all are full"


def test_one_that_misses_three_heartbeats_is_dead() -> None:
    placement = Placement(1.0)
    placement.beat(A, "chat", 0, 10, now=0)
    placement.beat(B, "chat", 0, 10, now=2)
    assert placement.expire(3) == []
    assert placement.expire(3.5) == [A]
    placement.spare(9)
    assert placement.expire(10) == []
    placement.bye(B)
    assert placement.pick("chat") is None


def test_one_that_leaves_gets_no_client_and_is_dead_when_it_misses_heartbeats() -> None:
    placement = Placement(1.0)
    placement.beat(A, "chat", 0, 10, now=0)
    placement.leaves(A, now=1)
    placement.leaves(B, now=1)
    assert (A in placement, placement.backends, placement.pick("chat")) == (False, {}, None)
    placement.leaves(A, now=3)
    assert placement.expire(5) == []
    assert placement.expire(6.5) == [A], "it has clients that it did not release"
    placement.beat(A, "chat", 0, 10, now=7)
    placement.leaves(A, now=7)
    assert placement.beat(A, "chat", 0, 10, now=8), "it has begun anew"
    assert placement.pick("chat") == A


def test_an_endpoint_that_ends_at_once_is_not_begun_again_at_full_speed() -> None:
    reopening = Reopening()
    waits = [reopening.wait(0.1, died=False) for _ in range(100)]
    assert waits[0] < 0.1
    assert waits == sorted(waits)
    assert waits[-1] == 2
    assert reopening.wait(1, died=False) == 0


def test_one_whose_backends_die_again_and_again_waits_ever_longer() -> None:
    reopening = Reopening()
    assert [reopening.wait(3, died=True) for _ in range(6)] == [0, 1, 4, 16, 30, 30]
    assert reopening.wait(3, died=False) == 0
    assert reopening.wait(3, died=True) == 30, "none has lived for long meanwhile"
    assert reopening.wait(10, died=True) == 0


def test_turns_are_spread_and_the_last_is_within_the_window() -> None:
    turns = Turns(rate=100, window=5)
    waits = [turns.wait(0.0) for _ in range(10_000)]
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[100] > 0.5
    assert waits[-1] <= 5
    assert turns.wait(100.0) == 0
