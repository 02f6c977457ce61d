"""Whether a room knows who is present, as somebody finds out who has no manager."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms import AdapterUnavailable, UsageError
from fastapi_rooms.adapters.declarations import PresenceDeclaration
from fastapi_rooms.adapters.redis.declared.form import fields_of
from fastapi_rooms.adapters.redis.presence.questions import PresenceQuestions, Question

AWAY = AdapterUnavailable("The node is away.")
TEA = fields_of([PresenceDeclaration("/", "tea", 1)], "")
BOTH = fields_of([PresenceDeclaration("/", name, 1) for name in ("tea", "rum")], "")


def reads(question: Question[None], reply: Any) -> bool:
    """Whether it reads what is declared; it is given a reply, or an error that is thrown in."""
    try:
        (command, key) = next(question)
    except StopIteration:
        return False
    assert (command, key) == ("HGETALL", b"rooms:declared")
    with pytest.raises(StopIteration):
        question.throw(reply) if isinstance(reply, Exception) else question.send(reply)
    return True


@pytest.fixture(params=[False, True], ids=["one node", "cluster"])
def questions(request: pytest.FixtureRequest) -> PresenceQuestions:
    return PresenceQuestions("rooms", sharded=request.param)


def test_it_is_read_once_for_some_seconds(questions: PresenceQuestions) -> None:
    assert reads(questions.ensure_known("/", "tea"), TEA)
    assert not reads(questions.ensure_known("/", "tea"), TEA)
    assert not reads(questions.ensure_known("/"), TEA)


def test_a_room_that_is_not_known_is_looked_for_before_it_is_refused(
    questions: PresenceQuestions,
) -> None:
    assert reads(questions.ensure_known("/", "tea"), TEA)
    question = questions.ensure_known("/", "rum")
    next(question)
    with pytest.raises(UsageError, match="'rum' does not know"):
        question.send(TEA)
    assert reads(questions.ensure_known("/", "rum"), BOTH)


def test_a_generated_sid_is_no_such_room(questions: PresenceQuestions) -> None:
    everything = fields_of([PresenceDeclaration("/", "*", 1)], "")
    assert reads(questions.ensure_known("/", "tea"), everything)
    question = questions.ensure_known("/", f"{'a' * 16}.{'b' * 16}")
    next(question)
    with pytest.raises(UsageError):
        question.send(everything)


def test_in_a_cluster_what_is_known_counts_while_the_node_that_has_it_is_away() -> None:
    questions = PresenceQuestions("rooms", sharded=True)
    first = questions.ensure_known("/", "tea")
    next(first)
    with pytest.raises(AdapterUnavailable):  # nothing is known yet
        first.throw(AWAY)
    assert reads(questions.ensure_known("/", "tea"), TEA)
    questions._known.doubt()
    assert reads(questions.ensure_known("/", "tea"), AWAY)
    assert not reads(questions.ensure_known("/", "tea"), AWAY), "it is not tried each time"
    unknown = questions.ensure_known("/", "rum")
    next(unknown)
    with pytest.raises(AdapterUnavailable):
        unknown.throw(AWAY)


def test_one_redis_that_is_away_is_said_to_be() -> None:
    questions = PresenceQuestions("rooms", sharded=False)
    assert reads(questions.ensure_known("/", "tea"), TEA)
    questions._known.doubt()
    question = questions.ensure_known("/", "tea")
    next(question)
    with pytest.raises(AdapterUnavailable):
        question.throw(AWAY)
