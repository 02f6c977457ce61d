"""Writes and reads what rooms have, and removes what nobody has declared for long."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from fastapi_rooms.adapters.declarations import Declaration
from fastapi_rooms.adapters.redis.declared.form import (
    KEY_TTL,
    Sightings,
    fields_of,
    items_of,
    key_of,
    parse,
)
from fastapi_rooms.adapters.redis.history import reading
from fastapi_rooms.adapters.redis.history.refusals import explain
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.errors import AdapterUnavailable

FIELDS_PER_COMMAND = 1000
"""Declarations that are removed at once."""

Ask: TypeAlias = Callable[[Callable[[], bytes], int], Awaitable[list[Any]]]
"""Writes what a function encodes to whoever has the key; gives so many replies."""


class Declarer:
    """What one worker declares, and has seen others declare.

    Args:
        prefix: the first part of every key.
    """

    def __init__(self, prefix: bytes) -> None:
        self.key = key_of(prefix)
        """The key that it is written to."""
        self._sightings = Sightings()

    async def declare(self, declarations: Sequence[Declaration], ask: Ask) -> None:
        """Write declarations, and remove stale ones. Raises `AdapterUnavailable`."""
        key, fields = self.key, fields_of(declarations, secrets.token_hex(8))
        commands = (
            pack(b"HSET", key, *(part for item in fields.items() for part in item)),
            pack(b"PEXPIRE", key, b"%d" % KEY_TTL),
            pack(b"HGETALL", key),
        )
        replies = await ask(lambda: b"".join(commands), len(commands))
        if refusal := reading.refusal_in(replies):
            raise AdapterUnavailable(f"Redis refused to take declarations: {explain(refusal)}")
        now = asyncio.get_running_loop().time()
        stale = self._sightings.stale(items_of(replies[2]), now)
        for start in range(0, len(stale), FIELDS_PER_COMMAND):
            some = stale[start : start + FIELDS_PER_COMMAND]
            await ask(partial(pack, b"HDEL", key, *some), 1)

    async def declared(self, ask: Ask) -> list[Declaration]:
        """Read what all workers have declared. Raises `AdapterUnavailable`."""
        (reply,) = await ask(partial(pack, b"HGETALL", self.key), 1)
        if refusal := reading.refusal_in((reply,)):
            raise AdapterUnavailable(f"Redis refused to tell what rooms have: {explain(refusal)}")
        try:
            return list(parse(reply))
        except ValueError as error:
            key = self.key.decode()
            raise AdapterUnavailable(f"{key!r} in Redis makes no sense: {error}") from error
