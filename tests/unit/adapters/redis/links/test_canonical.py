"""Redis URLs of every spelling, as redis-py reads them, and those that mean nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from redis.asyncio.connection import ConnectionPool, SSLConnection

from fastapi_rooms import (
    AsyncEmitter,
    ConfigurationError,
    Emitter,
    RedisAdapter,
    RedisClusterAdapter,
    RoomManager,
)
from fastapi_rooms.adapters import canonical_url
from fastapi_rooms.adapters.redis.links.options import _OTHER_NAMES
from tests.unit.strategies import any_text

NODES = {
    "redis": "h:1/0",
    "unix": "/run/redis.sock",
    "redis+sentinel": "h:1,g/m",
    "redis+cluster": "h:1,g",
}


def read(url: str) -> dict[str, Any]:
    """What redis-py makes of a URL."""
    return dict(ConnectionPool.from_url(canonical_url(url)).connection_kwargs)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"host": "localhost"}),
        ("redis://:7", {"host": "localhost", "port": 7}),
        ("redis://h", {"host": "h"}),
        ("redis://[::1]:7/", {"host": "::1", "port": 7}),
        ("redis://h/3", {"db": 3}),
        ("redis://h/3/", {"db": 3}),
        ("redis://h/3?db=4", {"db": 4}),  # as in redis-py and django-redis
        ("redis://u:p%40ss@h", {"username": "u", "password": "p@ss"}),
        ("redis://:p@ss:wo[rd@h", {"host": "h", "password": "p@ss:wo[rd"}),
        ("redis://:100%@h", {"password": "100%"}),
        ("unix:///run/x.sock?db=1&password=p%2540", {"path": "/run/x.sock", "password": "p%40"}),
        ("unix:///run/redis@1.sock", {"path": "/run/redis@1.sock"}),
        ("unix://:p@/run/redis%401.sock", {"path": "/run/redis@1.sock", "password": "p"}),
        ("redis://h?socket_timeout=2.5&socket_keepalive=on", {"socket_keepalive": True}),
        ("redis://h?socket_keepalive=off", {"socket_keepalive": False}),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none"}),
        ("rediss://h?ssl_cert_reqs=None", {"ssl_cert_reqs": "none"}),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", {"ssl_cert_reqs": "required"}),
        ("redis://h?ssl=true&ssl_cert_reqs=optional", {"ssl_cert_reqs": "optional"}),
        ("redis://h?ssl=false", {"host": "h"}),
    ],
)
def test_what_celery_django_and_redis_py_say_is_understood(
    url: str, expected: dict[str, Any]
) -> None:
    found = {"host": "localhost", **read(url)}
    assert {name: found[name] for name in expected} == expected


def test_tls_may_be_asked_for_by_an_option() -> None:
    for url in ("rediss://h", "rediss://h?ssl=1", "redis://h?ssl=True"):
        assert ConnectionPool.from_url(canonical_url(url)).connection_class is SSLConnection
    assert canonical_url("redis+cluster://h?ssl=true").startswith("rediss+cluster://")
    assert canonical_url("redis+sentinel://h/m?ssl=true").startswith("rediss+sentinel://")


def test_hello_is_not_needed_unless_it_is_asked_for() -> None:
    assert int(read("redis://h")["protocol"]) == 2
    assert int(read("redis://h?protocol=3")["protocol"]) == 3


@given(any_text, any_text)
def test_a_login_that_is_encoded_comes_out_as_it_was(user: str, password: str) -> None:
    url = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@h"
    found = read(url)
    assert found["host"] == "h"
    assert found.get("username", "") == user
    assert found.get("password", "") == password
    assert canonical_url(canonical_url(url)) == canonical_url(url)


@pytest.mark.parametrize("nodes", NODES.items(), ids=NODES)
@pytest.mark.parametrize("password", ["p@ss", "pa:ss", "p,ss", "pa[ss", "pa%ss", "a b", "@", "p+s"])
def test_a_password_that_is_not_encoded_is_itself_or_refused(
    nodes: tuple[str, str], password: str
) -> None:
    scheme, place = nodes
    url = f"{scheme}://user:{password}@{place}"
    if "," in place and "@" in password:
        with pytest.raises(ConfigurationError, match="Percent-encode"):
            canonical_url(url)
    else:
        own = canonical_url(url)
        assert own.startswith(f"{scheme}://user:{quote(password, safe='')}@{place}?")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://h:secret", "port"),
        ("redis://h:0", "port"),
        ("redis://h,secret", "one host"),
        ("redis://se cret", "host"),
        ("redis://h/secret", "number of a database"),
        ("redis://h?db=secret", "db .* whole number"),
        ("redis://h?db=-1", "db .* whole number"),
        ("redis://h?socket_timeout=0", "socket_timeout .* above zero"),
        ("redis://h?socket_timeout=inf", "socket_timeout .* above zero"),
        ("redis://h?socket_keepalive=secret", "socket_keepalive .* true or false"),
        ("redis://h?ssl=secret", "ssl .* true or false"),
        ("redis://h?protocol=secret", "protocol .* 2 or 3"),
        ("rediss://h?ssl_cert_reqs=secret", "ssl_cert_reqs .* none, optional or required"),
        ("rediss://h?ssl=false", "begins with rediss"),
        ("redis://h?ssl_cert_reqs=none", "begins with rediss"),
        ("unix:///run/x.sock?ssl=true", "rediss"),
        ("unix://secret/x.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("rediss+sentinel://h/m?sentinel_ssl_ca_certs=secret", "sentinel_ssl=true"),
        ("redis+cluster://:secret@h,:secret@g", "once, before the first host"),
        ("redis+cluster://h?db=1", "no databases"),
        ("redis://h?secret=1", "does not know"),
        ("redis://h?host=secret", "does not know"),
        ("redis://h?socket_timout=1", "called socket_timeout"),
        ("rediss://h?ssl_certreqs=none", "called ssl_cert_reqs"),
        *[(f"redis://h?{name}=1", f"called {ours}") for name, ours in _OTHER_NAMES.items()],
    ],
)
def test_what_means_nothing_is_refused_and_not_quoted(url: str, told: str) -> None:
    for take in (RoomManager, Emitter, AsyncEmitter):
        with pytest.raises(ConfigurationError, match=told) as raised:
            take(url)
        assert "secret" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("take", "url"),
    [
        (RedisAdapter, "redis+cluster://:secret@h"),
        (RedisAdapter, "memory://"),
        (RedisClusterAdapter, "redis://:secret@h"),
        (Emitter, "memory://"),
        (AsyncEmitter, "memory://"),
    ],
)
def test_the_url_of_another_carrier_is_told_whose_it_is(take: Any, url: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"leads to .*\. {take.__name__} takes") as raised:
        take(url)
    assert "secret" not in str(raised.value)
