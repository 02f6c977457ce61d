"""What a run has found, in words, and whether that is well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.soak.memory import Memory
from tests.soak.state import State, grown, left_behind

MEGABYTE = 1024 * 1024
ALLOWED_GROWTH = 2 * MEGABYTE
"""How much more memory may be in use at the end than after the warm-up."""

ALLOWED_OBJECTS = 500
"""How many more objects of one type there may be."""


@dataclass
class Worker:
    """What one worker has said of itself, always with no client there."""

    start: State
    start_memory: Memory
    states: list[State] = field(default_factory=list)
    """After each cycle; the first of them is the warm-up."""
    memories: list[Memory] = field(default_factory=list)
    """The same."""
    trimmed: Memory | None = None
    """At the end, once the allocator was told to give back what is free."""

    def is_restored(self, now: State) -> bool:
        """Whether there is no more than at the start, but for objects and memory."""
        return not [*self._left(now)]

    def _left(self, now: State) -> Iterator[str]:
        yield from left_behind(self.start.containers, now.containers)
        if now.tasks > self.start.tasks:
            yield f"{now.tasks} tasks, were {self.start.tasks}"
        if now.files > self.start.files:
            yield f"{now.files} open files, were {self.start.files}"
        if not now.health["ready"] or now.health["buffered"] or now.health["lag"]:
            yield f"its health is {now.health}"

    def problems(self) -> Iterator[str]:
        """What is wrong with it at the end."""
        yield from self._left(self.states[-1])
        for line in grown(self.states[0].objects, self.states[-1].objects, ALLOWED_OBJECTS):
            yield f"objects: {line}"
        growth = self.memories[-1].used - self.memories[0].used
        if growth > ALLOWED_GROWTH:
            yield (
                f"{megabytes(growth)} more memory in use than after the first cycle; "
                f"{megabytes(ALLOWED_GROWTH)} are allowed"
            )

    def where_the_memory_is(self) -> str:
        """What is resident, and what of that is in use, against the start and the warm-up."""
        assert self.trimmed is not None
        first, warm, last = self.start_memory, self.memories[0], self.memories[-1]
        return (
            f"resident {megabytes(last.resident - first.resident)} since the start "
            f"(at the peak {megabytes(last.peak - first.resident)}): "
            f"in use {megabytes(last.used - first.used)} "
            f"(since the first cycle {megabytes(last.used - warm.used)}), "
            f"free in the allocators {megabytes(last.free - first.free)} "
            f"(Python's {megabytes(last.free_python - first.free_python)}, "
            f"glibc's {megabytes(last.free_malloc - first.free_malloc)}); "
            f"after malloc_trim: resident {megabytes(self.trimmed.resident - first.resident)}"
        )


def megabytes(size: int) -> str:
    """A difference."""
    return f"{size / MEGABYTE:+.2f} MB"
