"""The adapter within one process: for development, tests, and applications with one worker.

adapter    one manager's way onto a bus
bus        what the managers share: who is subscribed, and what is kept
backlog    what is on its way into one event loop, bounded
store      the rooms that remember, and their messages: pure
presence   who is present, asked of a bus
presence_store  the rooms of which that is known, and the leases of workers: pure
sweeper    drops from a bus what has expired, now and then
"""

from __future__ import annotations

from fastapi_rooms.adapters.memory.adapter import MemoryAdapter
from fastapi_rooms.adapters.memory.bus import MemoryBus, named_bus

__all__ = ["MemoryAdapter", "MemoryBus", "named_bus"]
