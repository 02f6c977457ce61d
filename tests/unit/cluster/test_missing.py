"""Who went without a goodbye, and when to look for them."""

from __future__ import annotations

from fastapi_rooms.cluster.missing import Missing
from fastapi_rooms.cluster.peers import MAX_PEERS
from tests.unit.cluster.support import ANN, BOB


def test_a_missing_worker_is_looked_for_when_it_is_due_and_again_at_intervals() -> None:
    missing = Missing()
    missing.add(ANN, 9)
    missing.add(BOB, 12)
    assert missing.due(8, 3) == []
    assert missing.due(9, 3) == [ANN]
    assert missing.due(11, 3) == []
    assert missing.due(12, 3) == [ANN, BOB]


def test_one_that_is_missed_again_is_due_when_it_was() -> None:
    missing = Missing()
    missing.add(ANN, 9)
    missing.add(ANN, 20)
    assert missing.due(9, 3) == [ANN]


def test_one_that_is_back_or_lost_is_missing_no_more() -> None:
    missing = Missing()
    missing.add(ANN, 9)
    assert ANN in missing
    assert missing.remove(ANN)
    assert not missing.remove(ANN)
    assert ANN not in missing
    assert missing.due(9, 3) == []


def test_after_an_outage_of_our_own_nobody_is_looked_for_until_all_could_be_heard() -> None:
    missing = Missing()
    missing.add(ANN, 9)
    missing.cut_off(8, 3)
    missing.cut_off(10, 3)
    missing.add(BOB, 12)
    assert missing.due(18, 3) == []
    assert missing.due(19, 3) == [ANN, BOB]


def test_no_more_are_remembered_than_are_believed_in() -> None:
    missing = Missing()
    for number in range(MAX_PEERS + 1):
        missing.add(f"{number:016x}", 1)
    assert len(missing.due(1, 3)) == MAX_PEERS
