"""How fast a client may send: counted, and its socket closed if the endpoint says so."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import ConfigurationError, RateLimit, RateLimited, RoomManager, UsageError
from fastapi_rooms.security import rate_limit as module
from fastapi_rooms.testing import WebSocketClient
from tests.unit.support import all_is_over, app_of


class Clock:
    """The time, in a test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def test_a_burst_passes_at_once_and_then_the_rate(clock: Clock) -> None:
    limit = RateLimit(10, burst=3)
    assert [limit.allow() for _ in range(4)] == [True, True, True, False]
    clock.now += 0.1
    assert [limit.allow() for _ in range(2)] == [True, False]


def test_check_raises_what_closes_the_socket(clock: Clock) -> None:
    limit = RateLimit(10, burst=1)
    limit.check()
    with pytest.raises(RateLimited) as raised:
        limit.check()
    assert raised.value.code == 4429
    clock.now += 0.1
    limit.check()


@pytest.mark.parametrize(("rate", "burst"), [(5, 5), (0.5, 1)])
def test_a_burst_left_out_is_what_comes_in_a_second_and_at_least_one(
    clock: Clock, rate: float, burst: int
) -> None:
    limit = RateLimit(rate)
    assert [limit.allow() for _ in range(burst + 1)] == [True] * burst + [False]


def test_bytes_are_counted_as_they_travel(clock: Clock) -> None:
    for message in ("x" * 10, b"x" * 10, "é" * 5, "\ud800" * 3 + "x"):
        limit = RateLimit(100, byte_rate=10)
        limit.check(message)
        assert limit.allow("")
        assert not limit.allow("x")
        clock.now += 0.1
        assert limit.allow("x")


def test_a_message_that_is_not_allowed_uses_up_nothing(clock: Clock) -> None:
    limit = RateLimit(1, burst=2, byte_rate=10)
    assert not limit.allow("x" * 11)  # longer than any burst of bytes
    limit.check("x" * 10)
    assert not limit.allow("x")
    clock.now += 0.1
    assert limit.allow("x")  # so the refused one took no message's share
    clock.now += 0.5
    assert not limit.allow("x" * 5)
    clock.now += 0.5
    assert limit.allow("x" * 10)  # nor its bytes


def test_bytes_cannot_be_counted_without_the_message() -> None:
    limit = RateLimit(10, byte_rate=100)
    for ask in (limit.allow, limit.check):
        with pytest.raises(UsageError, match="give it the message"):
            ask()
    assert RateLimit(10).allow()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rate": 0}, "RateLimit.rate"),
        ({"rate": -1}, "RateLimit.rate"),
        ({"rate": float("inf")}, "RateLimit.rate"),
        ({"rate": 1, "burst": 0}, "RateLimit.burst"),
        ({"rate": 1, "burst": 0.9}, "RateLimit.burst"),
        ({"rate": 1, "byte_rate": 0}, "RateLimit.byte_rate"),
        ({"rate": 1, "byte_rate": 9, "byte_burst": 0.5}, "RateLimit.byte_burst"),
        ({"rate": 1, "byte_burst": 9}, "requires byte_rate"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        RateLimit(**settings)


async def test_a_client_that_floods_is_closed_and_the_endpoint_ends_quietly(clock: Clock) -> None:
    rooms = RoomManager()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            limit = RateLimit(10, burst=2)
            async for text in socket.iter_text():
                limit.check(text)
                await socket.send_text(text)

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            for number in range(4):
                await client.send_text(str(number))
            assert await client.wait_closed() == 4429
            assert client.close_reason == "too many messages"
            assert client.unread == ["0", "1"]
            await client.wait_ended()
        await all_is_over(rooms)
