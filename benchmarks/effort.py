"""How long to measure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Effort:
    """Rounds, and seconds of what is not counted in batches."""

    rounds: int = 5
    """Of cost, and of connection storms."""
    speed_rounds: int = 2
    """Of deliveries per second and latency."""
    seconds: float = 0.75
    """Of each measurement of speed, and half of that of latency."""
    mute_rounds: int = 3
    mute_seconds: float = 6.0
    memory_rounds: int = 2
    scenarios: tuple[str, ...] = ()
    """All when empty, unless others are asked for; so it is with servers."""
    servers: tuple[str, ...] = ()

    def with_rounds(self, rounds: int) -> Effort:
        return replace(self, rounds=rounds, mute_rounds=rounds, memory_rounds=rounds)

    def without_speed(self) -> Effort:
        return replace(self, speed_rounds=0)


THOROUGH = Effort()
QUICK = Effort(
    rounds=2,
    speed_rounds=1,
    seconds=0.5,
    mute_rounds=1,
    memory_rounds=1,
    scenarios=("fanout-1000", "burst-16", "rooms-2", "two-workers", "storm", "memory", "mute"),
    servers=(
        "bare",
        "ours-memory",
        "ours-memory-deflate",
        "ours-redis",
        "tutorial-deflate",
        "python-socketio",
        "node-ws",
        "node-socketio-redis",
    ),
)
