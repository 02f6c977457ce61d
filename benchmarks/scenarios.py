"""What the servers are put through, and which of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.catalogue import SERVERS_BY_NAME, Server
from benchmarks.messages import Messages

Kind = Literal[
    "deliveries",
    "storm",
    "memory",
    "mute",
    "cluster",
    "jitter",
    "history",
    "presence",
    "edges",
]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Members in rooms, who send so many messages at a time."""

    name: str
    title: str
    entries: tuple[str, ...]
    """Servers; `name@100` is one with so many members in a room, `name:1` with so many workers."""
    kind: Kind = "deliveries"
    rooms: int = 1
    room_size: int = 1000
    payload: int = 128
    messages: Messages = "noise"
    window: int = 1
    """Messages under way at a time."""
    depth: int = 10
    """Batches that the server has done before anything is read, where cost is measured."""
    stopped: bool = False
    """Whether a batch is sent while the server is stopped, so that it finds all of it at once."""
    per_second: float = 10
    """Messages per second where latency is measured."""
    workers: int = 1
    cost_only: bool = False
    references: tuple[str, ...] = ("floor", "tutorial")
    """What runs beside every other server; with one worker, always."""

    @property
    def members(self) -> int:
        return self.rooms * self.room_size

    def suits(self, server: str) -> bool:
        """Whether a server can be put through it."""
        return self.workers == 1 or SERVERS_BY_NAME[server].redis

    def chosen(self, servers: Collection[str]) -> list[str]:
        """The entries that are of some servers; all if none are named."""
        return [n for n in self.entries if not servers or self.entry(n).server.name in servers]

    def entry(self, name: str) -> Entry:
        """A server in this scenario, by the name that `entries` has for it."""
        server, _, workers = name.partition(":")
        server, _, room_size = server.partition("@")
        return Entry(
            name,
            SERVERS_BY_NAME[server],
            replace(
                self,
                room_size=int(room_size or self.room_size),
                workers=1 if name in self.references else int(workers or self.workers),
            ),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One server in one scenario."""

    name: str
    server: Server
    scenario: Scenario

    @property
    def label(self) -> str:
        """The server, and what sets it apart from the others of the scenario."""
        label = self.server.label
        if "@" in self.name:
            label += f", {self.scenario.room_size} members"
        if ":" in self.name:
            label += ", one worker" if self.scenario.workers == 1 else ", several workers"
        return label


_OURS = ("ours-memory", "ours-memory-asyncio", "ours-redis", "ours-redis-asyncio")
_RABBITMQ = ("ours-rabbitmq",)
_PRESENCE = ("ours-memory-presence", "ours-redis-presence")
_HISTORY = ("ours-redis-history", "ours-redis-beside")
_PYTHON = (
    "broadcaster-memory",
    "broadcaster-redis",
    "litestar-memory",
    "litestar-redis",
    "python-socketio",
    "python-socketio-redis",
)
_NODE = ("node-ws", "node-socketio", "node-socketio-redis")
_PEERS = (*_PYTHON, *_NODE)
_DJANGO = ("django-memory", "django-redis")

_COMPRESSED = ("ours-memory", "ours-memory-deflate", "tutorial-deflate", "node-ws-deflate")

_ALL = (
    Scenario(
        "fanout-1000",
        "One room of 1000",
        (
            *_OURS,
            *_RABBITMQ,
            *_HISTORY,
            "ours-memory-asgi",
            "ours-memory-deflate",
            "tutorial-asyncio",
            "tutorial-deflate",
            *_PEERS,
            *_DJANGO,
        ),
    ),
    Scenario(
        "fanout-100",
        "One room of 100",
        (*_OURS[::2], *_PEERS, *_DJANGO, "django-daphne", "django-redis-core"),
        room_size=100,
        per_second=50,
    ),
    Scenario(
        "fanout-5000",
        "One room of 5000",
        (*_OURS[::2], *_PYTHON[::2], *_NODE),
        room_size=5000,
        per_second=2,
    ),
    Scenario(
        "fanout-16k",
        "One room of 1000, 16 KiB a message",
        (*_OURS[::2], *_PYTHON[::2], *_NODE),
        payload=16 * 1024,
        depth=1,
        per_second=5,
    ),
    Scenario(
        "json-chat",
        "One room of 1000, JSON of 200 bytes, with and without compression",
        _COMPRESSED,
        payload=200,
        messages="chat",
        cost_only=True,
    ),
    Scenario(
        "json-4k",
        "One room of 1000, JSON of 4 KiB, with and without compression",
        _COMPRESSED,
        payload=4 * 1024,
        messages="dashboard",
        depth=2,
        cost_only=True,
    ),
    Scenario(
        "json-16k",
        "One room of 1000, JSON of 16 KiB, with and without compression",
        _COMPRESSED,
        payload=16 * 1024,
        messages="dashboard",
        depth=1,
        cost_only=True,
    ),
    Scenario(
        "sizes",
        "One room of 100, 1000 and 5000, in memory and through Redis",
        tuple(f"{name}@{size}" for name in _OURS[::2] for size in (100, 1000, 5000)),
        cost_only=True,
    ),
    Scenario(
        "burst-16",
        "16 messages at once to a room of 1000",
        (*_OURS, *_HISTORY[:1], *_PEERS),
        window=16,
        depth=2,
        stopped=True,
    ),
    Scenario(
        "rooms-2",
        "500 rooms of 2, 250 messages under way",
        (*_OURS, *_RABBITMQ, *_HISTORY, "ours-memory-asgi", *_PEERS, *_DJANGO),
        rooms=500,
        room_size=2,
        window=250,
        per_second=1000,
    ),
    Scenario(
        "two-workers",
        "Two workers, 500 members of one room on each",
        (
            "ours-redis",
            "ours-redis-asyncio",
            "ours-rabbitmq",
            "ours-memory:1",
            "ours-redis:1",
            "broadcaster-redis",
            "litestar-redis",
            "python-socketio-redis",
            "django-redis",
            "node-socketio-redis",
        ),
        workers=2,
    ),
    Scenario(
        "storm",
        "1000 clients connect and join 500 rooms, and leave",
        (*_OURS[::2], *_RABBITMQ, "ours-memory-global", *_PEERS, *_DJANGO),
        kind="storm",
        rooms=500,
        room_size=2,
    ),
    Scenario(
        "storm-presence",
        "1000 clients connect and join 500 rooms that know who is present, or do not, and leave",
        (*_OURS[::2], *_PRESENCE),
        kind="storm",
        rooms=500,
        room_size=2,
    ),
    Scenario(
        "memory",
        "Idle in one room",
        (
            "bare",
            "bare-asyncio",
            *_OURS,
            "ours-memory-deflate",
            "tutorial-deflate",
            *_PEERS[::2],
            "django-memory",
            "node-socketio",
        ),
        kind="memory",
        room_size=4500,
    ),
    Scenario(
        "mute",
        "200 members who read, beside some who do not; 16 KiB a message",
        (
            "ours-memory",
            "ours-redis",
            "broadcaster-memory",
            "litestar-memory",
            "python-socketio",
            *_NODE,
        ),
        kind="mute",
        room_size=200,
        payload=16 * 1024,
        per_second=50,
    ),
    Scenario(
        "cluster",
        "Asking two workers, through Redis, for their 1000 sockets each",
        ("ours-redis", "node-socketio-redis"),
        kind="cluster",
        room_size=2000,
        workers=2,
        references=(),
    ),
    Scenario(
        "jitter",
        "300 clients whose networks fail every 15 s for 2 s, while two workers are replaced",
        ("ours-redis-history",),
        kind="jitter",
        room_size=300,
        workers=4,
        references=(),
    ),
    Scenario(
        "history",
        "What Redis and the worker keep of 500 rooms of 2",
        ("ours-redis", "ours-redis-history"),
        kind="history",
        rooms=500,
        room_size=2,
        references=(),
    ),
    Scenario(
        "presence",
        "Who is present in 500 rooms of 4, on two workers, of which one dies",
        ("ours-redis", "ours-redis-presence"),
        kind="presence",
        rooms=500,
        room_size=4,
        workers=2,
        references=(),
    ),
    Scenario(
        "edges",
        "One room of 2, or 200, of one worker, or of an edge and a backend",
        tuple(f"{name}@{size}" for name in ("ours-redis", "ours-redis-edge") for size in (2, 200)),
        kind="edges",
        per_second=100,
        references=(),
    ),
)

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
