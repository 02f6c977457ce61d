"""Which close codes and reasons a server may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core import close_codes
from fastapi_rooms.core.close_codes import (
    MAX_REASON_BYTES,
    check_close,
    check_close_code,
    shorten_reason,
)
from fastapi_rooms.errors import ConfigurationError, UsageError

NEVER_SENT = {"NO_STATUS", "ABNORMAL_CLOSURE"}
NAMED = {
    name: value
    for name, value in vars(close_codes).items()
    if name.isupper() and isinstance(value, int) and name != "MAX_REASON_BYTES"
}


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
def test_a_code_that_a_server_may_send_is_given_back(code: int) -> None:
    assert check_close_code(code) == code
    assert check_close(code, "") == (code, "")


@pytest.mark.parametrize(
    "code", [0, -1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, True, 1000.0, "1000", None]
)
def test_a_code_that_no_server_may_send_is_refused(code: object) -> None:
    for check in (check_close_code, lambda code: check_close(code, "")):
        with pytest.raises(ConfigurationError, match="close code") as raised:
            check(code)
        assert repr(code) in str(raised.value)


def test_the_names_are_those_of_the_standard() -> None:
    assert NAMED == {
        "NORMAL_CLOSURE": 1000,
        "PROTOCOL_ERROR": 1002,
        "UNSUPPORTED_DATA": 1003,
        "NO_STATUS": 1005,
        "ABNORMAL_CLOSURE": 1006,
        "INVALID_DATA": 1007,
        "POLICY_VIOLATION": 1008,
        "MESSAGE_TOO_BIG": 1009,
        "INTERNAL_ERROR": 1011,
        "SERVICE_RESTART": 1012,
        "TRY_AGAIN_LATER": 1013,
    }


@pytest.mark.parametrize(("name", "code"), NAMED.items())
def test_a_named_code_can_be_sent_unless_it_only_says_what_was_not(name: str, code: int) -> None:
    if name in NEVER_SENT:
        with pytest.raises(ConfigurationError):
            check_close_code(code)
    else:
        assert check_close_code(code) == code


@pytest.mark.parametrize("reason", ["x" * 124, "\ud800", None, b"bytes"], ids=ascii)
def test_a_close_reason_that_cannot_be_sent_is_refused(reason: object) -> None:
    assert check_close(1000, "ä" * 61) == (1000, "ä" * 61)
    with pytest.raises(UsageError, match="close reason"):
        check_close(1000, reason)


def test_a_reason_may_be_as_long_as_a_close_frame_has_room_for() -> None:
    assert MAX_REASON_BYTES == 123
    for reason in ("", "x" * 123, "ä" * 61 + "x"):
        assert check_close(1000, reason) == (1000, reason)
    with pytest.raises(UsageError, match="123 UTF-8 bytes"):
        check_close(1000, "ä" * 62)


@pytest.mark.parametrize(
    ("reason", "shortened"),
    [
        ("", ""),
        ("short", "short"),
        ("x" * 200, "x" * 123),
        ("ä" * 100, "ä" * 61),
        ("x" * 122 + "🎉", "x" * 122),
        ("lone \ud800 surrogate", "lone ? surrogate"),
    ],
    ids=ascii,
)
def test_a_reason_is_shortened_to_whole_characters(reason: str, shortened: str) -> None:
    assert shorten_reason(reason) == shortened


@given(st.text(st.characters()))
def test_every_text_can_be_sent_once_it_is_shortened(text: str) -> None:
    assert check_close(1000, shorten_reason(text)) == (1000, shorten_reason(text))
