"""The rules of an edge's handshakes that need no network."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms import ConfigurationError, Gateway


def gateway(**options: Any) -> Gateway:
    return Gateway(routes={"/": "chat"}, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"headers": "cookie"}, "several names"),
        ({"headers": ["set cookie"]}, "no name of a header"),
        ({"headers": [""]}, "no name of a header"),
        ({"headers": [b"cookie"]}, "no name of a header"),
        ({"max_clients": 0}, "max_clients"),
        ({"max_message_bytes": 1.5}, "max_message_bytes"),
        ({"origins": "https://chat.example.com"}, "AllowedOrigins"),
    ],
)
def test_limits_that_cannot_be_are_refused_and_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        gateway(**options)


def test_without_a_list_all_headers_travel_in_their_order() -> None:
    headers = [(b"x-b", b"1"), (b"cookie", b"\xff"), (b"x-b", b"2")]
    assert gateway().admission.told(headers) == headers


def test_an_empty_list_leaves_what_the_handshake_needs() -> None:
    headers = [
        *((b"Host", b"a"), (b"origin", b"b"), (b"cookie", b"c")),
        *((b"Sec-WebSocket-Protocol", b"d"), (b"user-agent", b"e")),
    ]
    told = gateway(headers=[]).admission.told(headers)
    assert [value for _, value in told] == [b"a", b"b", b"d"]
