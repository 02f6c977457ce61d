"""A room's messages for code without a socket: a server-sent-events route, a background task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson

from fastapi_rooms.core.outbox import Outbox, OutboxPolicy, Verdict
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import ListenerOverflow
from fastapi_rooms.types import Room


class RoomMessage(NamedTuple):
    """One message, and the room it was heard in."""

    room: Room
    """The room listened to; the first of them when the message went to several."""
    payload: Payload
    """The message as it travels; the properties below read it."""

    @property
    def binary(self) -> bool:
        """Whether it was sent as bytes rather than text."""
        return self.payload.binary

    @property
    def text(self) -> str:
        """The message as text. Raises `UnicodeDecodeError` for bytes that are no UTF-8."""
        return self.payload.text

    @property
    def bytes(self) -> bytes:
        """The message as bytes; text as UTF-8."""
        return self.payload.data

    def json(self) -> Any:
        """The message as JSON. Raises `json.JSONDecodeError`, a `ValueError`, if it is none."""
        return orjson.loads(self.payload.data)


class Listener(AsyncIterator[RoomMessage]):
    """An endless iterator over what is sent to some rooms, bounded by an outbox policy."""

    def __init__(self, rooms: tuple[Room, ...], policy: OutboxPolicy) -> None:
        self.rooms = rooms
        """The rooms listened to."""
        self._policy = policy
        self._waiting: Outbox[RoomMessage] = Outbox(policy)
        self._arrived = asyncio.Event()
        self._overflowed = False
        self._closed = False

    @property
    def dropped(self) -> int:
        """How many messages were dropped because this listener did not keep up."""
        return self._waiting.dropped

    def offer(self, target: Target, payload: Payload) -> None:
        """Take a message that was sent to one of the rooms."""
        if self._overflowed or self._closed:  # a busy room would never let it end
            return
        room = next(name for name in target.rooms or () if name in self.rooms)
        verdict = self._waiting.offer(RoomMessage(room, payload), len(payload.data))
        self._overflowed = verdict is Verdict.OVERFLOW
        self._arrived.set()

    async def drain(self, timeout: float) -> None:  # noqa: ARG002 -- it takes no time
        """End the iteration, as this worker drains."""
        self.close()

    def close(self) -> None:
        """End the iteration after what has arrived."""
        self._closed = True
        self._arrived.set()

    async def __anext__(self) -> RoomMessage:
        while not self._waiting:
            if self._overflowed:
                raise ListenerOverflow(
                    f"More than {self._policy.max_bytes} bytes waited for this listener of "
                    f"{', '.join(map(repr, self.rooms))}. Read faster, or listen with "
                    "outbox=OutboxPolicy(overflow='drop_oldest')."
                )
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.pop()
