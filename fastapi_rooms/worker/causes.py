"""What an exception that ends a block of `rooms.connect` or `rooms.listen` consists of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from starlette import websockets


def causes_of(exc: BaseException | None) -> Iterator[BaseException]:
    """What an `asyncio.TaskGroup` in the block failed of, or the one exception itself."""
    if isinstance(exc, BaseExceptionGroup):
        for cause in exc.exceptions:
            yield from causes_of(cause)
    elif exc is not None:
        yield exc


def is_cancelled(causes: list[BaseException]) -> bool:
    """Whether a cancellation is among them."""
    return any(isinstance(cause, asyncio.CancelledError) for cause in causes)


def is_use_after_disconnect(exc: BaseException) -> bool:
    """Starlette's way to say that a `websocket.receive_*` or `send_*` came after the end."""
    kind = getattr(websockets, "WebSocketDisconnected", None)
    if kind is not None:
        return isinstance(exc, kind)
    return isinstance(exc, RuntimeError) and str(exc).startswith(
        ("WebSocket is not connected", 'Cannot call "')
    )
