"""When a connection is complete, and which outages that ends."""

from __future__ import annotations

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.adapters.reception import Reception
from fastapi_rooms.adapters.subscriptions import Losses, Subscriptions


def _connect(subscriptions: Subscriptions) -> None:
    """A new link: everything is asked for, and nothing is confirmed."""
    subscriptions.reset()
    subscriptions.take_due()


def _live(*channels: bytes) -> tuple[Reception, Subscriptions]:
    reception, subscriptions = Reception(), Subscriptions()
    subscriptions.want(channels)
    _connect(subscriptions)
    for channel in channels:
        subscriptions.confirm_subscribed(channel)
    assert reception.confirmed(subscriptions, 1.0) == (True, None)
    return reception, subscriptions


def test_a_first_connection_has_missed_nothing() -> None:
    reception, _ = _live(b"a", b"b")
    assert (reception.is_complete, reception.complete_since, reception.reconnects) == (True, 1.0, 0)


def test_a_loss_lasts_from_the_last_proof_to_the_last_confirmation() -> None:
    reception, subscriptions = _live(b"a", b"b")
    reception.prove(5.0)
    reception.link_lost(9.0, subscriptions)
    _connect(subscriptions)
    subscriptions.confirm_subscribed(b"a")
    assert reception.confirmed(subscriptions, 10.0) == (False, None)
    subscriptions.confirm_subscribed(b"b")
    outage = Outage(5.0, 11.0, frozenset((b"a", b"b")))
    assert reception.confirmed(subscriptions, 11.0) == (True, outage)
    assert (reception.is_complete, reception.reconnects) == (True, 1)


def test_joins_in_flight_hold_up_neither_the_connection_nor_the_gap() -> None:
    reception, subscriptions = _live(b"a")
    reception.link_lost(9.0, subscriptions)
    _connect(subscriptions)
    for number in range(3):  # there is one in flight at every moment
        subscriptions.want([b"new %d" % number])
        subscriptions.take_due()
    subscriptions.confirm_subscribed(b"a")
    outage = Outage(9.0, 11.0, frozenset((b"a",)))
    assert reception.confirmed(subscriptions, 11.0) == (True, outage)
    subscriptions.confirm_subscribed(b"new 0")
    assert reception.confirmed(subscriptions, 12.0) == (False, None)


def test_what_becomes_live_later_is_reported_together_once_nothing_is_in_flight() -> None:
    losses = Losses()
    reception, subscriptions = Reception(losses), Subscriptions()
    _connect(subscriptions)
    assert reception.confirmed(subscriptions, 1.0) == (True, None)
    losses.lose([b"a", b"b"], 4.0)  # at another node, which served them
    subscriptions.want([b"a", b"b"])
    subscriptions.take_due()
    subscriptions.confirm_subscribed(b"a")
    assert reception.confirmed(subscriptions, 5.0) == (False, None)
    subscriptions.confirm_subscribed(b"b")
    outage = Outage(4.0, 6.0, frozenset((b"a", b"b")))
    assert reception.confirmed(subscriptions, 6.0) == (False, outage)


def test_what_is_wanted_during_a_loss_is_reported_with_it() -> None:
    losses = Losses()
    reception, subscriptions = Reception(losses), Subscriptions()
    for beginning, end in ((2.0, 6.0), (9.0, 16.0)):  # before the first link, and after it
        for channel, since in ((b"a", beginning), (b"b", beginning + 1)):
            subscriptions.want([channel])
            losses.lose([channel], since)
        _connect(subscriptions)
        subscriptions.confirm_subscribed(b"a")
        assert reception.confirmed(subscriptions, end - 1) == (False, None)
        subscriptions.confirm_subscribed(b"b")
        outage = Outage(beginning, end, frozenset((b"a", b"b")))
        assert reception.confirmed(subscriptions, end) == (True, outage)
        subscriptions.unwant([b"a", b"b"])
        reception.link_lost(end + 1, subscriptions)


def test_a_forbidden_channel_goes_on_being_lost() -> None:
    reception, subscriptions = _live(b"a", b"b")
    reception.link_lost(9.0, subscriptions)
    _connect(subscriptions)
    subscriptions.refused([b"b"], forbidden=True)
    subscriptions.confirm_subscribed(b"a")
    outage = Outage(9.0, 11.0, frozenset((b"a",)))
    assert reception.confirmed(subscriptions, 11.0) == (True, outage)
    subscriptions.retry_forbidden()
    subscriptions.take_due()
    assert reception.confirmed(subscriptions, 12.0) == (False, None)
    subscriptions.confirm_subscribed(b"b")
    outage = Outage(9.0, 13.0, frozenset((b"b",)))
    assert reception.confirmed(subscriptions, 13.0) == (False, outage)


def test_a_link_that_is_lost_before_all_was_restored_adds_to_the_loss_of_what_was_not() -> None:
    reception, subscriptions = _live(b"a", b"b")
    reception.link_lost(9.0, subscriptions)
    _connect(subscriptions)
    subscriptions.confirm_subscribed(b"a")
    reception.link_lost(20.0, subscriptions)
    _connect(subscriptions)
    for channel in (b"a", b"b"):
        subscriptions.confirm_subscribed(channel)
    outage = Outage(9.0, 30.0, frozenset((b"a", b"b")))
    assert reception.confirmed(subscriptions, 30.0) == (True, outage)
    assert reception.reconnects == 1


def test_the_losses_of_a_connection_end_together_and_what_is_left_meanwhile_is_none() -> None:
    losses = Losses(frozenset((b"own",)))
    losses.lose({b"a", b"b", b"own"}, 1.0)
    losses.lose({b"a", b"c"}, 2.0)  # the earlier loss of a is kept
    losses.lose([b"d", b"a", b"own"], 3.0)
    assert [channel in losses for channel in (b"a", b"b", b"c", b"d", b"own")] == [
        *[True] * 4,
        False,
    ]
    losses.forget([b"b", b"d"])
    assert losses.regain({b"a", b"x"}) == (1.0, frozenset((b"a",)))
    assert losses.regain({b"a", b"x"}) is None
    assert losses.regain({b"a", b"c"}) == (2.0, frozenset((b"c",)))
    assert losses.regain({b"a", b"c"}) is None


def test_the_loss_of_an_adapters_own_channels_ends_as_well() -> None:
    losses = Losses(frozenset((b"own",)))
    losses.lose({b"own"}, 1.0)
    assert losses.regain(set(), restored=True) == (1.0, frozenset())
    assert losses.regain(set(), restored=True) is None


def test_what_one_of_several_connections_has_again_is_not_taken_for_all() -> None:
    shared, own = Losses(shared=True), Losses()
    for losses in (shared, own):
        losses.lose({b"a", b"b"}, 1.0)
    assert shared.regain({b"a"}, restored=True) == (1.0, frozenset((b"a",)))
    assert own.regain({b"a"}, restored=True) == (1.0, frozenset((b"a", b"b")))


def test_a_connection_with_nothing_on_it_loses_nothing() -> None:
    losses = Losses()
    losses.lose(set(), 1.0)
    assert losses.regain(set()) is None
    losses.lose({b"a"}, 1.0)
    losses.forget([b"a"])
    assert losses.regain(set()) is None
