"""A request under way: whole answers count, pieces do not, and the dead are not waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.cluster import question
from fastapi_rooms.cluster.question import PIECE_BYTES, Question, pieces_of
from fastapi_rooms.envelope import Reply


def reply(
    node: str, data: bytes, *, piece: int = 0, last: bool = True, refused: bool = False
) -> Reply:
    return Reply(node, 1, 7, piece, last, refused, data)


def test_it_is_done_when_everyone_has_answered() -> None:
    asked = Question(["ann", "bob"])
    assert asked.answered(reply("ann", b"1"))
    assert not asked.is_done()
    assert asked.answered(reply("bob", b"no", refused=True))
    assert asked.is_done()
    assert asked.answers == {"ann": b"1"}
    assert asked.refusals == {"bob": "no"}


def test_with_nobody_to_ask_it_is_done() -> None:
    assert Question([]).is_done()


def test_one_that_dies_is_not_waited_for_and_its_half_answer_is_none() -> None:
    asked = Question(["ann", "bob"])
    asked.answered(reply("ann", b"[1,", last=False))
    asked.gone("ann")
    asked.gone("nobody")
    assert asked.missing == {"bob"}
    assert not asked.answered(reply("ann", b"2]", piece=1))
    asked.answered(reply("bob", b"1"))
    assert asked.is_done()
    assert asked.answers == {"bob": b"1"}


@given(st.binary(max_size=5), st.integers(1, 3))
def test_an_answer_in_pieces_is_whole_again(data: bytes, times: int) -> None:
    whole = data * (PIECE_BYTES // 4) * times
    pieces = pieces_of(whole)
    assert max(map(len, pieces)) <= PIECE_BYTES
    asked = Question(["ann"])
    for number, piece in enumerate(pieces):
        assert not asked.is_done()
        assert asked.answered(reply("ann", piece, piece=number, last=number == len(pieces) - 1))
    assert asked.answers == {"ann": whole}


@pytest.mark.parametrize("piece", [1, 2, 2**32 - 1])
def test_an_answer_with_a_piece_missing_is_none(piece: int) -> None:
    asked = Question(["ann"])
    assert not asked.answered(reply("ann", b"x", piece=piece))
    assert asked.missing == {"ann"}
    assert asked.answers == {}


def test_who_was_not_asked_or_has_answered_is_not_listened_to() -> None:
    asked = Question(["ann", "bob"])
    assert not asked.answered(reply("eve", b"1"))
    assert asked.answered(reply("ann", b"1"))
    assert not asked.answered(reply("ann", b"2"))
    assert asked.answers == {"ann": b"1"}


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "MAX_ANSWER_BYTES", 10)
    asked = Question(["ann", "bob"])
    assert asked.answered(reply("ann", b"123456", last=False))
    assert asked.answered(reply("bob", b"12345", last=False))
    assert asked.missing == {"ann"}
    assert "longer than 10 bytes" in asked.refusals["bob"]
