from __future__ import annotations

import pytest

from fastapi_rooms.core.reconnection import Reconnection, is_final, longest_delay


def reconnection(*, can_refresh: bool = False, random: float = 1.0) -> Reconnection:
    return Reconnection(can_refresh=can_refresh, random=lambda: random)


@pytest.mark.parametrize(
    "code", [1000, 1003, 1007, 1008, 1009, 1010, 3000, 4000, 4003, 4401, 4404, 4409, 4600, 4999]
)
def test_these_codes_end_it_for_good(code: int) -> None:
    assert is_final(code)
    assert reconnection().lost(code) is None


@pytest.mark.parametrize(
    "code", [1001, 1002, 1005, 1006, 1011, 1012, 1013, 4408, 4425, 4429, 4500, 4503, 4599]
)
def test_after_these_codes_a_client_comes_back(code: int) -> None:
    assert not is_final(code)
    assert reconnection().lost(code) is not None


def test_the_longest_delay_is_a_second_for_five_attempts_and_grows_to_a_limit() -> None:
    delays = [longest_delay(attempts) for attempts in range(14)]
    assert delays[:5] == [1.0] * 5
    assert delays[5:12] == [1.5**n for n in range(1, 8)]
    assert delays[12:] == [20.0, 20.0]
    assert longest_delay(10**9) == 20.0


def test_a_delay_is_anything_between_nothing_and_the_longest() -> None:
    for share in (0.0, 0.25, 1.0):
        client = reconnection(random=share)
        assert [client.lost(1006) for _ in range(6)] == [share] * 5 + [1.5 * share]


def test_a_connection_that_lasted_starts_the_delays_anew() -> None:
    client = reconnection()
    for _ in range(30):
        client.lost(1006)
    assert client.lost(1006) == 20.0
    client.lasted()
    assert client.lost(1006) == 1.0


@pytest.mark.parametrize(("window", "delay"), [(None, 5.0), (0.0, 1.0), (0.5, 1.0), (30.0, 30.0)])
def test_after_1012_clients_spread_over_the_server_s_window(
    window: float | None, delay: float
) -> None:
    assert reconnection().lost(1012, window) == delay
    assert reconnection().lost(1013, window) == 1.0


def test_after_silence_it_connects_at_once_and_that_is_no_failed_attempt() -> None:
    client = reconnection()
    assert [client.lost(1006, at_once=True) for _ in range(9)] == [0.0] * 9
    assert client.lost(1006) == 1.0


def test_a_new_token_is_asked_for_once() -> None:
    client = reconnection(can_refresh=True)
    asked = [client.refresh]
    for code in (4401, 1006):  # the attempt with the new token may fail for another reason
        assert client.lost(code) is not None
        asked.append(client.refresh)
    assert asked == [False, True, True]
    assert client.lost(4401) is None


def test_a_token_that_worked_for_a_while_may_expire_again() -> None:
    client = reconnection(can_refresh=True)
    client.lost(4401)
    client.lasted()
    assert not client.refresh
    assert client.lost(4401) is not None
