"""How a URL or a client says where a cluster is."""

from __future__ import annotations

import pytest
import redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import SSLConnection

from fastapi_rooms import ConfigurationError, RedisClusterAdapter, RoomManager
from fastapi_rooms.adapters.redis.sharded.access import access_of
from fastapi_rooms.adapters.redis.sharded.slots import Node


@pytest.mark.parametrize(
    ("url", "seeds"),
    [
        ("redis+cluster://one", [Node("one", 6379)]),
        ("redis+cluster://one:7000,two:7001", [Node("one", 7000), Node("two", 7001)]),
        ("redis+cluster://[::1]:7000,10.0.0.1", [Node("::1", 7000), Node("10.0.0.1", 6379)]),
        ("redis+cluster://one:7000/", [Node("one", 7000)]),
        ("redis+cluster://one:7000/0", [Node("one", 7000)]),
        ("redis+cluster://u:p@one:7000?protocol=2", [Node("one", 7000)]),
    ],
)
def test_the_nodes_of_a_url_are_those_it_names(url: str, seeds: list[Node]) -> None:
    assert list(access_of(url).seeds) == seeds


def test_login_and_options_go_to_every_node() -> None:
    access = access_of("redis+cluster://ann:p%40ss@one:7000,two:7001?protocol=3&client_name=me")
    for node in (*access.seeds, Node("found", 7002)):
        options = access.pool(node).connection_kwargs
        assert (options["host"], options["port"]) == node
        assert (options["username"], options["password"]) == ("ann", "p@ss")
        assert (int(options["protocol"]), options["client_name"]) == (3, "me")


def test_tls_is_a_scheme_of_its_own() -> None:
    assert access_of("rediss+cluster://one:7000").connection_class is SSLConnection
    assert access_of("redis+cluster://one:7000").connection_class is not SSLConnection


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://one:7000,",
        "redis+cluster://one:0",
        "redis+cluster://one:70000",
        "redis+cluster://one:secret",
        "redis+cluster://user:secret/pass@one:7000",
        "redis+cluster://one:7000/3",
        "redis+cluster://one:7000?db=3",
        "redis+cluster://one:7000?secret=1",
        "redis+cluster://one:7000?socket_timeout=secret",
        "redis+cluster://[::1:7000",
        "redis://one:7000",
    ],
)
def test_a_url_that_cannot_be_used_says_so_and_tells_no_secret(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RedisClusterAdapter(url)
    if "?secret" not in url:  # the name of an option is none
        assert "secret" not in str(raised.value)


def test_a_client_of_ones_own_lends_its_settings() -> None:
    def remap(address: tuple[str, int]) -> tuple[str, int]:
        return "outside", address[1]

    nodes = [ClusterNode("127.0.0.1", 7000), ClusterNode("127.0.0.2", 7001)]
    client = RedisCluster(startup_nodes=nodes, password="secret", address_remap=remap)
    access = access_of(client)
    assert list(access.seeds) == [Node("127.0.0.1", 7000), Node("127.0.0.2", 7001)]
    seed, found = (access.pool(node) for node in (access.seeds[0], Node("inside", 7002)))
    assert seed.connection_kwargs["host"] == "127.0.0.1"
    assert found.connection_kwargs["host"] == "outside"
    assert found.connection_kwargs["port"] == 7002
    assert found.connection_kwargs["password"] == "secret"


def test_a_client_that_would_block_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="synchronous"):
        RedisClusterAdapter(redis.Redis())  # type: ignore[arg-type]


def test_a_manager_takes_the_url() -> None:
    rooms = RoomManager("redis+cluster://one:7000", prefix="shop")
    adapter = rooms._runtime.adapter
    assert isinstance(adapter, RedisClusterAdapter)
    assert adapter.prefix == "shop"


@pytest.mark.parametrize("name", ["publish_timeout", "refresh_interval", "max_buffered_bytes"])
def test_a_setting_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        RedisClusterAdapter("redis+cluster://one", **{name: 0})  # type: ignore[arg-type]


def test_a_client_that_cannot_connect_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="with these options"):
        access_of(RedisCluster(host="h", protocol=9))


def test_what_redis_py_refuses_for_reasons_of_its_own_is_a_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: str) -> None:
        raise ValueError("as a later version may")

    monkeypatch.setattr("fastapi_rooms.adapters.redis.sharded.access.parse_url", refuse)
    with pytest.raises(ConfigurationError, match="cannot be used") as raised:
        access_of("redis+cluster://user:secret@one:7000")
    assert "secret" not in str(raised.value)
