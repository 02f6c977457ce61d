"""What an endpoint says to its client, as fast as the other side takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi_rooms.core.link import WINDOW, Link
from fastapi_rooms.core.parts import LONGEST, PART
from fastapi_rooms.errors import MessageTooLarge
from fastapi_rooms.servers.gateway.passage import Passage
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import FrameKind


class Outgoing:
    """The messages of one endpoint.

    Args:
        link: what is known of its connection.
        passage: the way to the edge, for all connections with it.
        changed: set whenever something of the connection has changed.
    """

    def __init__(self, link: Link[None], passage: Passage, changed: asyncio.Event) -> None:
        self._link = link
        self._passage = passage
        self._changed = changed
        self._turn: asyncio.Lock | None = None  # from the first message on that has to wait

    async def send(
        self,
        kind: FrameKind,
        message: bytes,
        publish: Callable[[FrameKind, bytes], Awaitable[None]],
        post: Callable[[FrameKind, bytes], None],
        check_open: Callable[[], None],
    ) -> None:
        """Send a message, once there is room. Returns when the edge may have it.

        After one that is longer than the window, the edge has written it: as at a server, who sends
        has waited for a client that is slow, and may close it then. One that is cancelled or fails
        on its way is not sent; the edge drops what it has of it.

        Args:
            kind: whether it is text or bytes.
            message: what the client is to get.
            publish: publishes a frame.
            post: publishes one that nobody waits for.
            check_open: raises if the client is gone.

        Raises:
            MessageTooLarge: it is too long to be sent; nothing was.
        """
        size = len(message)
        if size > LONGEST:
            raise MessageTooLarge(size, LONGEST, "for the client of an edge")
        check_open()
        link, passage = self._link, self._passage
        if self._turn is None:
            if size <= PART and link.may_send and passage.has_room:
                passage.sent(size)
                link.sent(None, size)
                await publish(kind, message)
                return
            self._turn = asyncio.Lock()
        async with self._turn:  # what others send meanwhile is not to be between the parts
            is_within = False
            try:
                for part, body in wire.frames_of(kind, message):
                    await self._have_room(len(body), check_open)
                    is_within = not wire.ends_message(part, body)
                    if is_within:
                        link.sent_part(len(body))
                    else:
                        link.sent(None, len(body))
                    await publish(part, body)
            except BaseException:
                if is_within:
                    post(FrameKind.PART, b"")
                raise
            while size > WINDOW and link.unacknowledged:
                await self._change(check_open)

    async def _have_room(self, size: int, check_open: Callable[[], None]) -> None:
        """Return when so much may be sent."""
        check_open()
        while not self._link.may_send:
            await self._change(check_open)
        if self._passage.has_room:
            self._passage.sent(size)
            return
        may_go: list[None] = []

        def go() -> None:
            may_go.append(None)
            self._changed.set()

        self._passage.wait(size, go)
        try:
            while not may_go:
                await self._change(check_open)
        finally:
            self._passage.give_up(go)

    async def _change(self, check_open: Callable[[], None]) -> None:
        """Wait until something has changed."""
        self._changed.clear()
        await self._changed.wait()
        check_open()
