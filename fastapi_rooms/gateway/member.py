"""What an edge and a backend have in common: a manager, heartbeats, and frames."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from fastapi_rooms.adapters import AdapterLike
from fastapi_rooms.errors import AdapterUnavailable, NotStarted, UsageError
from fastapi_rooms.gateway.passages import Passages
from fastapi_rooms.manager import RoomManager
from fastapi_rooms.servers.gateway.posting import post
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import NO_CONNECTION, Frame, FrameKind
from fastapi_rooms.worker.frames import Frames

logger = logging.getLogger("fastapi_rooms")

INTERVAL = 1.0
"""Seconds between heartbeats."""

ANSWER_INTERVAL = 0.1
"""Seconds between heartbeats that answer those who are new: each goes to all."""

MAX_RESETS = 10_000
"""How many connections others are told once more to be over, if the carrier did not take that."""


class Member:
    """Runs a manager, unless the application does, and sends a heartbeat."""

    def __init__(self, adapter: AdapterLike | RoomManager) -> None:
        self.manager = adapter if isinstance(adapter, RoomManager) else RoomManager(adapter)
        """The manager whose carrier is used: the one that was given, or one of its own."""
        self._frames: Frames | None = None
        self._beating: asyncio.Task[None] | None = None
        self._next_answer = 0.0
        self._answering: asyncio.TimerHandle | None = None
        self._is_leaving = False
        self._echoes = 0
        self._resets: deque[tuple[NodeId, bytes]] = deque(maxlen=MAX_RESETS)
        self.passages = Passages(self._publish_unnumbered, lambda: self.peers)
        """The ways to those whom it has connections with."""

    @property
    def frames(self) -> Frames:
        """The frames of the present run. Raises `NotStarted`."""
        if self._frames is None:
            raise NotStarted
        return self._frames

    async def __aenter__(self) -> Self:
        """Start. Raises `UsageError` if it runs, and what starting the manager raises."""
        if self._frames is not None:
            raise UsageError(f"This {type(self).__name__} is running already.")
        await self.manager.__aenter__()
        frames = self.manager._runtime.run.frames
        if frames.receivers:  # they would take each other's frames
            await self.manager.__aexit__()
            raise UsageError(
                "This RoomManager has a Gateway or a Backend that is running. Each needs a manager "
                "of its own; one Gateway may have many routes."
            )
        self._frames = frames
        self._is_leaving = False
        self._echoes = 0
        self.begin()
        frames.receivers.append(self)
        self.beat(hello=True)
        self._beating = asyncio.create_task(self._beat_on())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """End, with all that belongs to it."""
        frames = self.frames
        try:
            try:
                await self.close()
            finally:
                await self.beat_no_more()
        finally:
            frames.receivers.remove(self)
            self._frames = None
            try:
                await self.manager.__aexit__(exc_type, exc, traceback)
            finally:
                await self.ended()

    @property
    def is_leaving(self) -> bool:
        """Whether it says with its heartbeat that it takes nobody any more."""
        return self._is_leaving

    async def leave(self) -> None:
        """Say so from now on, and at once."""
        self._is_leaving = True
        with suppress(AdapterUnavailable, TimeoutError):
            async with asyncio.timeout(INTERVAL):
                await self._publish_beat()

    async def beat_no_more(self) -> None:
        """End the heartbeat."""
        beating, self._beating = self._beating, None
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
        if beating is not None:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    def publish(
        self, to: NodeId, connection: bytes, kind: FrameKind, sequence: int, body: bytes
    ) -> Awaitable[int | None]:
        """Begin to send a frame to a worker: see `Frames.publish`."""
        frames = self.frames
        return frames.publish(to, Frame(kind, frames.node, connection, sequence, body))

    def _publish_unnumbered(self, to: NodeId, kind: FrameKind, body: bytes) -> Awaitable[object]:
        return self.publish(to, NO_CONNECTION, kind, 0, body)

    def why_not_ready(self) -> str:
        """Why no new clients should come here now; empty if they may."""
        if self._frames is None:
            return "It is not running."
        health = self.manager.health
        if health.ready:
            return ""
        return health.reason or ("It is draining." if health.connected else "It is not connected.")

    @property
    def dropped(self) -> int:
        """How many frames came that made no sense."""
        return 0 if self._frames is None else self._frames.malformed

    def reset(self, to: NodeId, connection: bytes) -> None:
        """Tell a worker that a connection with it is over."""
        if self._frames is not None:
            again = partial(self._resets.append, (to, connection))
            post(self.publish(to, connection, FrameKind.RESET, 0, b""), again)

    def beat(self, **about: bool) -> None:
        """Send a heartbeat now."""
        if self._frames is not None and self.may_be_known():
            post(self._publish_beat(**about))

    def beat_soon(self) -> None:
        """Send one for somebody who is new: one is for all who come within a tenth of a second."""
        loop = asyncio.get_running_loop()
        if self._next_answer <= loop.time():
            self._next_answer = loop.time() + ANSWER_INTERVAL
            self.beat()
        elif self._answering is None:
            self._answering = loop.call_at(self._next_answer, self._answer)

    def _answer(self) -> None:
        self._answering = None
        self.beat_soon()

    def _publish_beat(self, **about: bool) -> Awaitable[object]:
        frames = self.frames
        if self.is_leaving:
            about["leaving"] = True
        body = wire.to_json(self.describe() | about)
        return frames.publish(None, Frame(FrameKind.BEAT, frames.node, NO_CONNECTION, 0, body))

    async def _beat_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(INTERVAL)
            try:
                self._beat_once(loop.time(), late=loop.time() - before > 2 * INTERVAL)
            except Exception:
                logger.exception("A heartbeat of an edge or a backend has failed")

    def _beat_once(self, now: float, *, late: bool) -> None:
        echoes, before = self.frames.echoes, self._echoes
        self._echoes = echoes
        late = late or 0 < echoes == before  # its own heartbeat has not come back either
        self.beat()
        resets, self._resets = self._resets, deque(maxlen=MAX_RESETS)
        for to, connection in resets:
            self.reset(to, connection)
        self.tick(now, late=late)
        self.passages.tick()

    def may_be_known(self) -> bool:
        """Whether others may know of it."""
        return True

    @abstractmethod
    def begin(self) -> None:
        """Its run begins: nothing of an earlier one counts any more."""

    async def ended(self) -> None:
        """Its run is over, and that of the manager, if nobody else needs it."""

    @property
    @abstractmethod
    def peers(self) -> int:
        """How many workers send it messages."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a heartbeat says."""

    @abstractmethod
    def role(self) -> dict[str, Any]:
        """What a worker says of itself when others ask: see `cluster.description`."""

    @abstractmethod
    def tick(self, now: float, *, late: bool) -> None:
        """Called after each heartbeat.

        If it is `late`, this process did not run, or the carrier stood still: nobody is silent.
        """

    @abstractmethod
    async def close(self) -> None:
        """End every connection."""

    @abstractmethod
    def received(self, frame: Frame) -> bool:
        """A frame has come. Returns whether it is for this one alone."""

    def unknown(self, frame: Frame) -> None:
        """A frame was for nobody here."""

    @abstractmethod
    def gap(self) -> None:
        """Frames may have been missed."""
