"""For tests: of an application with rooms, of what it does in an outage, of an adapter.

| | |
|---|---|
| `Cluster`, `Member` | several workers in one process, and members of their rooms |
| `WebSocketClient` | a client of any ASGI application, without a network |
| `Proxy` | breaks TCP connections in all the ways a network does |
| `RedisServer` | a real Redis: started, killed, frozen, restarted |
| `RedisProxy` | a wire to it, to be cut, held up and slowed down |
| `RedisCluster` | several of them as one cluster, and its slots moved |
| `SentinelServers` | a master, a replica and their sentinels: failed over |
| `RabbitMQServer` | a real RabbitMQ: the same, alarms, and what an operator does |
| `SharedRabbitMQServer` | one for several processes of a test run |
| `RabbitMQProxy` | a wire to it |
| `eventually` | waits for a condition, so that no test has to sleep |

Whoever writes an adapter binds `AdapterSuite` and `ManagerSuite` to it, which are in
[fastapi_rooms.testing.suite][]; [fastapi_rooms.testing.fixtures][] has them and a wire as pytest
fixtures. These two modules, and no other here, need pytest and pytest-asyncio.
"""

from __future__ import annotations

from fastapi_rooms.testing.client import Rejected, WebSocketClient
from fastapi_rooms.testing.cluster import Cluster, Member
from fastapi_rooms.testing.proxy import Direction, Proxy, ProxyConnection
from fastapi_rooms.testing.rabbitmq import RabbitMQNotInstalled, RabbitMQProxy, RabbitMQServer
from fastapi_rooms.testing.rabbitmq_shared import SharedRabbitMQServer
from fastapi_rooms.testing.redis import Certificates, RedisNotInstalled, RedisProxy, RedisServer
from fastapi_rooms.testing.redis_cluster import RedisCluster, RedisClusterNode
from fastapi_rooms.testing.sentinel import SentinelServers
from fastapi_rooms.testing.waiting import eventually

__all__ = [  # noqa: RUF022 -- by module
    # .client
    "Rejected",
    "WebSocketClient",
    # .cluster
    "Cluster",
    "Member",
    # .proxy
    "Direction",
    "Proxy",
    "ProxyConnection",
    # .rabbitmq
    "RabbitMQNotInstalled",
    "RabbitMQProxy",
    "RabbitMQServer",
    # .rabbitmq_shared
    "SharedRabbitMQServer",
    # .redis
    "Certificates",
    "RedisNotInstalled",
    "RedisProxy",
    "RedisServer",
    # .redis_cluster
    "RedisCluster",
    "RedisClusterNode",
    # .sentinel
    "SentinelServers",
    # .waiting
    "eventually",
]
