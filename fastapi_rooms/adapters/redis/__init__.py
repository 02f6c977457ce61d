"""Redis between the workers: its pub/sub, over redis-py's connections.

It keeps keys only of rooms with a history, and of those of which is known who is present.

    RedisAdapter  (pubsub/adapter)          RedisClusterAdapter  (sharded/adapter)
          │                                             │
    history/   rooms that remember          sharded/    many nodes, whose slots move
    ├ history     what is asked for         ├ node_pool           a connection for each master
    ├ lane        a connection of its own   ├ topology_refresher  which node serves which slots
    ├ appends     batches of messages       ├ slot_publishers     messages in order while slots move
    ├ exchanges   commands and replies      ├ slot_subscribers    channels at the node of their slot
    ├ script      appends (pure)            ├ placement           which node that is now (pure)
    ├ reading     reads (pure)              ├ slots               slots and topologies (pure)
    ├ rights      what is allowed (pure)    ├ dialect             sharded commands, redirections
    ├ refusals    what to do then (pure)    └ access              how the nodes are reached
    └ keys        their names (pure)                    │
    presence/  rooms that know who is there             │
          │ one                                         │ one for each master
          └──────────────────────┬──────────────────────┘
    pubsub/                      │         one node
    ├ node             both connections to a node, and the probe of them
    ├ publisher        commands out, replies matched to them
    ├ failover_gaps    messages to a node that others had already left (pure)
    ├ subscriber       subscribes to what is wanted, delivers what arrives
    ├ pending_commands commands that are not fully answered (pure)
    └ dialect          what differs between plain and sharded pub/sub
                                 │
    declared/                    │         what rooms have, as workers tell others (pure)
                                 │
    links/                       │         one connection
    ├ owner            opens links
    ├ source           opens links to the master: at an address, or as sentinels report
    ├ sentinels, role  which node is the master, and whether a node is one
    ├ link             bytes in and out, without a task or an await per message
    ├ reasons          why it failed, and what to do (pure)
    ├ urls, clients    URLs, and clients of the user's
    ├ canonical        URLs in one spelling
    └ options          what they may ask for (pure)

A module imports from its own folder and from those drawn below it. `emit_clients/` stands beside
them: it publishes and asks for processes without a manager, with the modules of `history/` and
`presence/` that are for them; `declarations` reads for tools what rooms have. What is not Redis'
own is in [fastapi_rooms.adapters][], for adapters to other carriers to use as well.
"""

from __future__ import annotations

from fastapi_rooms.adapters.redis.links.canonical import canonical_url
from fastapi_rooms.adapters.redis.links.clients import refusal
from fastapi_rooms.adapters.redis.pubsub.adapter import RedisAdapter
from fastapi_rooms.adapters.redis.sharded import RedisClusterAdapter

__all__ = ["RedisAdapter", "RedisClusterAdapter", "canonical_url", "refusal"]
