"""Who is present, by the masters of a cluster: every key at its slot's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi_rooms.adapters.redis.presence.presence import RoomsPresence
from fastapi_rooms.adapters.redis.presence.reader import Part
from fastapi_rooms.adapters.redis.presence.rights import PRESENCE
from fastapi_rooms.adapters.redis.presence.room_script import SHARDED
from fastapi_rooms.adapters.redis.sharded.slot_lanes import SlotLanes
from fastapi_rooms.adapters.redis.sharded.slot_questions import SlotQuestions
from fastapi_rooms.adapters.redis.sharded.slots import slot_of
from fastapi_rooms.errors import AdapterUnavailable


class ClusterPresence(RoomsPresence):
    """The rooms of a cluster.

    Args:
        lanes: the connections to its masters.
        prefix: the first part of every key.
    """

    def __init__(self, lanes: SlotLanes, prefix: str) -> None:
        super().__init__(prefix, SHARDED)
        self._questions = SlotQuestions(lanes)

    async def _ask(self, *stages: Sequence[Part]) -> list[list[Any]]:
        answers: list[list[Any]] = []
        for stage in stages:
            try:
                answers += await asyncio.gather(*map(self._ask_about, stage))
            except AdapterUnavailable as error:
                if not answers:
                    raise
                rest = [part for stage in stages for part in stage][len(answers) :]
                return [*answers, *([error] * part.commands for part in rest)]
        return answers

    async def _ask_about(self, part: Part) -> list[Any]:
        return await self._questions.ask(
            slot_of(part.key), lambda: part.data, part.commands, PRESENCE
        )
