"""What the commands say about a carrier before they connect to it."""

from __future__ import annotations

import pytest
import typer

from fastapi_rooms import RequestTimeout, UsageError
from fastapi_rooms.cli.session import Session, _matches, run


async def test_who_asks_rabbitmq_for_a_history_is_told_that_it_has_none() -> None:
    session = Session("amqp://127.0.0.1:1", "rooms", "/", 1.0)
    with pytest.raises(UsageError, match="RabbitMQ keeps no messages"):
        async with session.rooms(remembers="lobby"):
            raise AssertionError


async def test_rabbitmq_has_no_declarations_and_is_not_asked() -> None:
    session = Session("amqp://127.0.0.1:1", "rooms", "/", 1.0)
    assert await session.declarations() == []


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("chat-*", True), ("chat-tea", True), ("*", True), ("chat-", False), ("chat-teapot", False)],
)
def test_a_room_is_one_of_a_pattern_or_the_one_that_is_named(pattern: str, matches: bool) -> None:
    assert _matches("chat-tea", pattern) is matches


def test_who_has_not_answered_is_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    async def asks() -> None:
        raise RequestTimeout("count", 1.0, frozenset({"b", "a"}), None, {}, unidentified=1)

    with pytest.raises(typer.Exit) as end:
        run(asks())
    assert end.value.exit_code == 1
    assert "3 workers did not answer: a, b, unidentified" in capsys.readouterr().err


@pytest.mark.parametrize(("endless", "code"), [(True, 0), (False, 130)])
def test_a_command_that_is_interrupted_has_failed_unless_it_has_no_other_end(
    endless: bool, code: int
) -> None:
    async def waits() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as end:
        run(waits(), endless=endless)
    assert end.value.exit_code == code
