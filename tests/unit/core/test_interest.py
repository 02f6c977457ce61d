"""Interest in channels: counted, and lingering after the last."""

from __future__ import annotations

import pytest

from fastapi_rooms.core.interest import Interest


@pytest.fixture
def interest() -> Interest:
    """With a linger of ten seconds."""
    return Interest(linger=10)


def test_a_channel_is_wanted_while_anyone_holds_it(interest: Interest) -> None:
    interest.hold([b"a"])
    interest.hold([b"a", b"b"])
    interest.release([b"a"], now=0)
    assert b"a" in interest
    assert b"b" in interest
    interest.release([b"a"], now=0)
    assert b"a" not in interest
    assert b"b" in interest


def test_the_linger_begins_at_the_last_release(interest: Interest) -> None:
    interest.hold([b"a"])
    interest.hold([b"a"])
    interest.release([b"a"], now=0)
    assert interest.next_expiry() is None
    interest.release([b"a"], now=5)
    assert interest.next_expiry() == 15
    assert interest.expired(now=14.9) == []
    assert interest.expired(now=15) == [b"a"]


def test_an_expired_channel_is_handed_out_once(interest: Interest) -> None:
    interest.hold([b"a"])
    interest.release([b"a"], now=0)
    assert interest.expired(now=10) == [b"a"]
    assert interest.expired(now=99) == []
    assert interest.next_expiry() is None


def test_a_channel_held_again_while_it_lingers_stays(interest: Interest) -> None:
    interest.hold([b"a"])
    interest.release([b"a"], now=0)
    interest.hold([b"a"])
    assert interest.expired(now=99) == []
    interest.release([b"a"], now=99)
    assert interest.next_expiry() == 109


def test_channels_expire_in_the_order_they_were_released(interest: Interest) -> None:
    interest.hold([b"a", b"b", b"c"])
    interest.release([b"b"], now=0)
    interest.release([b"a"], now=1)
    interest.release([b"c"], now=2)
    assert interest.next_expiry() == 10
    assert interest.expired(now=11) == [b"b", b"a"]
    assert interest.next_expiry() == 12


def test_a_linger_that_began_anew_does_not_delay_the_others(interest: Interest) -> None:
    interest.hold([b"a", b"b"])
    interest.release([b"a", b"b"], now=0)
    interest.hold([b"a"])
    interest.release([b"a"], now=5)
    assert interest.next_expiry() == 10
    assert interest.expired(now=10) == [b"b"]
    assert interest.expired(now=15) == [b"a"]


def test_without_a_linger_a_channel_expires_at_once() -> None:
    interest = Interest(linger=0)
    interest.hold([b"a"])
    interest.release([b"a"], now=3)
    assert interest.expired(now=3) == [b"a"]
