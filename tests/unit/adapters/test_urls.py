"""What is taken for a URL, and where its login ends."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from pydantic import AnyUrl, RedisDsn, SecretStr, TypeAdapter
from starlette.datastructures import URL

from fastapi_rooms import ConfigurationError
from fastapi_rooms.adapters.urls import address_of, split, text_of

REDIS = "redis://:secret@host:6379/0"


class Places(str, Enum):  # noqa: UP042 -- as FastAPI's tutorial has them
    REDIS = REDIS


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(REDIS, id="plain"),
        pytest.param(f"  {REDIS}\n", id="blanks"),
        pytest.param(REDIS.replace("redis:", "Redis:"), id="case"),
        REDIS.encode(),
        Places.REDIS,
        TypeAdapter(RedisDsn).validate_python(REDIS),
        AnyUrl(REDIS),
        SecretStr(REDIS),
        URL(REDIS),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_url_in_any_form_is_plain_text(given: Any) -> None:
    text = text_of(given)
    assert text == REDIS
    assert type(text) is str


@pytest.mark.parametrize("given", [None, 3, object(), ["redis://host"], REDIS.split])
def test_anything_else_is_none(given: Any) -> None:
    assert text_of(given) is None


def test_bytes_that_are_no_text_are_refused_in_words() -> None:
    with pytest.raises(ConfigurationError, match="UTF-8"):
        text_of(b"redis://\xff")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("redis://", ("redis", "", "", "", "")),
        ("redis://u:p@ss:word@h:1/0?db=1", ("redis", "u:p@ss:word", "h:1", "/0", "db=1")),
        ("redis://h,[::1]:2", ("redis", "", "h,[::1]:2", "", "")),
        ("unix:///run/redis@1.sock", ("unix", "", "", "/run/redis@1.sock", "")),
        ("unix://:p@/run/redis.sock", ("unix", ":p", "", "/run/redis.sock", "")),
    ],
)
def test_the_login_ends_at_the_last_at(url: str, parts: tuple[str, ...]) -> None:
    assert split(url) == parts


@pytest.mark.parametrize("special", "/?#")
@pytest.mark.parametrize("before", ["", "12", "secret", "p@ss", "@"])
@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+cluster", "redis+sentinel"])
def test_a_password_that_would_end_the_login_early_is_refused(
    scheme: str, before: str, special: str
) -> None:
    with pytest.raises(ConfigurationError, match="Percent-encode") as raised:
        split(f"{scheme}://user:{before}{special}secret@host:6379/0")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h", ("h", 9)),
        ("h:1", ("h", 1)),
        ("[::1]", ("::1", 9)),
        ("[fe80::1%eth0]:7", ("fe80::1%eth0", 7)),
        ("", None),
        (":1", None),
        ("h:", None),
        ("h:0", None),
        ("h:65536", None),
        ("h:x", None),
        ("h h", None),
        ("h,g", None),
        ("::1", None),
        ("[::1", None),
        ("a[b]", None),
        ("u@h", None),
    ],
)
def test_an_address_is_a_host_and_a_port_or_none(
    text: str, address: tuple[str, int] | None
) -> None:
    assert address_of(text, 9) == address
