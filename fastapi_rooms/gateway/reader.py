"""Reads from a client of an edge, and has its present endpoint get what it says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.types import Message

from fastapi_rooms.core.close_codes import ABNORMAL_CLOSURE, MESSAGE_TOO_BIG, NO_STATUS
from fastapi_rooms.gateway.conversation import Conversation
from fastapi_rooms.gateway.outbound import Kept
from fastapi_rooms.wire.gateway import FrameKind

logger = logging.getLogger("fastapi_rooms")


class Reader:
    """Reads from one client. It holds one message at most, as long as no endpoint takes it."""

    def __init__(
        self,
        receive: Callable[[], Awaitable[Message]],
        gone: Callable[[int, str], None],
        close: Callable[[int, str], Awaitable[None]],
        max_bytes: int,
    ) -> None:
        self.receive = receive
        """Gives what comes of the client."""
        self._tell_gone = gone
        self._close = close
        self._max_bytes = max_bytes
        self._task: asyncio.Task[None] | None = None
        self._held: Kept | None = None
        self._conversation: Conversation | None = None
        self._attached = asyncio.Event()
        self._sending = asyncio.Lock()
        """Held while a message is sent: one that is cancelled then would be a hole."""
        self.gone: tuple[int, str] | None = None
        """Code and reason, once the client is gone."""

    def attach(self, conversation: Conversation) -> None:
        """From now on, what the client says is for this endpoint."""
        self._conversation = conversation
        self._attached.set()

    def start(self) -> None:
        """Read."""
        if self._task is None and self.gone is None:
            self._task = asyncio.create_task(self._read())

    async def pause(self) -> None:
        """Do not read for now: what has been read is kept, and what is being sent goes out."""
        task, self._task = self._task, None
        if task is not None:
            async with self._sending:
                task.cancel()
            await asyncio.wait((task,))

    def stop(self) -> None:
        """Read no more."""
        task, self._task = self._task, None  # which has this: see `EdgeClient.run`
        if task is not None:
            task.cancel()

    async def _read(self) -> None:
        try:
            while True:
                if self._held is None:
                    message = await self.receive()
                    if message["type"] == "websocket.disconnect":
                        self.left(message.get("code") or NO_STATUS, message.get("reason") or "")
                        return
                    kept = _kept(message)
                    if len(kept[1]) > self._max_bytes:
                        await self._close(MESSAGE_TOO_BIG, "message too big")
                        self.left(MESSAGE_TOO_BIG, "message too big")
                        return
                    self._held = kept
                await self._forward(self._held)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 -- every server raises its own
            logger.debug("A client of this edge cannot be read from: %r", error)
            self.left(ABNORMAL_CLOSURE, "")

    async def _forward(self, held: Kept) -> None:
        while True:
            await self._attached.wait()
            conversation = self._conversation
            assert conversation is not None
            if await conversation.has_room():
                async with self._sending:
                    self._held = None
                    await conversation.send(held)
                return
            if conversation is self._conversation:
                self._attached.clear()

    def left(self, code: int, reason: str) -> None:
        """The client is gone."""
        self.gone = code, reason
        self._tell_gone(code, reason)


def _kept(message: Message) -> Kept:
    text = message.get("text")
    if text is None:
        return FrameKind.BYTES, message["bytes"]
    return FrameKind.TEXT, text.encode("utf-8", "surrogatepass")
