"""`fastapi-rooms doctor`, beside workers in this process and a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastapi_rooms import RedisAdapter
from fastapi_rooms.cli.doctor import encryption
from fastapi_rooms.testing import Cluster, RedisServer
from tests.integration.terminal import findings


@pytest.fixture
async def workers(own_redis: RedisServer) -> AsyncIterator[Cluster]:
    async with Cluster(2, adapter=lambda: RedisAdapter(own_redis.url)) as cluster:
        yield cluster


@pytest.fixture
def url(own_redis: RedisServer, workers: Cluster) -> str:
    return own_redis.url


async def test_doctor_finds_nothing_wrong_where_nothing_is(url: str) -> None:
    code, found = await findings(url)
    assert code == 0
    assert {finding["grade"] for finding in found.values()} == {"ok"}
    assert list(found) == [
        *("connection", "encryption", "server", "output buffer"),
        *("round trip", "workers", "versions"),
    ]


async def test_doctor_says_why_there_is_no_connection_and_what_to_do(
    own_redis: RedisServer,
) -> None:
    own_redis.command("ACL", "SETUSER", "deaf", "on", ">x", "&rooms#*", "+publish")
    own_redis.command("ACL", "SETUSER", "mute", "on", ">x", "&rooms#*", "+subscribe")
    own_redis.command("ACL", "SETUSER", "other", "on", ">x", "&other#*", "+@all")
    own_redis.command("CONFIG", "SET", "requirepass", "secret")
    for url, advice in (
        ("redis://127.0.0.1:1", "Check that Redis runs"),
        ("redis://auth-permissions-ssl.invalid", "Check that Redis runs"),
        ("redis+sentinel://127.0.0.1:1/ssl", "Check that all servers run"),
        (own_redis.url, "Put the user and the password"),
        (own_redis.url.replace("//", "//:wrong@"), "Put the user and the password"),
        *(
            (own_redis.url.replace("//", f"//{user}:x@"), "ACL SETUSER")
            for user in ("deaf", "mute", "other")
        ),
    ):
        code, found = await findings(url, "--timeout", "1")
        assert (code, list(found)) == (1, ["connection"])
        assert found["connection"]["grade"] == "wrong"
        assert advice in found["connection"]["advice"]
        assert "resetchannels" not in found["connection"]["advice"]


async def test_doctor_says_how_to_trust_a_server(redis_server: RedisServer) -> None:
    code, found = await findings(redis_server.tls_url.partition("?")[0], "--timeout", "1")
    assert (code, list(found)) == (1, ["connection"])
    assert "Trust the server's CA" in found["connection"]["advice"]


async def test_doctor_sends_from_a_replica_to_its_master(own_redis: RedisServer) -> None:
    own_redis.command("REPLICAOF", "127.0.0.1", "1")
    code, found = await findings(own_redis.url, "--timeout", "1")
    assert (code, list(found)) == (1, ["connection"])
    assert "Give the address of the master" in found["connection"]["advice"]


async def test_doctor_notes_a_small_output_buffer_and_that_there_are_no_workers(
    own_redis: RedisServer,
) -> None:
    own_redis.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
    code, found = await findings(own_redis.url)
    assert code == 0
    assert found["output buffer"]["grade"] == found["workers"]["grade"] == "note"
    assert "CONFIG SET" in found["output buffer"]["advice"]
    assert "'rooms'" in found["workers"]["advice"]


async def test_doctor_with_the_rights_of_a_worker_does_not_know_everything(
    own_redis: RedisServer,
) -> None:
    rights = ("+publish", "+subscribe", "+unsubscribe")
    own_redis.command("ACL", "SETUSER", "rooms", "on", ">x", "resetchannels", "&rooms#*", *rights)
    code, found = await findings(own_redis.url.replace("//", "//rooms:x@"))
    assert code == 0
    assert found["output buffer"]["grade"] == "unknown"
    assert found["server"]["grade"] == found["round trip"]["grade"] == "ok"


async def test_doctor_asks_no_single_server_where_there_are_several(
    sentinel_servers: Any,
) -> None:
    code, found = await findings(sentinel_servers.url)
    assert (code, found["server"]["grade"]) == (0, "unknown")
    assert found["round trip"]["grade"] == "ok"


@pytest.mark.parametrize(
    ("url", "grade"),
    [
        ("rediss://redis.example.com", "ok"),
        ("rediss+sentinel://a.example.com/name", "ok"),
        ("rediss://redis.example.com?ssl_cert_reqs=required&ssl_check_hostname=true", "ok"),
        ("rediss://redis.example.com?ssl_cert_reqs=none", "note"),
        ("rediss+cluster://a.example.com?ssl_cert_reqs=CERT_NONE", "note"),
        ("rediss://redis.example.com?ssl_check_hostname=False", "note"),
        ("unix:///run/redis.sock", "ok"),
        ("redis://user:p%40ss@localhost:6379/1", "ok"),
        ("redis://[::1]:6379", "ok"),
        ("redis+cluster://127.0.0.1:7000,127.0.0.1:7001", "ok"),
        ("redis+cluster://127.0.0.1:7000,redis.example.com:7001", "note"),
        ("redis://redis.example.com", "note"),
        ("amqps://rabbitmq.example.com", "ok"),
        ("amqps://rabbitmq.example.com?no_verify_ssl=0", "ok"),
        ("amqps://rabbitmq.example.com?no_verify_ssl=1", "note"),
        ("amqps://rabbitmq.example.com?verify=cert_none", "note"),
    ],
)
def test_doctor_knows_who_could_read_along(url: str, grade: str) -> None:
    assert encryption(url).grade.value == grade
