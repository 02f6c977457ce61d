"""A request under way: whole answers count, pieces do not, and the dead are not waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.cluster import pending as pending_module
from fastapi_rooms.cluster.pending import PIECE_BYTES, PendingRequest, pieces_of
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.wire.envelope import Reply


def reply(
    node: str, data: bytes, *, piece: int = 0, last: bool = True, refused: bool = False
) -> Reply:
    return Reply(node, 1, 7, piece, last, refused, data)


def test_it_is_done_when_everyone_has_answered() -> None:
    pending = PendingRequest(["ann", "bob"])
    assert pending.take(reply("ann", b"1"))
    assert not pending.is_done()
    assert pending.take(reply("bob", b"no", refused=True))
    assert pending.is_done()
    assert pending.responses == {"ann": b"1"}
    assert pending.refusals == {"bob": "no"}


def test_a_request_to_nobody_is_done() -> None:
    assert PendingRequest([]).is_done()


def test_a_worker_that_dies_is_not_waited_for_and_half_its_answer_is_dropped() -> None:
    pending = PendingRequest(["ann", "bob"])
    pending.take(reply("ann", b"[1,", last=False))
    pending.gone("ann", left=False)
    pending.gone("nobody", left=True)
    assert pending.missing == {"bob"}
    assert pending.take(reply("ann", b"2]", piece=1))  # too late, and no nonsense
    pending.take(reply("bob", b"1"))
    assert pending.is_done()
    assert pending.responses == {"bob": b"1"}


@given(st.binary(max_size=5), st.integers(1, 3))
def test_an_answer_in_pieces_is_whole_again(data: bytes, times: int) -> None:
    whole = data * (PIECE_BYTES // 4) * times
    pieces = pieces_of(whole)
    assert max(map(len, pieces)) <= PIECE_BYTES
    pending = PendingRequest(["ann"])
    for number, piece in enumerate(pieces):
        assert not pending.is_done()
        assert pending.take(reply("ann", piece, piece=number, last=number == len(pieces) - 1))
    assert pending.responses == {"ann": whole}


@pytest.mark.parametrize("piece", [1, 2, 2**32 - 1])
def test_an_answer_with_a_piece_missing_is_ignored(piece: int) -> None:
    pending = PendingRequest(["ann"])
    assert not pending.take(reply("ann", b"x", piece=piece))
    assert pending.missing == {"ann"}
    assert pending.responses == {}


def test_replies_of_workers_that_were_not_asked_or_have_answered_are_ignored() -> None:
    pending = PendingRequest(["ann", "bob"])
    assert not pending.take(reply("eve", b"1"))
    assert pending.take(reply("ann", b"1"))
    assert not pending.take(reply("ann", b"2"))
    assert pending.responses == {"ann": b"1"}


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "MAX_RESPONSE_BYTES", 10 + 2 * ENTRY_BYTES)
    pending = PendingRequest(["ann", "bob"])
    assert pending.take(reply("ann", b"123456", last=False))
    assert pending.take(reply("bob", b"12345", last=False))
    assert pending.missing == {"ann"}
    assert f"longer than {10 + 2 * ENTRY_BYTES} bytes" in pending.refusals["bob"]
    assert pending.take(reply("bob", b"6", piece=1))  # the rest of it is no nonsense
    assert not pending.take(reply("ann", b"8", piece=7))


def test_an_answer_of_empty_pieces_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "MAX_RESPONSE_BYTES", 10 * ENTRY_BYTES)
    pending = PendingRequest(["ann"])
    for piece in range(11):
        assert pending.take(reply("ann", b"", piece=piece, last=False))
    assert "longer than" in pending.refusals["ann"]
    assert not pending.missing


def test_invented_workers_that_come_and_go_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "MAX_PEERS", 10)
    pending = PendingRequest(["ann"], everyone=True)
    for number in range(1000):
        pending.met(f"new {number}", new=True)
        pending.gone(f"gone {number}", left=True)
    assert len(pending._newcomers) == len(pending._departed) == 10
    pending.reached(1)
    assert pending.take(reply("ann", b"1"))
    assert pending.responses == {"ann": b"1"}


# Unidentified: workers that we do not know, and that have the request.


def test_every_worker_that_got_the_request_is_waited_for_identified_or_not() -> None:
    pending = PendingRequest(["ann"], everyone=True)
    pending.take(reply("ann", b"1"))
    assert not pending.is_done()  # nobody has said yet how many got it
    pending.reached(2)
    assert pending.unidentified == 1
    assert not pending.is_done()
    assert pending.take(reply("eve", b"[2", last=False))
    assert (pending.unidentified, pending.missing) == (0, {"eve"})
    assert pending.take(reply("eve", b"]", piece=1))
    assert pending.is_done()
    assert pending.responses == {"ann": b"1", "eve": b"[2]"}


def test_an_unidentified_worker_that_identifies_itself_is_waited_for_by_its_id() -> None:
    pending = PendingRequest(["ann"], everyone=True)
    pending.reached(2)
    pending.met("dan", new=True)
    assert (pending.unidentified, pending.missing) == (1, {"ann"})
    pending.met("eve", new=False)
    pending.met("fay", new=False)  # more than there are unidentified ones
    assert (pending.unidentified, pending.missing) == (0, {"ann", "eve"})


@pytest.mark.parametrize("left", [True, False])
def test_a_worker_that_is_gone_is_not_counted_for_an_unidentified_one(left: bool) -> None:
    pending = PendingRequest(["ann", "bob"], everyone=True)
    pending.reached(3 if left else 2)  # a dead one did not get it
    pending.take(reply("ann", b"1"))
    pending.gone("bob", left=left)
    pending.recounted(2)  # Ann, and somebody else
    assert pending.unidentified == 1
    pending.take(reply("eve", b"2"))
    assert pending.is_done()


def test_unidentified_workers_that_have_gone_are_not_waited_for() -> None:
    pending = PendingRequest(["ann", "bob"], everyone=True)
    pending.reached(3)
    pending.take(reply("ann", b"1"))
    pending.take(reply("bob", b"2"))
    pending.met("new", new=True)
    pending.gone("bob", left=False)  # it has answered
    pending.recounted(3)
    assert pending.unidentified == 1
    pending.recounted(2)  # Ann and the new one
    assert pending.is_done()
    assert pending.responses == {"ann": b"1", "bob": b"2"}


def test_a_worker_that_left_before_the_request_is_not_counted_for_an_unidentified_one() -> None:
    pending = PendingRequest(["ann", "bob"], everyone=True)
    pending.gone("bob", left=True)
    pending.reached(2)
    pending.take(reply("ann", b"1"))
    assert pending.unidentified == 1
    pending.take(reply("eve", b"2"))
    assert pending.is_done()


@pytest.mark.parametrize("counted_first", [True, False])
def test_a_new_worker_that_got_the_request_is_not_counted_for_an_unidentified_one(
    counted_first: bool,
) -> None:
    pending = PendingRequest([], everyone=True)
    pending.reached(2)
    pending.met("new", new=True)
    if counted_first:
        pending.recounted(2)  # the new one, and somebody else
    assert pending.take(reply("new", b"1"))
    pending.recounted(2)
    assert pending.unidentified == 1
    assert pending.take(reply("eve", b"2"))
    assert pending.is_done()
    assert pending.responses == {"new": b"1", "eve": b"2"}


def test_a_worker_taken_for_dead_that_answers_all_the_same_is_heard() -> None:
    pending = PendingRequest(["ann", "bob"], everyone=True)
    pending.reached(2)
    pending.gone("ann", left=False)
    assert pending.take(reply("ann", b"1"))
    assert pending.responses == {"ann": b"1"}
    assert pending.missing == {"bob"}


def test_no_more_unidentified_workers_are_believed_than_there_can_be_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pending_module, "MAX_PEERS", 2)
    pending = PendingRequest([], everyone=True)
    assert pending.take(reply("ann", b"1"))
    assert pending.take(reply("bob", b"1", last=False))
    assert not pending.take(reply("eve", b"1"))


def test_a_request_to_one_worker_waits_for_it_however_many_receive_its_channel() -> None:
    pending = PendingRequest(["ann"])
    pending.reached(3)
    assert pending.unidentified == 0
    assert pending.take(reply("ann", b"1"))
    assert pending.is_done()


def test_who_does_not_know_the_verb_is_told_apart() -> None:
    pending = PendingRequest(["ann", "bob"])
    assert pending.take(reply("ann", b"what?", refused=True)._replace(unsupported=True))
    assert pending.take(reply("bob", b"no", refused=True))
    assert pending.unsupported == {"ann"}
    assert pending.refusals == {"ann": "what?", "bob": "no"}


def test_a_reason_that_is_no_utf_8_is_shown_all_the_same() -> None:
    pending = PendingRequest(["ann"])
    assert pending.take(reply("ann", b"no \xff", refused=True))
    assert pending.refusals == {"ann": "no \ufffd"}
