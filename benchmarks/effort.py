"""How long to measure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Effort:
    """Rounds, and seconds of what is not counted in batches."""

    lives: int = 2
    """Times that every server is started anew: one life may be a fifth dearer than the next, by
    where its memory happens to lie."""
    rounds: int = 3
    """Of cost, in each life."""
    speed: bool = True
    """Whether to measure deliveries per second and latency, once in each life."""
    seconds: float = 0.6
    """Of each measurement of speed, and half of that of latency."""
    storms: int = 4
    mute_rounds: int = 7
    mute_seconds: float = 6.0
    memory_rounds: int = 2
    jitter_seconds: float = 60.0
    scenarios: tuple[str, ...] = ()
    """All when empty, unless others are asked for; so it is with servers."""
    servers: tuple[str, ...] = ()

    def with_rounds(self, rounds: int, lives: int) -> Effort:
        """So many rounds of everything."""
        return replace(
            self,
            lives=lives,
            rounds=rounds,
            storms=rounds,
            mute_rounds=rounds,
            memory_rounds=rounds,
        )


THOROUGH = Effort()
QUICK = Effort(
    lives=1,
    rounds=2,
    seconds=0.5,
    storms=2,
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
