"""A request under way: whole answers count, pieces do not, and the dead are not waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.cluster import pending as question
from fastapi_rooms.cluster.pending import PIECE_BYTES, PendingRequest, pieces_of
from fastapi_rooms.wire.envelope import Reply


def reply(
    node: str, data: bytes, *, piece: int = 0, last: bool = True, refused: bool = False
) -> Reply:
    return Reply(node, 1, 7, piece, last, refused, data)


def test_it_is_done_when_everyone_has_answered() -> None:
    asked = PendingRequest(["ann", "bob"])
    assert asked.take(reply("ann", b"1"))
    assert not asked.is_done()
    assert asked.take(reply("bob", b"no", refused=True))
    assert asked.is_done()
    assert asked.responses == {"ann": b"1"}
    assert asked.refusals == {"bob": "no"}


def test_a_request_to_nobody_is_done() -> None:
    assert PendingRequest([]).is_done()


def test_a_worker_that_dies_is_not_waited_for_and_half_its_answer_is_dropped() -> None:
    asked = PendingRequest(["ann", "bob"])
    asked.take(reply("ann", b"[1,", last=False))
    asked.gone("ann", left=False)
    asked.gone("nobody", left=True)
    assert asked.missing == {"bob"}
    assert asked.take(reply("ann", b"2]", piece=1))  # too late, and no nonsense
    asked.take(reply("bob", b"1"))
    assert asked.is_done()
    assert asked.responses == {"bob": b"1"}


@given(st.binary(max_size=5), st.integers(1, 3))
def test_an_answer_in_pieces_is_whole_again(data: bytes, times: int) -> None:
    whole = data * (PIECE_BYTES // 4) * times
    pieces = pieces_of(whole)
    assert max(map(len, pieces)) <= PIECE_BYTES
    asked = PendingRequest(["ann"])
    for number, piece in enumerate(pieces):
        assert not asked.is_done()
        assert asked.take(reply("ann", piece, piece=number, last=number == len(pieces) - 1))
    assert asked.responses == {"ann": whole}


@pytest.mark.parametrize("piece", [1, 2, 2**32 - 1])
def test_an_answer_with_a_piece_missing_is_ignored(piece: int) -> None:
    asked = PendingRequest(["ann"])
    assert not asked.take(reply("ann", b"x", piece=piece))
    assert asked.missing == {"ann"}
    assert asked.responses == {}


def test_replies_of_workers_that_were_not_asked_or_have_answered_are_ignored() -> None:
    asked = PendingRequest(["ann", "bob"])
    assert not asked.take(reply("eve", b"1"))
    assert asked.take(reply("ann", b"1"))
    assert not asked.take(reply("ann", b"2"))
    assert asked.responses == {"ann": b"1"}


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "MAX_RESPONSE_BYTES", 10)
    asked = PendingRequest(["ann", "bob"])
    assert asked.take(reply("ann", b"123456", last=False))
    assert asked.take(reply("bob", b"12345", last=False))
    assert asked.missing == {"ann"}
    assert "longer than 10 bytes" in asked.refusals["bob"]
    assert asked.take(reply("bob", b"6", piece=1))  # the rest of it is no nonsense
    assert not asked.take(reply("ann", b"8", piece=7))


# Unidentified: workers that we do not know, and that have the request.


def test_every_worker_that_got_the_request_is_waited_for_identified_or_not() -> None:
    asked = PendingRequest(["ann"], everyone=True)
    asked.take(reply("ann", b"1"))
    assert not asked.is_done()  # nobody has said yet how many got it
    asked.reached(2)
    assert asked.unidentified == 1
    assert not asked.is_done()
    assert asked.take(reply("eve", b"[2", last=False))
    assert (asked.unidentified, asked.missing) == (0, {"eve"})
    assert asked.take(reply("eve", b"]", piece=1))
    assert asked.is_done()
    assert asked.responses == {"ann": b"1", "eve": b"[2]"}


def test_an_unidentified_worker_that_identifies_itself_is_waited_for_by_its_id() -> None:
    asked = PendingRequest(["ann"], everyone=True)
    asked.reached(2)
    asked.met("dan", new=True)
    assert (asked.unidentified, asked.missing) == (1, {"ann"})
    asked.met("eve", new=False)
    asked.met("fay", new=False)  # more than there are strangers
    assert (asked.unidentified, asked.missing) == (0, {"ann", "eve"})


@pytest.mark.parametrize("left", [True, False])
def test_a_worker_that_is_gone_is_not_counted_for_an_unidentified_one(left: bool) -> None:
    asked = PendingRequest(["ann", "bob"], everyone=True)
    asked.reached(3 if left else 2)  # a dead one did not get it
    asked.take(reply("ann", b"1"))
    asked.gone("bob", left=left)
    asked.recounted(2)  # Ann, and somebody else
    assert asked.unidentified == 1
    asked.take(reply("eve", b"2"))
    assert asked.is_done()


def test_unidentified_workers_that_have_gone_are_not_waited_for() -> None:
    asked = PendingRequest(["ann", "bob"], everyone=True)
    asked.reached(3)
    asked.take(reply("ann", b"1"))
    asked.take(reply("bob", b"2"))
    asked.met("new", new=True)
    asked.gone("bob", left=False)  # it has answered
    asked.recounted(3)
    assert asked.unidentified == 1
    asked.recounted(2)  # Ann and the new one
    assert asked.is_done()
    assert asked.responses == {"ann": b"1", "bob": b"2"}


def test_a_worker_that_left_before_the_request_is_not_counted_for_an_unidentified_one() -> None:
    asked = PendingRequest(["ann", "bob"], everyone=True)
    asked.gone("bob", left=True)
    asked.reached(2)
    asked.take(reply("ann", b"1"))
    assert asked.unidentified == 1
    asked.take(reply("eve", b"2"))
    assert asked.is_done()


@pytest.mark.parametrize("counted_first", [True, False])
def test_a_new_worker_that_got_the_request_is_not_counted_for_an_unidentified_one(
    counted_first: bool,
) -> None:
    asked = PendingRequest([], everyone=True)
    asked.reached(2)
    asked.met("new", new=True)
    if counted_first:
        asked.recounted(2)  # the new one, and somebody else
    assert asked.take(reply("new", b"1"))
    asked.recounted(2)
    assert asked.unidentified == 1
    assert asked.take(reply("eve", b"2"))
    assert asked.is_done()
    assert asked.responses == {"new": b"1", "eve": b"2"}


def test_a_worker_taken_for_dead_that_answers_all_the_same_is_heard() -> None:
    asked = PendingRequest(["ann", "bob"], everyone=True)
    asked.reached(2)
    asked.gone("ann", left=False)
    assert asked.take(reply("ann", b"1"))
    assert asked.responses == {"ann": b"1"}
    assert asked.missing == {"bob"}


def test_no_more_unidentified_workers_are_believed_than_there_can_be_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(question, "MAX_PEERS", 2)
    asked = PendingRequest([], everyone=True)
    assert asked.take(reply("ann", b"1"))
    assert asked.take(reply("bob", b"1", last=False))
    assert not asked.take(reply("eve", b"1"))
