"""What Redis URLs say, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from fastapi_rooms import ConfigurationError, RedisAdapter, RoomManager
from fastapi_rooms.adapters.redis.links.urls import parse_sentinel_url, pool_of


def test_a_sentinel_url_names_sentinels_and_the_master() -> None:
    url = parse_sentinel_url("redis+sentinel://one:1,two,[::1]:3/my%20master")
    assert url.sentinels == [("one", 1), ("two", 26379), ("::1", 3)]
    assert url.master == "my master"


def test_the_login_is_redis_and_the_sentinels_have_their_own() -> None:
    url = parse_sentinel_url(
        "redis+sentinel://ann:p%40ss%2C@h/m?sentinel_username=bob&sentinel_password=s%26t"
        "&db=3&socket_timeout=2.5&sentinel_socket_timeout=1"
    )
    options = {k: v for k, v in url.options.items() if k != "retry"}
    assert int(options.pop("protocol")) == 2
    assert options == {"username": "ann", "password": "p@ss,", "db": 3, "socket_timeout": 2.5}
    options = {k: v for k, v in url.sentinel_options.items() if k != "retry"}
    assert int(options.pop("protocol")) == 2
    assert options == {"username": "bob", "password": "s&t", "socket_timeout": 1.0}


def speaks_tls(url: str) -> list[bool]:
    """To the master, and to the first sentinel."""
    pool = pool_of(url)
    assert isinstance(pool, SentinelConnectionPool)
    pools = [pool, *(client.connection_pool for client in pool.sentinel_manager.sentinels)]
    return [isinstance(pool.make_connection(), SSLConnection) for pool in pools]


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        ("redis+sentinel://h/m", [False, False]),
        ("rediss+sentinel://h/m?ssl_ca_certs=ca.pem", [True, False]),
        ("rediss+sentinel://h/m?sentinel_ssl=true", [True, True]),
        ("redis+sentinel://h/m?sentinel_ssl=true&sentinel_ssl_ca_certs=ca.pem", [False, True]),
        ("redis+sentinel://h/m?sentinel_ssl=false", [False, False]),
    ],
)
def test_tls_is_asked_for_apart(url: str, tls: list[bool]) -> None:
    assert speaks_tls(url) == tls


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis+sentinel://h:26379", "name of the master"),
        ("redis+sentinel://h:26379/", "name of the master"),
        ("redis+sentinel://h:26379/m/0", "db="),
        ("redis+sentinel://user:secret@h/m#f", "Percent-encode"),
        ("redis+sentinel:///m", "host:port"),
        ("redis+sentinel://h:0/m", "host:port"),
        ("redis+sentinel://h:65536/m", "host:port"),
        ("redis+sentinel://user:secret@h:port/m", "host:port"),
        ("redis+sentinel://user:secret@h,,g/m", "host:port"),
        ("redis+sentinel://[::1/m", "host:port"),
        ("redis+sentinel://user:secret/x@h/m", "Percent-encode"),
        ("redis+sentinel://user:secret@h/m?bogus=secret", "does not know"),
        ("redis+sentinel://h/m?sentinel_bogus=secret", "does not know"),
        ("redis+sentinel://h/m?db=secret", "db"),
        ("redis+sentinel://h/m?sentinel_socket_timeout=secret", "socket_timeout"),
        ("redis+sentinel://h/m?protocol=9", "protocol"),
        ("redis://user:secret@h:port", "port"),
        ("redis://user:secret/x@h", "Percent-encode"),
        ("redis://user:secret@h?secret=1", "does not know"),
    ],
)
def test_what_is_wrong_is_told_without_a_secret(url: str, told: str) -> None:
    for make in (RedisAdapter, RoomManager):
        with pytest.raises(ConfigurationError) as raised:
            make(url)
        assert told in str(raised.value)
        assert "secret" not in str(raised.value)
        assert raised.value.__cause__ is None


def test_a_client_of_a_replica_is_refused() -> None:
    sentinel = Sentinel([("h", 26379)])  # type: ignore[no-untyped-call]
    RedisAdapter(sentinel.master_for("m"))
    with pytest.raises(ConfigurationError, match="master_for"):
        RedisAdapter(sentinel.slave_for("m"))


def test_a_client_lends_its_own_pool() -> None:
    client = Redis(host="h")
    assert pool_of(client) is client.connection_pool


@pytest.mark.parametrize("options", [{"protocol": 9}, {"ssl": True, "ssl_cert_reqs": "bogus"}])
def test_a_client_that_cannot_connect_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="with these options"):
        pool_of(Redis(**options))


@pytest.mark.parametrize(
    ("url", "refuses"),
    [
        ("redis://user:secret@h", "ConnectionPool.from_url"),
        ("redis+sentinel://user:secret@h/m", "parse_url"),
        ("redis+sentinel://user:secret@h/m", "Sentinel"),
    ],
)
def test_what_redis_py_refuses_for_reasons_of_its_own_is_a_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch, url: str, refuses: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("as a later version may")

    monkeypatch.setattr(f"fastapi_rooms.adapters.redis.links.urls.{refuses}", refuse)
    with pytest.raises(ConfigurationError, match="cannot be used") as raised:
        pool_of(url)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__
