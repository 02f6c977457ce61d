"""How long the supervisor of a connection waits before it makes another, on a clock of our own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from fastapi_rooms.adapters import supervisor
from fastapi_rooms.adapters.redis.links.link import Link


class Redis:
    """A user of links, a Redis that is there or not, and the time, which passes by pauses only."""

    def __init__(self, lifetimes: list[float | None]) -> None:
        self._lifetimes = lifetimes  # of the links that are opened in turn; None: it is not there
        self._now = 0.0
        self._lifetime = 0.0
        self.pauses: list[float] = []

    # What the supervisor asks of asyncio.

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._now += seconds

    def get_running_loop(self) -> SimpleNamespace:
        return SimpleNamespace(time=lambda: self._now)

    # What it asks of the user of a link.

    async def open(self) -> Redis:
        if not self._lifetimes:
            raise asyncio.CancelledError
        lifetime = self._lifetimes.pop(0)
        if lifetime is None:
            raise ConnectionRefusedError("nobody is there")
        self._lifetime = lifetime
        return self

    def open_failed(self, error: Exception) -> None: ...

    def link_up(self, link: Redis) -> None: ...

    def link_down(self, reason: str) -> None: ...

    # What it asks of a link.

    @property
    def lost(self) -> asyncio.Future[str]:
        self._now += self._lifetime
        lost = asyncio.Future[str]()
        lost.set_result("lost")
        return lost

    async def close(self) -> None: ...


async def pauses_after(
    lifetimes: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    redis = Redis(lifetimes)
    monkeypatch.setattr(supervisor, "asyncio", redis)
    monkeypatch.setattr(supervisor, "random", SimpleNamespace(uniform=lambda _, most: most))
    with pytest.raises(asyncio.CancelledError):
        await supervisor.supervise(redis)
    return redis.pauses


async def test_the_first_attempt_and_the_first_retry_are_immediate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await pauses_after([3600, 3600], monkeypatch) == [0, 0, 0]


async def test_further_retries_come_after_pauses_that_double_up_to_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = await pauses_after([3600, None, None, None, None, None, None, None], monkeypatch)
    assert pauses == [0, 0, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1]


async def test_connections_lost_as_soon_as_they_are_made_are_made_after_pauses_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = await pauses_after([3600, 0.01, 0.01, 0.01, 60, 60], monkeypatch)
    assert pauses == [0, 0, 0.05, 0.1, 0.2, 0, 0]


class Stubborn:
    """Opens nothing, and swallows the first cancellation, as `asyncio.wait_for` may."""

    def __init__(self) -> None:
        self.opening = asyncio.Event()
        self.attempts = 0

    async def open(self) -> Link:
        self.attempts += 1
        self.opening.set()
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            raise ConnectionError("somebody else's trouble") from None
        raise AssertionError

    def link_up(self, link: Link) -> NoReturn:
        raise AssertionError

    def open_failed(self, error: Exception) -> None:
        assert str(error) == "somebody else's trouble"

    def link_down(self, reason: str) -> NoReturn:
        raise AssertionError


async def test_a_cancellation_that_opening_swallows_ends_it_all_the_same() -> None:
    user = Stubborn()
    task = asyncio.create_task(supervisor.supervise(user))
    await user.opening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), 5)
    assert task.cancelled()
    assert user.attempts == 1


class Clumsy:
    """A user of links that fails whenever it is told of one, as a handler of the log may."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.closed = 0

    async def open(self) -> Any:
        if len(self.told) == 2:
            raise ConnectionError("nobody is there")
        if len(self.told) > 2:
            raise asyncio.CancelledError
        return self

    def link_up(self, link: Link) -> None:
        if not self.told:
            raise ValueError("clumsy")

    def open_failed(self, error: Exception) -> None:
        self.link_down(str(error))

    def link_down(self, reason: str) -> None:
        self.told.append(reason)
        raise ValueError("clumsy")

    @property
    def lost(self) -> asyncio.Future[str]:
        lost = asyncio.Future[str]()
        lost.set_result("lost")
        return lost

    async def close(self) -> None:
        self.closed += 1


async def test_whatever_its_user_raises_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    user = Clumsy()
    with pytest.raises(asyncio.CancelledError):
        await supervisor.supervise(user)
    assert user.told == ["ValueError('clumsy')", "lost", "nobody is there"]
    assert user.closed == 2
    assert len(caplog.records) == 4
