"""Who lives, by their heartbeats: no clock but the one the tests hold."""

from __future__ import annotations

from fastapi_rooms.cluster.peers import MAX_INTERVAL, MAX_PEERS, MISSED, Peers, Unidentified


def test_a_worker_lives_until_it_has_missed_several_heartbeats() -> None:
    peers = Peers()
    peers.heard("ann", 100, 2)
    assert peers.expire(100 + 2 * MISSED - 0.001) == []
    assert "ann" in peers
    assert peers.expire(100 + 2 * MISSED) == ["ann"]
    assert list(peers) == []


def test_every_heartbeat_counts_from_its_own_time_with_its_own_interval() -> None:
    peers = Peers()
    peers.heard("ann", 100, 2)
    peers.heard("bob", 100, 1)
    peers.heard("ann", 101, 1)
    assert peers.expire(103.5) == ["bob"]
    assert peers.expire(104) == ["ann"]


def test_a_worker_that_says_bye_is_gone_at_once_and_may_come_again() -> None:
    peers = Peers()
    peers.heard("ann", 100, 2)
    peers.left("ann")
    peers.left("ann")
    assert len(peers) == 0
    peers.heard("ann", 100, 2)
    assert list(peers) == ["ann"]


def test_invented_workers_are_bounded_in_number_and_in_time() -> None:
    peers = Peers()
    for number in range(MAX_PEERS + 10):
        peers.heard(str(number), 0, 1e9)
    assert len(peers) == MAX_PEERS
    peers.heard("0", 1, 1)  # a known one is heard all the same
    assert peers.expire(1 + MISSED) == ["0"]
    assert len(peers.expire(MISSED * MAX_INTERVAL)) == MAX_PEERS - 1


def test_unidentified_workers_that_stay_silent_are_taken_for_dead() -> None:
    unidentified = Unidentified()
    unidentified.counted(1, 100)
    unidentified.counted(2, 101)
    assert unidentified.dead(100 + 2 * MISSED - 0.001, 2) == 0
    assert unidentified.dead(100 + 2 * MISSED, 2) == 1
    assert unidentified.dead(101 + 2 * MISSED, 2) == 2


def test_the_latest_of_the_unidentified_workers_are_taken_to_be_left() -> None:
    for one_goes in (Unidentified.introduced, lambda unidentified: unidentified.counted(1, 106)):
        unidentified = Unidentified()
        unidentified.counted(1, 100)
        unidentified.counted(2, 105)
        one_goes(unidentified)
        assert len(unidentified) == 1
        assert unidentified.dead(100 + MISSED, 1) == 0
        assert unidentified.dead(105 + MISSED, 1) == 1
    unidentified = Unidentified()
    unidentified.counted(1, 100)
    unidentified.introduced()
    unidentified.introduced()
    assert not unidentified


def test_there_are_no_more_unidentified_workers_than_there_can_be_workers() -> None:
    unidentified = Unidentified()
    unidentified.counted(10**12, 0)
    assert len(unidentified) == MAX_PEERS
