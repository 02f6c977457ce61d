"""The probe: proves that a publisher and a subscriber reach each other, when nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi_rooms.adapters.redis.subscriber import Subscriber
from fastapi_rooms.errors import AdapterUnavailable


async def probe(
    subscriber: Subscriber,
    publish: Callable[[], Awaitable[None]],
    is_connected: Callable[[], bool],
    interval: float,
) -> None:
    """Answer silence with a message to ourselves, and no answer with a new connection.

    `publish` sends to a channel that the subscriber has. Ends only by cancellation.
    """
    seen: float | None = None
    while True:
        await asyncio.sleep(interval)
        if subscriber.is_stuck(interval):
            subscriber.abort(f"{subscriber.verb} is not confirmed for {interval} s")
            continue
        before = subscriber.last_received
        if not is_connected() or before != seen:  # no clock is asked: those can be set back
            seen = before
            continue
        try:
            await publish()
        except AdapterUnavailable:
            continue  # the publisher has given up its own connection by this
        await asyncio.sleep(interval)
        seen = subscriber.last_received
        if seen == before:
            subscriber.abort(f"nothing arrives, for {interval} s after a probe")
