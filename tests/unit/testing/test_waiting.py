"""`eventually`."""

from __future__ import annotations

import pytest

from fastapi_rooms.testing import eventually


async def test_it_returns_the_first_true_answer() -> None:
    answers = iter([0, 0.0, None, "yes", "too late"])
    assert await eventually(lambda: next(answers)) == "yes"


async def test_an_async_condition_is_awaited() -> None:
    answers = iter([False, False, True])

    async def condition() -> bool:
        return next(answers)

    assert await eventually(condition)


async def test_an_answer_that_never_comes_fails_and_says_what_was_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"Not within 0\.01 s: the last bus; .*\[\]"):
        await eventually(list, 0.01, what="the last bus")
