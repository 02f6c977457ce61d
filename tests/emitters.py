"""Emitters of both kinds in one test: what the blocking one does, the other is awaited for."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TypeAlias, TypeVar

from fastapi_rooms import AsyncEmitter, Emitter
from fastapi_rooms.adapters.declarations import PresenceDeclaration
from fastapi_rooms.adapters.redis.declared.form import KEY_TTL, fields_of
from fastapi_rooms.testing import RedisServer

AnyEmitter: TypeAlias = Emitter | AsyncEmitter
T = TypeVar("T")


async def done(sent: Awaitable[None] | None) -> None:
    """What an emitter of either kind was told to do is done."""
    if inspect.isawaitable(sent):
        await sent


async def answered(answer: Awaitable[T] | T) -> T:
    """What an emitter of either kind answers."""
    return await answer if inspect.isawaitable(answer) else answer


def declare_presence(server: RedisServer, pattern: str = "*") -> None:
    """Have it say what a worker does whose rooms know who is present."""
    fields = fields_of([PresenceDeclaration("/", pattern, 0)], "")
    server.admin.hset("rooms:declared", mapping=dict(fields.items()))
    server.admin.pexpire("rooms:declared", KEY_TTL)
