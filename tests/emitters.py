"""Emitters of both kinds in one test: what the blocking one does, the other is awaited for."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TypeAlias, TypeVar

from fastapi_rooms import AsyncEmitter, Emitter

AnyEmitter: TypeAlias = Emitter | AsyncEmitter
T = TypeVar("T")


async def done(sent: Awaitable[None] | None) -> None:
    """What an emitter of either kind was told to do is done."""
    if inspect.isawaitable(sent):
        await sent


async def answered(answer: Awaitable[T] | T) -> T:
    """What an emitter of either kind answers."""
    return await answer if inspect.isawaitable(answer) else answer
