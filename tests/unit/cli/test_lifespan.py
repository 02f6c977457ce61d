"""The lifespan of an application, as `fastapi-rooms backend` runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import typer
from fastapi import FastAPI

from fastapi_rooms.cli.backend import _lifespan_of


async def test_it_runs_around_the_block_and_its_state_is_kept() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        steps.append("begins")
        yield {"answer": 42}
        steps.append("ends")

    state: dict[str, Any] = {}
    async with _lifespan_of(FastAPI(lifespan=lifespan), state):
        assert steps == ["begins"]
        assert state == {"answer": 42}
    assert steps == ["begins", "ends"]


async def test_one_that_fails_at_the_start_ends_the_command_and_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if app.title:
            raise OSError("no database")
        yield

    with pytest.raises(typer.Exit) as ended:
        async with _lifespan_of(FastAPI(lifespan=lifespan), {}):
            pytest.fail("it has not started")
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err
    assert "OSError: no database" in said
    assert said.endswith("The application did not start.\n")


async def test_an_application_without_one_is_served_all_the_same() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError(scope["type"])

    served = False
    async with _lifespan_of(app, {}):
        served = True
    assert served
