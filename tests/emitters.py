"""Emitters of both kinds in one test: what the blocking one does, the other is awaited for."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TypeAlias

from fastapi_rooms import AsyncEmitter, Emitter

AnyEmitter: TypeAlias = Emitter | AsyncEmitter


async def done(sent: Awaitable[None] | None) -> None:
    """What an emitter of either kind was told to do is done."""
    if inspect.isawaitable(sent):
        await sent
