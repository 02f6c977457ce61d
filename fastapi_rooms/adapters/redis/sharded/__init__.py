"""Redis Cluster between the workers, by sharded pub/sub: every channel lives on one of its masters.

adapter    what a manager sees
fleet      the connections: two for each master
survey     looks at the topology, now and when something is amiss
homes      at which node each channel is subscribed: pure
lanes      publishing, in order while slots move
master     one node's connections
access     how the nodes are reached
"""

from __future__ import annotations

from fastapi_rooms.adapters.redis.sharded.adapter import RedisClusterAdapter

__all__ = ["RedisClusterAdapter"]
