"""Who is present, by one Redis: all that belongs together is one question to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi_rooms.adapters.redis.history.lane import Lane
from fastapi_rooms.adapters.redis.history.refusals import code_of
from fastapi_rooms.adapters.redis.presence.keys import namespace_of, socket_key, user_key
from fastapi_rooms.adapters.redis.presence.presence import RoomsPresence
from fastapi_rooms.adapters.redis.presence.reader import Answered, Part
from fastapi_rooms.adapters.redis.presence.replies import refusal_in
from fastapi_rooms.adapters.redis.presence.rights import PRESENCE
from fastapi_rooms.adapters.redis.presence.room_script import PLAIN, Step
from fastapi_rooms.errors import AdapterUnavailable


class NodePresence(RoomsPresence):
    """The rooms of one Redis: a room and all that leads there change in one step.

    Args:
        lane: the connection to it.
        prefix: the first part of every key.
    """

    def __init__(self, lane: Lane, prefix: str) -> None:
        super().__init__(prefix, PLAIN)
        self._lane = lane

    def relinks(self) -> int:
        """How often the lane was."""
        return self._lane.relinks

    def _keys(self, step: Step) -> list[bytes]:
        keys = super()._keys(step)
        if step.leave or step.enter:
            prefix, namespace = self._prefix, namespace_of(step.room.name)
            keys += [socket_key(prefix, namespace, sid.encode()) for sid in step.leave]
            for sid, user in step.enter:
                keys.append(socket_key(prefix, namespace, sid.encode()))
                keys.append(user_key(prefix, namespace, user.encode()))
        return keys

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

    async def _ask_each(self, parts: Sequence[Part], answered: Answered) -> None:
        refused: list[int] = []

        def came(at: int, outcome: list[Any] | AdapterUnavailable) -> None:
            if isinstance(outcome, AdapterUnavailable) or not _is_replica(outcome):
                answered(at, outcome)
            else:
                refused.append(at)

        await self._ask_now(parts, came)
        if refused:
            self._lane.leave()
            again = [parts[at] for at in refused]
            await self._ask_now(again, lambda at, outcome: answered(refused[at], outcome))

    async def _ask_now(self, parts: Sequence[Part], answered: Answered) -> None:
        questions = [(part.data, part.commands) for part in parts]
        try:
            await self._lane.ask_each(questions, PRESENCE, answered)
        except AdapterUnavailable as error:  # it was not asked at all
            for at in range(len(parts)):
                answered(at, error)


def _is_replica(replies: Sequence[Any]) -> bool:
    return code_of(refusal_in(replies)) == "READONLY"
