"""Redis between the workers: its pub/sub, over redis-py's connections. Keeps no key.

    adapter                  what a manager sees: one Redis      RedisAdapter
    │   sharded/adapter      what a manager sees: a cluster      RedisClusterAdapter
    │   └ node_pool          a connection for each master
    │     ├ topology_refresher   which node serves which slots, asked and confirmed
    │     ├ slot_publishers      messages in order while slots move
    │     ├ slot_subscribers     channels subscribed where their slots are
    │     │ └ placement          … and when they may move: pure
    │     ├ dialect              sharded pub/sub's commands, redirections and moves
    │     ├ access               how nodes are reached
    │     └ slots                slots and topologies: pure
    └─┬ pubsub/node          one node: both connections, and the probe of them
      ├ publisher            commands out, replies matched
      │ └ failover_gaps      messages that went to a node which others had left: pure
      └ subscriber           what is wanted against what is confirmed
        ├ pending_commands   commands that are not answered yet: pure
        └ dialect            plain pub/sub's commands, and what a dialect is
          links/             one connection
          ├ source           opens links to the master: at an address, or by sentinels
          │ ├ sentinels      which node is the master
          │ └ role           whether a node is a master
          ├ owner            has a link, or a reason why not
          ├ link             bytes in and out, without a task or an await per message
          └ urls             URLs and clients of the user's
    emit_clients             publishing for processes without a manager

A module imports from its own folder and those below: sharded, pubsub, links. What is not Redis' own
is in [fastapi_rooms.adapters][]: `command_queue` (messages through an outage), `subscriptions` and
`reception` (what is confirmed, what was missed), `retries`, `waiters`, `forbidden`, `probe` (proof
that messages arrive), `supervisor` (a link that is made again) and `connection_status`.
"""

from __future__ import annotations

from fastapi_rooms.adapters.redis.pubsub.adapter import RedisAdapter
from fastapi_rooms.adapters.redis.sharded import RedisClusterAdapter

__all__ = ["RedisAdapter", "RedisClusterAdapter"]
