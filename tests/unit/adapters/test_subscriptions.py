"""Channels wanted against channels confirmed: one command under way, and the last wish wins."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastapi_rooms.adapters.subscriptions import Subscriptions


def _settled(subscriptions: Subscriptions) -> bool:
    return subscriptions.settled  # a function, as mypy takes a property to stay what it was


def _live(*channels: bytes) -> Subscriptions:
    subscriptions = Subscriptions()
    subscriptions.want(channels)
    subscriptions.take_due()
    for channel in channels:
        assert subscriptions.confirm_subscribed(channel)
    return subscriptions


def test_nothing_wanted_is_settled() -> None:
    assert _settled(Subscriptions())
    assert Subscriptions().take_due() == ([], [])


def test_a_wish_is_asked_for_once_and_live_when_confirmed() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a", b"b"])
    subscriptions.want([b"a"])
    assert not _settled(subscriptions)
    assert subscriptions.take_due() == ([b"a", b"b"], [])
    assert subscriptions.take_due() == ([], [])
    assert not subscriptions.is_live(b"a")
    assert subscriptions.confirm_subscribed(b"a")
    assert subscriptions.is_live(b"a")
    assert not _settled(subscriptions)
    assert subscriptions.confirm_subscribed(b"b")
    assert _settled(subscriptions)


def test_wanting_what_is_live_asks_for_nothing() -> None:
    subscriptions = _live(b"a")
    subscriptions.want([b"a"])
    assert _settled(subscriptions)
    assert subscriptions.take_due() == ([], [])


def test_a_live_channel_unwanted_is_given_back_once() -> None:
    subscriptions = _live(b"a")
    subscriptions.unwant([b"a"])
    subscriptions.unwant([b"a"])
    assert not subscriptions.is_live(b"a")
    assert subscriptions.take_due() == ([], [b"a"])
    assert not _settled(subscriptions)
    subscriptions.confirm_unsubscribed(b"a")
    assert _settled(subscriptions)
    assert subscriptions.take_due() == ([], [])


def test_a_live_channel_unwanted_and_wanted_again_is_live_by_the_wish_alone() -> None:
    subscriptions = _live(b"a")
    subscriptions.unwant([b"a"])
    subscriptions.want([b"a"])
    assert subscriptions.is_live(b"a")
    assert _settled(subscriptions)
    assert subscriptions.take_due() == ([], [])


def test_a_wish_taken_back_before_it_was_asked_for_costs_nothing() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.unwant([b"a"])
    assert subscriptions.take_due() == ([], [])
    assert _settled(subscriptions)


def test_unwanting_what_was_never_wanted_costs_nothing() -> None:
    subscriptions = Subscriptions()
    subscriptions.unwant([b"a"])
    assert subscriptions.take_due() == ([], [])
    assert _settled(subscriptions)


def test_a_channel_unwanted_while_being_subscribed_is_given_back_after_the_confirmation() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.take_due()
    subscriptions.unwant([b"a"])
    assert subscriptions.take_due() == ([], [])
    assert not subscriptions.confirm_subscribed(b"a")
    assert subscriptions.take_due() == ([], [b"a"])


def test_a_channel_wanted_while_being_unsubscribed_is_asked_for_after_the_confirmation() -> None:
    subscriptions = _live(b"a")
    subscriptions.unwant([b"a"])
    subscriptions.take_due()
    subscriptions.want([b"a"])
    assert not subscriptions.is_live(b"a")
    assert subscriptions.take_due() == ([], [])
    subscriptions.confirm_unsubscribed(b"a")
    assert subscriptions.take_due() == ([b"a"], [])
    assert subscriptions.confirm_subscribed(b"a")


def test_wishes_that_cancel_out_while_a_command_is_under_way_cost_nothing() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.take_due()
    subscriptions.unwant([b"a"])
    subscriptions.want([b"a"])
    assert subscriptions.confirm_subscribed(b"a")
    assert _settled(subscriptions)
    assert subscriptions.take_due() == ([], [])


def test_a_confirmation_nobody_asked_for_makes_nothing_live() -> None:
    subscriptions = Subscriptions()
    assert not subscriptions.confirm_subscribed(b"a")
    subscriptions.want([b"a"])
    assert not subscriptions.confirm_subscribed(b"a")
    assert not subscriptions.is_live(b"a")
    assert subscriptions.take_due() == ([b"a"], [])


def test_a_channel_the_carrier_takes_away_is_asked_for_again() -> None:
    subscriptions = _live(b"a", b"b")
    subscriptions.confirm_unsubscribed(b"a")
    assert not subscriptions.is_live(b"a")
    assert subscriptions.is_live(b"b")
    assert subscriptions.take_due() == ([b"a"], [])
    assert subscriptions.confirm_subscribed(b"a")
    assert _settled(subscriptions)


def test_a_subscription_the_carrier_answers_with_the_opposite_is_asked_for_again() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.take_due()
    subscriptions.confirm_unsubscribed(b"a")
    assert subscriptions.take_due() == ([b"a"], [])
    subscriptions.confirm_subscribed(b"a")
    assert _settled(subscriptions)


def test_after_a_lost_connection_everything_wanted_is_due_and_nothing_else() -> None:
    subscriptions = _live(b"a", b"b", b"c")
    subscriptions.unwant([b"b"])
    subscriptions.want([b"d"])
    subscriptions.take_due()
    subscriptions.unwant([b"c"])
    subscriptions.reset()
    assert not subscriptions.is_live(b"a")
    assert not _settled(subscriptions)
    subscribe, unsubscribe = subscriptions.take_due()
    assert sorted(subscribe) == [b"a", b"d"]
    assert unsubscribe == []
    assert subscriptions.confirm_subscribed(b"a")
    assert subscriptions.confirm_subscribed(b"d")
    assert _settled(subscriptions)


def test_a_refused_channel_is_not_asked_for_again_and_never_settled() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a", b"b"])
    subscriptions.take_due()
    subscriptions.refused([b"a", b"b"])
    assert subscriptions.take_due() == ([], [])
    assert not _settled(subscriptions)
    subscriptions.unwant([b"a"])
    assert not _settled(subscriptions)
    subscriptions.unwant([b"b"])
    assert _settled(subscriptions)


def test_a_refused_channel_wished_anew_is_asked_for_anew() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.take_due()
    subscriptions.refused([b"a"])
    subscriptions.want([b"a"])
    assert subscriptions.take_due() == ([b"a"], [])


def test_a_refused_channel_is_asked_for_on_the_next_connection() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.take_due()
    subscriptions.refused([b"a"])
    subscriptions.reset()
    assert subscriptions.take_due() == ([b"a"], [])
    assert subscriptions.confirm_subscribed(b"a")
    assert _settled(subscriptions)


def test_a_refusal_of_what_was_not_asked_for_stops_nothing() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.refused([b"a", b"b"])
    assert subscriptions.take_due() == ([b"a"], [])
    assert subscriptions.confirm_subscribed(b"a")
    assert _settled(subscriptions)


def test_a_refusal_of_what_is_no_longer_wanted_leaves_nothing_to_do() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.take_due()
    subscriptions.unwant([b"a"])
    subscriptions.refused([b"a"])
    assert _settled(subscriptions)
    assert subscriptions.take_due() == ([], [])


def test_what_was_refused_is_due_again_when_it_is_retried() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a", b"b"])
    subscriptions.take_due()
    assert subscriptions.refused([b"a", b"b"]) == []
    subscriptions.unwant([b"b"])
    subscriptions.retry_refused()
    assert subscriptions.take_due() == ([b"a"], [])
    assert subscriptions.confirm_subscribed(b"a")
    assert _settled(subscriptions)


def test_the_rest_settles_without_what_is_forbidden() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a", b"b"])
    subscriptions.take_due()
    subscriptions.refused([b"a"], forbidden=True)
    assert not _settled(subscriptions)
    subscriptions.confirm_subscribed(b"b")
    assert _settled(subscriptions)
    assert subscriptions.forbidden == {b"a"}
    assert not subscriptions.is_live(b"a")
    subscriptions.retry_refused()
    assert subscriptions.take_due() == ([], [])


def test_what_is_forbidden_is_so_until_it_is_asked_for_again_and_confirmed() -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.take_due()
    subscriptions.refused([b"a"], forbidden=True)
    subscriptions.retry_forbidden()
    assert not _settled(subscriptions)
    assert subscriptions.take_due() == ([b"a"], [])
    assert subscriptions.confirm_subscribed(b"a")
    assert _settled(subscriptions)
    assert not subscriptions.forbidden


@pytest.mark.parametrize(
    "what",
    [
        lambda subscriptions: subscriptions.want([b"a"]),
        lambda subscriptions: subscriptions.unwant([b"a"]),
        lambda subscriptions: subscriptions.drop([b"a"]),
        lambda subscriptions: subscriptions.reset(),
    ],
    ids=["wanted anew", "unwanted", "had elsewhere", "a new connection"],
)
def test_what_was_forbidden_is_not_known_to_be_so(what: Callable[[Subscriptions], object]) -> None:
    subscriptions = Subscriptions()
    subscriptions.want([b"a"])
    subscriptions.take_due()
    subscriptions.refused([b"a"], forbidden=True)
    what(subscriptions)
    assert not subscriptions.forbidden
    subscriptions.retry_forbidden()
    subscribe, _ = subscriptions.take_due()
    assert subscribe == [c for c in [b"a"] if c in subscriptions.wanted]


def test_a_channel_that_could_not_be_left_is_left_when_it_is_retried() -> None:
    subscriptions = _live(b"a")
    subscriptions.unwant([b"a"])
    subscriptions.take_due()
    assert subscriptions.refused([b"a"]) == []
    assert not _settled(subscriptions)
    subscriptions.retry_refused()
    assert subscriptions.take_due() == ([], [b"a"])
    subscriptions.confirm_unsubscribed(b"a")
    assert _settled(subscriptions)


def test_a_channel_that_could_not_be_left_and_is_wanted_again_is_live() -> None:
    subscriptions = _live(b"a")
    subscriptions.unwant([b"a"])
    subscriptions.take_due()
    subscriptions.want([b"a"])
    assert subscriptions.refused([b"a"]) == [b"a"]
    assert subscriptions.is_live(b"a")
    assert _settled(subscriptions)


def _restored(subscriptions: Subscriptions) -> bool:
    return subscriptions.restored


def test_what_was_wanted_when_the_connection_was_made_is_restored_whatever_comes_after() -> None:
    subscriptions = _live(b"a", b"b")
    subscriptions.reset()
    assert not _restored(subscriptions)
    subscriptions.take_due()
    subscriptions.want([b"new"])
    subscriptions.take_due()
    assert subscriptions.confirm_subscribed(b"a")
    assert not _restored(subscriptions)
    subscriptions.want([b"newer"])
    assert subscriptions.confirm_subscribed(b"b")
    assert not _settled(subscriptions)
    assert _restored(subscriptions)


def test_what_is_left_forbidden_or_served_elsewhere_need_not_be_restored() -> None:
    subscriptions = _live(b"left", b"forbidden", b"moved", b"refused")
    subscriptions.reset()
    subscriptions.take_due()
    subscriptions.unwant([b"left"])
    subscriptions.refused([b"forbidden"], forbidden=True)
    subscriptions.drop([b"moved"])
    subscriptions.refused([b"refused"])
    assert not _restored(subscriptions)
    subscriptions.retry_refused()
    subscriptions.take_due()
    subscriptions.confirm_subscribed(b"refused")
    assert _restored(subscriptions)
