"""The conformance suite, bound to a Redis that is found by its sentinels."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio.sentinel import Sentinel

from fastapi_rooms import RedisAdapter, RoomManager
from fastapi_rooms.adapters.redis.links.sentinels import Sentinels
from fastapi_rooms.testing import Certificates, Cluster, Member, SentinelServers, eventually
from fastapi_rooms.testing.suite import AdapterSuite, Backplane, ManagerSuite
from tests.conformance.backplanes import ServerBackplane, left_clean

MakeAdapter = Callable[[SentinelServers], RedisAdapter]


def own_client(servers: SentinelServers) -> RedisAdapter:
    sentinels = [(server.host, server.port) for server in servers.sentinels]
    sentinel = Sentinel(sentinels, decode_responses=True)  # type: ignore[no-untyped-call]
    return RedisAdapter(sentinel.master_for(servers.name))


VARIANTS: dict[str, MakeAdapter] = {
    "url": lambda servers: RedisAdapter(servers.url),
    "own client": own_client,
}


class TestSentinelAdapter(AdapterSuite):
    """Adapters that ask sentinels, or are given a client which does."""

    @pytest.fixture(params=VARIANTS)
    async def backplane(
        self, request: pytest.FixtureRequest, sentinel_servers: SentinelServers
    ) -> AsyncIterator[Backplane]:
        yield ServerBackplane(sentinel_servers, VARIANTS[request.param])
        await left_clean(sentinel_servers)


class TestSentinelManager(ManagerSuite):
    """Managers on such adapters."""

    @pytest.fixture
    async def backplane(self, sentinel_servers: SentinelServers) -> AsyncIterator[Backplane]:
        yield ServerBackplane(sentinel_servers, VARIANTS["url"])
        await left_clean(sentinel_servers)


async def test_both_kinds_of_connection_hear_each_other(sentinel_servers: SentinelServers) -> None:
    kinds = iter(VARIANTS.values())
    async with Cluster(2, adapter=lambda: next(kinds)(sentinel_servers)) as cluster:
        members = [await cluster.member(worker, "lobby") for worker in cluster]
        for number, worker in enumerate(cluster):
            await worker.to("lobby").send_text(str(number))
            assert {await member.receive_text() for member in members} == {str(number)}
    await left_clean(sentinel_servers)


async def test_a_master_that_sentinels_spell_differently_is_one_and_the_same(
    sentinel_servers: SentinelServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Sentinels.master
    spelled: list[str] = []

    async def master(sentinels: Sentinels, timeout: float) -> tuple[str, int]:
        host, port = await ask(sentinels, timeout)
        spelled.append("localhost" if spelled and spelled[-1] == host else host)
        return spelled[-1], port

    def connections() -> set[str]:
        return {client["id"] for client in sentinel_servers.master.connections()}

    async with RoomManager(sentinel_servers.url) as rooms, Member(rooms, "lobby"):
        monkeypatch.setattr(Sentinels, "master", master)
        before = connections()
        for _ in range(3):  # each time that a sentinel is listened to again, the master is asked
            asked = len(spelled)
            sentinel_servers.sentinels[0].kill_connections()
            await eventually(lambda asked=asked: len(spelled) > asked)  # type: ignore[misc]
        assert {"localhost", "127.0.0.1"} == {*spelled}
        assert connections() == before
        assert rooms.health.reconnects == 0


@pytest.mark.parametrize("kind", VARIANTS)
async def test_a_second_event_loop_finds_no_trace_of_the_first(
    sentinel_servers: SentinelServers, kind: str
) -> None:
    rooms = RoomManager(VARIANTS[kind](sentinel_servers))
    heard = []

    async def once() -> None:
        async with rooms, Member(rooms, "lobby") as here, RoomManager(sentinel_servers.url) as far:
            await far.to("lobby").send_text("hello")
            heard.append(await here.receive())

    for _ in range(3):
        thread = threading.Thread(target=lambda: asyncio.run(once()))
        thread.start()
        await asyncio.to_thread(thread.join)
    assert heard == ["hello"] * 3
    await left_clean(sentinel_servers)


async def test_a_password_for_each_and_tls_to_redis(certificates: Certificates) -> None:
    async with SentinelServers(
        password="p@ss:/?#word", sentinel_password="an?other&", certificates=certificates
    ) as servers:
        near, far = RoomManager(servers.url), RoomManager(servers.url)
        async with near, far, Member(near, "lobby") as here:
            assert servers.master.connections("pubsub")
            await far.to("lobby").send_text("hello")
            assert await here.receive() == "hello"
        await left_clean(servers)
