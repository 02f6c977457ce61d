"""Masters that die with somebody in their rooms: nobody leaves who is there, and all is repaired.

The replicas that take their places lack what was written last, or a master comes back with nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

import pytest

from fastapi_rooms import RedisAdapter, RedisClusterAdapter
from fastapi_rooms.adapters.presence import RoomKey
from fastapi_rooms.testing import (
    RedisCluster,
    RedisClusterNode,
    RedisServer,
    SentinelServers,
    eventually,
)
from fastapi_rooms.testing.suite.backplane import Station
from fastapi_rooms.testing.suite.people import AT_ONCE, Worker
from tests.conformance.backplanes import emptied, slots_are_at_rest
from tests.faults.cluster_scene import channel
from tests.faults.presence.scene import HEARTBEAT, ROOM, Member, Workers

LEASES = "rooms:{workers}"


@pytest.fixture(autouse=True)
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    slots_are_at_rest(monkeypatch)


@pytest.fixture
async def sentinels(sentinel_servers: SentinelServers) -> AsyncIterator[SentinelServers]:
    with emptied(sentinel_servers):
        yield sentinel_servers
        await asyncio.to_thread(sentinel_servers.restore)


@pytest.fixture(scope="module")
def replicated() -> Iterator[RedisCluster]:
    with RedisCluster(replicas=1, node_timeout=1000) as cluster:
        yield cluster


@pytest.fixture
async def cluster(replicated: RedisCluster) -> AsyncIterator[RedisCluster]:
    """Three masters with a replica each, empty, and whole again after every test."""
    for node in replicated.nodes:
        if node.admin.info("replication")["role"] == "master":
            node.admin.flushall()
    yield replicated
    await asyncio.to_thread(replicated.restart)


@asynccontextmanager
async def three_workers(url: str) -> AsyncIterator[Workers]:
    async with Workers([url] * 3, grace=0, join_timeout=20) as workers:
        yield workers


class Crowd:
    """Users who come and go before and during a fault, and what is told of them in the room."""

    def __init__(self, workers: Workers, room: str = ROOM) -> None:
        self.workers = workers
        self.room = room
        self.tabs: dict[str, Member] = {}
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for worker, user in enumerate(("ann", "bob", "cem")):
            await self.comes(worker, user)
        await self.comes(1, "dan")
        await eventually(lambda: len(self.told) == 4)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def comes(self, worker: int, user: str) -> Member:
        tab = await self.stack.enter_async_context(self.workers.member(worker, user, self.room))
        self.tabs[user] = tab
        return tab

    async def come_and_go(self) -> None:
        """One comes, one goes, and one is on another worker."""
        await self.tabs.pop("dan").close()
        await self.comes(0, "eve")
        before = self.tabs["bob"]
        await self.comes(2, "bob")
        await before.close()
        await eventually(lambda: self.told[4:] == ["leave dan", "join eve"])

    @property
    def told(self) -> list[str]:
        """On the worker that has members of the room all the time."""
        return self.workers.told[0]

    async def is_as_it_is(self) -> bool:
        """Whether each worker finds who is there, by which sockets, and where each of them is."""
        found = [await self.found_by(worker) == self.there for worker in range(3)]
        asked = self.workers.presences[0]
        return all(found) and all([await asked.rooms(user) == {self.room} for user in self.there])

    @property
    def there(self) -> Mapping[str, tuple[str, ...]]:
        sockets = {user: tab.socket for user, tab in self.tabs.items()}
        return {user: (socket.sid,) for user, socket in sockets.items() if socket is not None}

    async def found_by(self, worker: int) -> Mapping[str, tuple[str, ...]]:
        present = await self.workers.presences[worker].users(self.room)
        return {user.user: user.sids for user in present.users}

    async def is_repaired(self, make: Callable[[], RedisAdapter | RedisClusterAdapter]) -> None:
        """Wait until it is, and until whoever is dead has been reaped: a ghost that comes."""
        try:
            await eventually(self.is_as_it_is, 30)
        except AssertionError:
            assert [await self.found_by(worker) for worker in range(3)] == [self.there] * 3
            raise
        station = Station(make())
        await station.start()
        ghost = Worker(station)
        await ghost.beat(0.001)
        key = RoomKey(f"/#{self.room}".encode(), channel_of(station, self.room))
        await ghost.enter(key, ghost.new_socket("ghost"), terms=AT_ONCE)
        await station.adapter.close()
        await eventually(lambda: self.told[-1] == "leave ghost", 30)
        assert await self.is_as_it_is()


def channel_of(station: Station, room: str) -> bytes:
    is_sharded = isinstance(station.adapter, RedisClusterAdapter)
    return channel(room).encode() if is_sharded else f"rooms#/#{room}#".encode()


def is_in_step(master: RedisServer, replica: RedisServer) -> bool:
    there = replica.admin.info("replication")["slave_repl_offset"]
    return bool(there == master.admin.info("replication")["master_repl_offset"])


@asynccontextmanager
async def losing_writes(master: RedisServer, replica: RedisServer) -> AsyncIterator[None]:
    """What is written meanwhile the replica never has; then the master is dead."""
    await eventually(lambda: is_in_step(master, replica))
    replica.freeze()
    master.command("CLIENT", "KILL", "TYPE", "replica")
    yield
    master.kill()
    replica.thaw()


async def test_a_failover_by_sentinels_that_lost_writes_makes_nobody_leave(
    sentinels: SentinelServers,
) -> None:
    async with three_workers(sentinels.url) as workers, Crowd(workers) as crowd:
        master = sentinels.master
        async with losing_writes(master, sentinels.replica):
            await crowd.come_and_go()
        await asyncio.to_thread(sentinels.elected, instead_of=master)
        await crowd.is_repaired(lambda: RedisAdapter(sentinels.url))
        assert not {each.split()[1] for each in crowd.told[6:]} - {"dan", "ghost"}


async def test_a_replica_in_a_cluster_that_lacks_the_last_writes_makes_nobody_leave(
    cluster: RedisCluster,
) -> None:
    async with three_workers(cluster.url) as workers, Crowd(workers) as crowd:
        master = cluster.master_of(channel(ROOM))
        async with losing_writes(master, cluster.replica_of(master)):
            await crowd.come_and_go()
        await eventually(lambda: cluster.taken_over(master, channel(ROOM)), 20)
        await crowd.is_repaired(lambda: RedisClusterAdapter(cluster.url))
        assert not {each.split()[1] for each in crowd.told[6:]} - {"dan", "ghost"}


@pytest.mark.parametrize("which", ["rooms", "leases"])
async def test_a_master_without_a_replica_that_comes_back_empty_makes_nobody_leave(
    cluster: RedisCluster, which: str
) -> None:
    """It is away for longer than leases last, and has the room, or the leases, but not both."""
    leases = cluster.master_of(LEASES)
    room = room_away_from(cluster, leases)
    master = leases if which == "leases" else cluster.master_of(channel(room))
    replica = cluster.replica_of(master)
    async with three_workers(cluster.url) as workers, Crowd(workers, room) as crowd:
        replica.command("CONFIG", "SET", "cluster-replica-no-failover", "yes")
        master.kill()
        await asyncio.sleep(5 * HEARTBEAT)
        await asyncio.to_thread(master.start)
        replica.command("CONFIG", "SET", "cluster-replica-no-failover", "no")
        await crowd.is_repaired(lambda: RedisClusterAdapter(cluster.url))
        assert crowd.told[4:] == ["join ghost", "leave ghost"]


def room_away_from(cluster: RedisCluster, node: RedisClusterNode) -> str:
    rooms = (f"chat-{number}" for number in range(100))
    return next(room for room in rooms if cluster.master_of(channel(room)) is not node)
