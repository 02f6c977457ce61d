"""Settings: what no manager, adapter or limit can be told is refused when it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastapi_rooms import ConfigurationError, RedisAdapter, RoomManager
from fastapi_rooms.core.checks import check_count, check_not_negative, check_positive

URL = "redis://nowhere.invalid"
NO_NUMBER = [float("nan"), float("inf"), float("-inf"), True, "1", None]


def adapter(**settings: Any) -> RedisAdapter:
    return RedisAdapter(URL, **settings)


def manager_with_redis(**settings: Any) -> RoomManager:
    return RoomManager(URL, **settings)


SECONDS = [
    (RoomManager, "join_timeout"),
    (RoomManager, "publish_timeout"),
    (manager_with_redis, "publish_timeout"),
    (adapter, "publish_timeout"),
    (adapter, "connect_timeout"),
    (adapter, "probe_interval"),
]
COUNTS = [
    (RoomManager, "max_message_bytes"),
    (RoomManager, "max_rooms_per_socket"),
    (adapter, "max_buffered_bytes"),
]


@pytest.mark.parametrize("value", ["", "Admit", "wait", True, None, ["admit"]], ids=repr)
def test_a_setting_that_is_one_of_some_words_is_no_other(value: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        RoomManager(when_unavailable=value)
    expected = f"when_unavailable must be 'refuse' or 'admit', not {value!r}."
    assert str(refused.value) == expected
    RoomManager(when_unavailable="admit")
    RoomManager(when_unavailable="refuse")


@pytest.mark.parametrize("value", [0, -1, -0.001, *NO_NUMBER], ids=repr)
@pytest.mark.parametrize(("make", "name"), SECONDS)
def test_a_timeout_is_a_finite_number_above_zero(
    make: Callable[..., object], name: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must be seconds above zero, not "):
        make(**{name: value})
    make(**{name: 0.001})
    make(**{name: 1})


@pytest.mark.parametrize("value", [0, -1, 0.0004, 3601, 1e9, *NO_NUMBER], ids=repr)
def test_a_heartbeat_is_one_that_others_can_be_told(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^heartbeat must be "):
        RoomManager(heartbeat=value)
    RoomManager(heartbeat=0.001)
    RoomManager(heartbeat=3600)


@pytest.mark.parametrize("value", [-1, -0.001, *NO_NUMBER], ids=repr)
def test_a_linger_is_zero_or_more(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^linger must be seconds, zero or more, not "):
        RoomManager(linger=value)
    RoomManager(linger=0)


@pytest.mark.parametrize("value", [0, -1, 0.5, 2.0, *NO_NUMBER], ids=repr)
@pytest.mark.parametrize(("make", "name"), COUNTS)
def test_a_limit_is_a_whole_number_above_zero(
    make: Callable[..., object], name: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must be a whole number of \w+ above"):
        make(**{name: value})
    make(**{name: 1})


@pytest.mark.parametrize(
    ("check", "value"),
    [
        pytest.param(lambda value: check_positive("x", value, "meters"), 0, id="positive"),
        pytest.param(lambda value: check_not_negative("x", value, "meters"), -1, id="negative"),
        pytest.param(lambda value: check_count("x", value, "meters"), 0, id="count"),
    ],
)
def test_what_is_said_names_the_setting_the_unit_and_the_value(
    check: Callable[[object], None], value: object
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^x must be .*meters.*, not {value}\.$"):
        check(value)
