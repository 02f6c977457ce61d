"""Asking the nodes of a cluster: about a slot, wherever it moves meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import hiredis

from fastapi_rooms.adapters.redis.history.rights import HISTORY, Needs
from fastapi_rooms.adapters.redis.sharded.slot_lanes import NodeLane, SlotLanes
from fastapi_rooms.adapters.redis.sharded.slots import is_redirection
from fastapi_rooms.errors import AdapterUnavailable

T = TypeVar("T")


class SlotQuestions:
    """Questions to the masters, by their lanes.

    Args:
        lanes: the connections to them.
    """

    def __init__(self, lanes: SlotLanes) -> None:
        self._lanes = lanes

    async def ask(
        self, slot: int, encode: Callable[[], bytes], count: int, needs: Needs = HISTORY
    ) -> list[Any]:
        """The replies of the master that serves a slot, errors included; see `Lane.ask`."""
        async with self.in_time(slot):
            while True:
                lane = self._lanes.lane_of(slot)
                if lane is not None:
                    replies = await self.unless_gone(lane, lane.ask(encode, count, needs))
                    if replies is not None and not is_elsewhere(replies):
                        return replies
                await self._lanes.updated()

    async def unless_gone(self, lane: NodeLane, asked: Awaitable[T]) -> T | None:
        """What a node answers; `None` if it has ceased to be a master meanwhile."""
        try:
            return await asked
        except AdapterUnavailable:
            if self._lanes.is_serving(lane):
                raise
            return None

    @asynccontextmanager
    async def in_time(self, slot: int) -> AsyncIterator[None]:
        """Raise `AdapterUnavailable` if something about a slot takes too long; -1 is for any."""
        timeout = self._lanes.timeout
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise AdapterUnavailable(
                f"Redis did not answer in {timeout} s ({self._lanes.why_waiting(slot)})."
            ) from None


def is_elsewhere(replies: Sequence[Any]) -> bool:
    """Whether a node says that it does not serve the slot, or not now."""
    return any(isinstance(r, hiredis.ReplyError) and is_redirection(str(r)) for r in replies)
