"""What this library promises of its speed, and whether a run bears it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.figures import Results, compare

AllResults = Mapping[str, Results]
"""By the names of scenarios."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the bar."""

    promise: str
    limit: float
    value: float

    @property
    def holds(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        word = "holds" if self.holds else "FAILS"
        return f"{word}  {self.value:6.3g}  at most {self.limit:<5.3g} {self.promise}"


@dataclass(frozen=True, slots=True)
class Promise:
    """A ratio of our cost to another's in one scenario."""

    text: str
    scenario: str
    ours: str
    other: str
    limit: float
    figure: str = "cost"


def _json(text: str, size: str, other: str, limit: float, figure: str = "cost") -> Promise:
    ours, text = "ours-memory-deflate", f"{size} of JSON to 1000, compressed, {text}"
    return Promise(text, f"json-{size}", ours, other, limit, figure)


def _fanout(text: str, other: str, limit: float, ours: str = "ours-memory") -> Promise:
    return Promise(f"fan-out to 1000, {text}", "fanout-1000", ours, other, limit)


def _sizes(text: str, ours: str) -> Promise:
    return Promise(f"fan-out, {text}, to 1000 in memory", "sizes", ours, "ours-memory@1000", 1.2)


def _edges(text: str, other: str, limit: float, figure: str = "cost") -> Promise:
    return Promise(text, "edges", "ours-redis-edge@200", other, limit, figure)


_PROMISES = (
    _fanout("to the bare C server", "floor", 1.5),
    _fanout("to the tutorial's loop, not compressed", "tutorial", 0.42),
    Promise(
        "the same, both on asyncio", "fanout-1000", "ours-memory-asyncio", "tutorial-asyncio", 0.42
    ),
    _fanout("to the tutorial's loop, compressed", "tutorial-deflate", 0.25, "ours-memory-deflate"),
    _json("bytes, to plain", "chat", "ours-memory", 0.8, "bytes"),
    _json("bytes, to the tutorial's loop", "4k", "tutorial-deflate", 1.3, "bytes"),
    _json("bytes, to the tutorial's loop", "16k", "tutorial-deflate", 1.3, "bytes"),
    _json("to plain", "4k", "ours-memory", 1.15),
    _json("to plain", "16k", "ours-memory", 1.15),
    _sizes("100 in memory", "ours-memory@100"),
    _sizes("5000 in memory", "ours-memory@5000"),
    _sizes("100 through Redis", "ours-redis@100"),
    _sizes("1000 through Redis", "ours-redis@1000"),
    _sizes("5000 through Redis", "ours-redis@5000"),
    Promise(
        "16 at once to 1000, to the tutorial's loop", "burst-16", "ours-memory", "tutorial", 0.08
    ),
    Promise("500 rooms of 2, to Node ws", "rooms-2", "ours-memory", "node-ws", 1.9),
    Promise("500 rooms of 2 + Redis, to Node ws", "rooms-2", "ours-redis", "node-ws", 2.5),
    Promise("two workers, to one in memory", "two-workers", "ours-redis", "ours-memory:1", 1.3),
    Promise("two workers, to one with Redis", "two-workers", "ours-redis", "ours-redis:1", 1.3),
    _fanout("with a history, to without, both + Redis", "ours-redis", 1.1, "ours-redis-history"),
    Promise(
        "500 rooms of 2 with a history, to without, both + Redis",
        "rooms-2",
        "ours-redis-history",
        "ours-redis",
        2,
    ),
    _fanout("where other rooms have a history, to none", "ours-redis", 1.05, "ours-redis-beside"),
    Promise(
        "500 rooms of 2 where others have a history, to none",
        "rooms-2",
        "ours-redis-beside",
        "ours-redis",
        1.05,
    ),
    Promise(
        "a storm with presence, to without",
        "storm-presence",
        "ours-memory-presence",
        "ours-memory",
        1.25,
    ),
    Promise(
        "a storm with presence, to without, both + Redis",
        "storm-presence",
        "ours-redis-presence",
        "ours-redis",
        1.25,
    ),
    _edges("to a room of 200 behind an edge, to one of a worker", "ours-redis@200", 1.5),
    _edges("publishes, 200 members behind an edge, to 2", "ours-redis-edge@2", 1.2, "publishes"),
    _edges("dropped by a deploy behind an edge, of a worker's", "ours-redis@200", 0, "reconnects"),
    _fanout("to python-socketio", "python-socketio", 1 / 8),
    _fanout("to python-socketio, both + Redis", "python-socketio-redis", 1 / 8, "ours-redis"),
    _fanout("to Litestar", "litestar-memory", 1 / 4),
    _fanout("to Litestar, both + Redis", "litestar-redis", 1 / 4, "ours-redis"),
    _fanout("to broadcaster", "broadcaster-memory", 1 / 5),
    _fanout("to broadcaster, both + Redis", "broadcaster-redis", 1 / 5, "ours-redis"),
    _fanout("to Node Socket.IO, both + Redis", "node-socketio-redis", 1 / 2.5, "ours-redis"),
)

AHEAD_OF = ("python-socketio", "litestar", "broadcaster", "node-socketio-redis")
"""Peers, by how their names begin, that we are to be ahead of in every scenario."""


def verdicts(results: AllResults) -> list[Verdict]:
    """Those lines for which the run has both sides."""
    parts = (_promised, _ahead, _mute, _memory, _cluster)
    return [verdict for part in parts for verdict in part(results)]


def _promised(results: AllResults) -> Iterator[Verdict]:
    for promise in _PROMISES:
        figures = results.get(promise.scenario, {})
        if promise.ours in figures and promise.other in figures:
            ours, direct = figures[promise.ours], f"{promise.figure}/{promise.other}"
            if direct in ours.values:
                value = ours.median(direct)
            else:
                value = compare(ours, figures[promise.other], promise.figure)
            yield Verdict(promise.text, promise.limit, value)


def _ahead(results: AllResults) -> Iterator[Verdict]:
    for name, figures in results.items():
        for peer in figures:
            if peer.startswith(AHEAD_OF):
                ours = "ours-redis" if peer.endswith("redis") else "ours-memory"
                if ours in figures and "cost" in figures[peer].values:
                    ratio = compare(figures[ours], figures[peer], "cost")
                    yield Verdict(f"{name}: {ours} to {peer}", 1, ratio)


def _cluster(results: AllResults) -> Iterator[Verdict]:
    figures = results.get("cluster", {})
    if {"ours-redis", "node-socketio-redis"} <= figures.keys():
        for what in ("count", "fetch"):
            ratio = compare(figures["ours-redis"], figures["node-socketio-redis"], f"{what} cost")
            yield Verdict(f"cluster: {what}, ours-redis to node-socketio-redis", 1, ratio)


def _mute(results: AllResults) -> Iterator[Verdict]:
    for name, figures in results.get("mute", {}).items():
        if name.startswith("ours"):
            value = figures.median("p99 20/0")
            yield Verdict(f"p99 beside 20 mute readers, to that beside none: {name}", 1.5, value)


def _memory(results: AllResults) -> Iterator[Verdict]:
    for name, figures in results.get("memory", {}).items():
        # The server's has more, too, where it compresses; an edge keeps a conversation besides.
        if name.startswith("ours") and not name.endswith(("deflate", "edge")):
            value = figures.median("kb above bare")
            yield Verdict(f"KB of an idle connection above bare uvicorn: {name}", 2, value)
