"""How rooms are read, forgotten and declared, at one Redis or at the node of their slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hiredis

from fastapi_rooms.adapters.declarations import Declaration
from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.redis.history import reading
from fastapi_rooms.adapters.redis.history.declarer import Declarer
from fastapi_rooms.adapters.redis.history.keys import keys_of
from fastapi_rooms.adapters.redis.history.lane import new_epoch
from fastapi_rooms.adapters.redis.history.reading import Reading
from fastapi_rooms.adapters.redis.history.refusals import code_of, explain
from fastapi_rooms.adapters.redis.history.rights import DECLARED, HISTORY, Needs
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Stretch
from fastapi_rooms.errors import AdapterUnavailable

ROOMS_PER_QUESTION = 256
"""Rooms whose ends are asked for at once, so that nothing waits for long behind them."""


class RoomReader:
    """What is asked about rooms. Subclasses say whom, by `_ask`.

    Args:
        prefix: the first part of every key.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._declarer = Declarer(self._prefix)

    async def read(self, room: RoomKey, since: Position | None = None) -> Stretch[bytes]:
        """What is kept of a room, or since a position; begins a numbering where there is none."""
        keys = keys_of(self._prefix, room.name)
        found = await self._read(room, Reading(keys, since))
        if found is None:
            (reply,) = await self._ask(room, lambda: reading.begin(keys, new_epoch()), 1)
            if isinstance(reply, hiredis.ReplyError):
                raise AdapterUnavailable(f"Redis refused to begin a room: {explain(str(reply))}")
            found = await self._read(room, Reading(keys, since))
        if found is None:
            raise AdapterUnavailable(
                f"Redis has something else in {keys.meta.decode(errors='backslashreplace')!r} than "
                "a room. Give this application a prefix of its own."
            )
        return found

    async def _read(self, room: RoomKey, its: Reading) -> Stretch[bytes] | None:
        is_open = True
        while is_open:
            replies = await self._ask(room, its.question, its.replies)
            if refusal := reading.refusal_in(replies[1:]):
                raise AdapterUnavailable(f"Redis refused to read: {explain(refusal)}")
            is_open = its.answered(*replies[1:])
        return its.stretch()

    async def forget(self, room: RoomKey) -> None:
        """Forget the messages of a room, and go on counting."""
        keys = keys_of(self._prefix, room.name)
        (reply,) = await self._ask(room, partial(reading.forget, keys), 1)
        if isinstance(reply, hiredis.ReplyError):
            raise AdapterUnavailable(f"Redis refused to forget: {explain(str(reply))}")

    async def declare(self, declarations: Sequence[Declaration], needs: Needs) -> None:
        """Tell what rooms have, and remove what nobody has told for long."""
        where = RoomKey(b"", self._declarer.key)  # in a cluster, the node of the key's own slot
        await self._declarer.declare(declarations, partial(self._ask, where, needs=needs))

    async def declared(self) -> list[Declaration]:
        """What workers have told that rooms have."""
        where = RoomKey(b"", self._declarer.key)
        return await self._declarer.declared(partial(self._ask, where, needs=DECLARED))

    def _ask_for_tops(self, rooms: Sequence[RoomKey]) -> Callable[[], bytes]:
        """The question where rooms end; `_top_in` reads each of its answers."""
        return partial(reading.tops, [keys_of(self._prefix, room.name) for room in rooms])

    @staticmethod
    def _top_in(reply: Any) -> Position | None:
        refusal = reading.refusal_in((reply,))
        if refusal and code_of(refusal) != "WRONGTYPE":
            raise AdapterUnavailable(f"Redis refused to read: {explain(refusal)}")
        return reading.parse_top(reply)

    async def _ask(
        self, room: RoomKey, encode: Callable[[], bytes], count: int, needs: Needs = HISTORY
    ) -> list[Any]:
        """The replies of the master that has a room. Raises `AdapterUnavailable` for none."""
        raise NotImplementedError
