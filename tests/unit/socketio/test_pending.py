"""A question under way: whose answers count, and how many are missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastapi_rooms import MalformedEnvelope
from fastapi_rooms.socketio import pending
from fastapi_rooms.socketio.pending import PendingQuestion
from fastapi_rooms.wire.socketio import responses
from fastapi_rooms.wire.socketio.requests import Kind


def answer(request_id: str = "q", sockets: Any = ()) -> bytes:
    return json.dumps({"requestId": request_id, "sockets": list(sockets)}).encode()


def test_it_is_done_when_everyone_who_got_it_has_answered() -> None:
    question, states = PendingQuestion("q", Kind.SOCKETS), []
    states.append(question.is_done)
    assert question.take(answer(sockets=["a"]))  # before Redis has said how many got it
    question.asked(4)
    assert question.silent == 3
    question.reached_own()
    assert question.take(responses.of_own("q"))
    states.append(question.is_done)
    assert question.take(answer())
    states.append(question.is_done)
    assert states == [False, False, True]
    assert question.answers == [["a"], []]


def test_nobody_to_ask_is_nobody_to_wait_for() -> None:
    question = PendingQuestion("q", Kind.SOCKETS)
    question.asked(0)
    assert question.is_done


def test_an_answer_to_another_question_does_not_count() -> None:
    question = PendingQuestion("mine", Kind.SOCKETS)
    assert not question.is_about(answer("other"))
    assert question.is_about(answer("mine, nearly"))
    assert not question.take(answer("mine, nearly"))
    assert question.answers == []


@pytest.mark.parametrize("limit", ["MAX_ANSWERS", "MAX_BYTES"])
def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(pending, limit, {"MAX_ANSWERS": 1, "MAX_BYTES": 500}[limit])
    question = PendingQuestion("q", Kind.SOCKETS)
    assert question.take(answer())
    with pytest.raises(MalformedEnvelope):
        question.take(answer())
    assert len(question.answers) == 1
