"""Who is present, by one Redis: all that belongs together is one question to it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from fastapi_rooms.adapters.redis.history.lane import Lane
from fastapi_rooms.adapters.redis.history.refusals import code_of
from fastapi_rooms.adapters.redis.presence import index_script
from fastapi_rooms.adapters.redis.presence.indexes import KEPT
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
        answers = await self._ask_for(parts)
        for at, part in enumerate(parts):
            if part.whole and code_of(refusal_in(answers[at])) == "NOSCRIPT":
                # And what comes behind it, which may look at what it has done.
                rest = [part._replace(data=part.whole), *parts[at + 1 :]]
                return [*answers[:at], *await self._ask_for(rest)]
        return answers

    async def _ask_for(self, parts: Sequence[Part]) -> list[list[Any]]:
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

    def _added(self, keys: Sequence[bytes], name: bytes) -> list[Part]:
        return _indexed(b"SADD", keys, name) if len(keys) > 1 else super()._added(keys, name)

    def _removed(self, keys: Sequence[bytes], name: bytes) -> list[Part]:
        return _indexed(b"SREM", keys, name) if len(keys) > 1 else super()._removed(keys, name)


def _indexed(what: Literal[b"SADD", b"SREM"], keys: Sequence[bytes], name: bytes) -> list[Part]:
    """One command for all of them: here they are all of one node."""
    encode = partial(index_script.encode, what, keys, name, KEPT)
    return [Part(keys[0], encode(whole=False), 1, encode(whole=True))]
