"""Who is present, by one Redis: all that belongs together is one question to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi_rooms.adapters.redis.history.lane import Lane
from fastapi_rooms.adapters.redis.history.refusals import code_of
from fastapi_rooms.adapters.redis.presence.presence import RoomsPresence
from fastapi_rooms.adapters.redis.presence.reader import Part
from fastapi_rooms.adapters.redis.presence.replies import refusal_in
from fastapi_rooms.adapters.redis.presence.rights import PRESENCE
from fastapi_rooms.adapters.redis.presence.room_script import PLAIN


class NodePresence(RoomsPresence):
    """The rooms of one Redis.

    Args:
        lane: the connection to it.
        prefix: the first part of every key.
    """

    def __init__(self, lane: Lane, prefix: str) -> None:
        super().__init__(prefix, PLAIN)
        self._lane = lane

    async def _ask(self, *stages: Sequence[Part]) -> list[list[Any]]:
        parts = [part for stage in stages for part in stage]
        data, count = b"".join([part.data for part in parts]), sum(part.commands for part in parts)
        replies = await self._lane.ask(lambda: data, count, PRESENCE)
        if code_of(refusal_in(replies)) == "READONLY":
            self._lane.leave()
            replies = await self._lane.ask(lambda: data, count, PRESENCE)
        answers, start = [], 0
        for part in parts:
            answers.append(replies[start : start + part.commands])
            start += part.commands
        return answers
