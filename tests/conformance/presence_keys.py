"""The keys in which Redis, or a cluster, has who is present: looked up, and deleted."""

from __future__ import annotations

from fastapi_rooms import RedisAdapter, RedisClusterAdapter
from fastapi_rooms.adapters.presence import RoomKey
from fastapi_rooms.adapters.redis.presence.presence import RoomsPresence
from fastapi_rooms.testing import RedisCluster, RedisServer
from fastapi_rooms.testing.suite.people import Worker
from tests.conformance.backplanes import masters_of

Servers = RedisServer | RedisCluster


def delete(servers: Servers, *keys: bytes) -> int:
    """Delete keys, wherever they are; returns how many were there."""
    nodes = masters_of(servers)
    return sum(int(str(n.admin.delete(key))) for key in keys for n in nodes if has(n, key))


def has(node: RedisServer, key: bytes) -> bool:
    return key in node.admin.keys("*")


def node_with(servers: Servers, key: bytes) -> RedisServer:
    return next(node for node in masters_of(servers) if has(node, key))


def own_rooms(worker: Worker, room: RoomKey) -> bytes:
    """The key of the set by which a room of a worker is found."""
    return presence_of(worker)._index(worker.lease, room.name)


def presence_of(worker: Worker) -> RoomsPresence:
    adapter = worker.station.adapter
    assert isinstance(adapter, RedisAdapter | RedisClusterAdapter)
    return adapter._running_presence()
