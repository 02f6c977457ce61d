"""What an edge says to a backend about one client, as far as that has room for it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Iterable, Iterator
from typing import TYPE_CHECKING

from fastapi_rooms.core.link import Link
from fastapi_rooms.core.parts import PART
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.servers.gateway.posting import post
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import FrameKind

if TYPE_CHECKING:
    from fastapi_rooms.gateway.edge import Gateway

Kept = tuple[FrameKind, bytes]
"""A message of a client."""


class Outbound:
    """The direction to the backend of one connection with it."""

    def __init__(self, gateway: Gateway, node: NodeId, again: Iterable[Kept]) -> None:
        self._gateway = gateway
        self.node = node
        """The backend."""
        self._connection = secrets.token_bytes(8)
        self._link: Link[Kept] = Link()
        self._passage = gateway.passages.to(node)
        self._has_to_wait = False  # for room on the way to the backend
        self._changed = asyncio.Event()
        self._credit = asyncio.Event()
        self._is_over = self._is_done = self._is_closed = False
        self._sent_frames = 0  # of messages
        self._unanswered = 0  # messages of which the carrier has not said whom they have reached
        self._unheard: list[Kept] = []  # those that have reached nobody
        self.is_accepted = False
        """Whether the endpoint has accepted the client."""
        self.again = deque(again)
        """What the client said and no endpoint has taken, to be sent here, as far as it was not
        sent whole; in the end, to be sent to the next."""
        self._frames_left: Iterator[Kept] | None = None  # of the first of these, once it has begun
        self._next: Kept | None = None  # of these frames

    @property
    def lost(self) -> int:
        """How many messages were sent of which it is not known whether the endpoint took them."""
        return self._link.unacknowledged

    def _frame(self, kind: FrameKind, body: bytes) -> Awaitable[int | None]:
        number = self._link.number()
        return self._gateway.publish(self.node, self._connection, kind, number, body)

    def post(self, kind: FrameKind, body: bytes) -> None:
        """Send the backend a frame that nobody waits for."""
        if not self._is_over:
            post(self._frame(kind, body), self.lose)

    async def has_room(self) -> bool:
        """Return when the endpoint has room for a message; false if it has ended."""
        while not self._is_over:
            if not self.again and self._link.may_send:
                return True
            self._credit.clear()
            await self._credit.wait()
        return False

    async def send(self, message: Kept) -> None:
        """Send the endpoint a message of the client."""
        kind, body = message
        size = len(body)
        has_room = self._link.may_send and self._passage.has_room
        if self.again or size > PART or not has_room:
            self.again.append(message)
            self._go_on()
            return
        self._passage.sent(size)
        self._link.sent(message, size)
        await self._publish(message, kind, body)

    def _go_on(self) -> None:
        """Send what there is still to send, as far as there is room; whatever else, later."""
        while self.again and self.is_accepted and not (self._is_over or self._has_to_wait):
            if not self._link.may_send:
                return
            size = len(self._upcoming()[1])
            if not self._passage.has_room:
                self._has_to_wait = True
                self._passage.wait(size, self._may_go)
                return
            self._passage.sent(size)
            self._send_next()

    def _may_go(self) -> None:
        self._has_to_wait = False
        self._send_next()
        self._go_on()

    def _upcoming(self) -> Kept:
        """The next frame to send."""
        if self._frames_left is None:
            self._frames_left = wire.frames_of(*self.again[0])
        if self._next is None:
            self._next = next(self._frames_left)
        return self._next

    def _send_next(self) -> None:
        message, (kind, body) = self.again[0], self._upcoming()
        self._next = None
        if wire.ends_message(kind, body):
            self._frames_left = None
            self._link.sent(self.again.popleft(), len(body))
            if not self.again:
                self._all_sent()
        else:
            self._link.sent_part(len(body))
        post(self._publish(message, kind, body), self.lose)

    def _all_sent(self) -> None:
        """Nothing that the client has said waits here any more."""
        self._credit.set()

    def _publish(self, message: Kept, kind: FrameKind, body: bytes) -> Awaitable[None]:
        """Begin to send a message, or a part of it."""
        self._sent_frames += 1
        self._unanswered += 1
        return self._see_to(message, time.time(), self._frame(kind, body))

    async def _see_to(self, message: Kept, began: float, publishing: Awaitable[int | None]) -> None:
        """A message that has reached nobody is for the next endpoint."""
        try:
            reached = await publishing
        except AdapterUnavailable:
            self.lose()
            return
        finally:
            self._unanswered -= 1
            self._changed.set()
        if reached != 0 or self._is_done or self._is_closed:
            return
        # What is written once more, after the carrier was away, may have arrived before that.
        health = self._gateway.manager.health
        if health.connected and health.since < began and self._link.withdraw(message):
            self._unheard.append(message)
        self._gateway.is_gone(self.node)

    def _credited(self, body: bytes) -> None:
        """The endpoint has taken something. Raises `MalformedEnvelope`."""
        if not self._link.credited(*wire.unpack_credit(body)):
            self.lose()
        self._credit.set()
        self._go_on()

    def lose(self) -> None:
        """The backend is gone, or something was missed."""
        self._end()

    def _end(self) -> None:
        self._is_over = True
        self._credit.set()
        self._passage.give_up(self._may_go)
