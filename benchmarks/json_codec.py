"""What JSON costs: the default codec beside orjson alone, which rounds integers past 64 bits.

    python -m benchmarks.json_codec

Microseconds for each call: medians of 25 rounds, in which the two take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from timeit import Timer
from typing import Any

import orjson

from fastapi_rooms.core.json_codec import DEFAULT_JSON

ROUNDS = 25
SECONDS = 0.02
"""How long each is measured in a round."""

MESSAGES: dict[str, Any] = {
    "ping": {"a": "hi"},
    "chat": {"type": "chat", "room": "lobby", "text": "hello there", "id": 123},
    "chat with a time": {"type": "chat", "room": "lobby", "text": "hello", "at": 1732644378123},
    "long text": {"type": "chat", "text": "x" * 1000},
    "50 rows": [{"id": n, "name": f"user{n}", "value": n * 1.5} for n in range(50)],
}


def main() -> None:
    print(f"{'':>18}  bytes   loads: ours  orjson   dumps: ours  orjson")
    for name, value in MESSAGES.items():
        text = DEFAULT_JSON.dumps(value).decode()
        loads = compare(lambda t=text: DEFAULT_JSON.loads(t), lambda t=text: orjson.loads(t))
        dumps = compare(lambda v=value: DEFAULT_JSON.dumps(v), lambda v=value: orjson.dumps(v))
        row = f"{loads[0]:12.2f} {loads[1]:7.2f}  {dumps[0]:12.2f} {dumps[1]:7.2f}"
        print(f"{name:>18} {len(text):6}  {row}")


def compare(*works: Callable[[], object]) -> list[float]:
    """The microseconds that each takes, measured in turn."""
    timers = [Timer(work) for work in works]
    counts = [max(int(SECONDS / (timer.timeit(1000) / 1000)), 1) for timer in timers]
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for timer, count, times in zip(timers, counts, taken, strict=True):
            times.append(timer.timeit(count) / count)
    return [median(times) * 1e6 for times in taken]


if __name__ == "__main__":
    main()
