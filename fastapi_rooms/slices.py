"""Work on many things, a slice in each turn of the event loop: others have it in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")

SLICE = 1000
"""Sockets that are looked at, or put into rooms, in one turn: some 5 ms of work."""


async def in_slices(items: Sequence[T], size: int | None = None) -> AsyncIterator[Sequence[T]]:
    """So many of them at a time, `SLICE` when left out."""
    size = size or SLICE
    for start in range(0, len(items), size):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + size]
