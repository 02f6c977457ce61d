"""What an edge and one backend say to each other about one client: one endpoint, once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from fastapi_rooms.core.close_codes import ABNORMAL_CLOSURE
from fastapi_rooms.core.link import WINDOW
from fastapi_rooms.core.parts import Assembly
from fastapi_rooms.errors import AdapterUnavailable, MalformedEnvelope, UsageError
from fastapi_rooms.gateway.outbound import Kept, Outbound
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind, Headers

if TYPE_CHECKING:
    from fastapi_rooms.gateway.edge import Gateway

logger = logging.getLogger("fastapi_rooms")

MAX_QUEUED = 10_000
"""Frames that may wait for a client. Messages have less: their window is the limit."""

MAX_QUEUED_BYTES = 4 * wire.MAX_JSON
"""Bytes that those of them may have that are no messages."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to take what its endpoint has sent it, once that has closed it."""

ANSWERED = 1.0
"""Seconds that the carrier has to say whom the last message to a dead backend has reached."""

STILL = 1.0
"""Seconds after which the backend is told that what it asks for waits, or is being done."""


class Outcome(Enum):
    """How a conversation has ended."""

    DONE = "the client is closed, or gone"
    LOST = "the backend is gone, or something was missed"
    RELEASED = "the backend leaves, and has said what was taken"


class Addressee(Protocol):
    """The client, as far as a backend has to do with it."""

    async def accept(self, about: dict[str, Any]) -> None:
        """Accept its handshake, if that was not done for an earlier endpoint."""

    @property
    def is_accepted(self) -> bool:
        """Whether its handshake was accepted, for this endpoint or an earlier one."""

    async def deny(self, status: int, headers: Headers, body: bytes) -> None:
        """Refuse its handshake; close it, if that was accepted for an earlier endpoint."""

    async def close(self, code: int, reason: str) -> None:
        """Close it, behind what was sent before."""

    def abort(self) -> None:
        """Abort its connection, if that can be."""

    def write_at_once(self, frame: Frame) -> bool:
        """Write a message now; false if it has to wait."""

    async def write(self, frame: Frame) -> bool:
        """Write a message, and return when the server has it; false if the client is gone."""

    def leave(self) -> None:
        """Take it for gone, whatever of it was not read yet."""

    def call_at_once(self, call: dict[str, Any]) -> bool:
        """Do something with its sockets now; false if it has to wait."""

    async def call(self, call: dict[str, Any], reply: Callable[[dict[str, Any]], None]) -> None:
        """Do something with its sockets, and reply, at once or later, if that is wanted."""

    def attached(self, conversation: Conversation) -> None:
        """What it says from now on is for this endpoint."""

    def about_to_speak(self) -> None:
        """It is about to say something to the endpoint."""


class Conversation(Outbound):
    """One, from the opening of the endpoint to its end, whoever ends it."""

    def __init__(
        self, gateway: Gateway, client: Addressee, node: NodeId, again: Iterable[Kept] = ()
    ) -> None:
        super().__init__(gateway, node, again)
        self._client = client
        self._frames: deque[tuple[Frame, int]] = deque()  # and what they count in the window
        self._queued_bytes = 0
        self._assembly = Assembly()
        self._is_busy = False  # with a frame
        self._calls = 0  # those among the frames, and one that is being done
        self._still: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._gone: tuple[int, str] | None = None
        self._is_answered = False  # as far as frames have come
        self.has_died = False
        """Whether it has ended by the death of the backend."""

    async def run(self, opening: dict[str, Any], deadline: float) -> Outcome:
        """Have the backend run the endpoint, and return how that has ended.

        An endpoint that has not accepted by the deadline, by the loop's clock, is given up.
        """
        self._gateway.register(self._connection, self)
        outcome = Outcome.LOST
        try:
            outcome = await self._converse(opening, deadline)
        except asyncio.CancelledError:
            self.post(FrameKind.CLOSE, wire.pack_close(ABNORMAL_CLOSURE, ""))
            outcome = Outcome.DONE
            raise
        except AdapterUnavailable as error:
            logger.debug("A backend could not be reached: %s", error)
        except (MalformedEnvelope, UsageError) as error:
            self._gateway.frames.malformed += 1
            logger.debug("A backend sent what cannot be: %s", error)
        finally:
            for timer in (self._closing, self._still, self._leaving):
                if timer is not None:
                    timer.cancel()
            self._end()
            if self.has_died and self._unanswered:
                await self._answered()
            self._is_done = True
            self.again.extendleft(reversed(self._unheard))
            self._gateway.unregister(self._connection)
            if outcome is Outcome.LOST:
                self._gateway.reset(self.node, self._connection)
        return outcome

    async def _converse(self, opening: dict[str, Any], deadline: float) -> Outcome:
        if await self._frame(FrameKind.OPEN, wire.to_json(opening)) == 0:
            self._gateway.is_gone(self.node)
        while True:
            while self._frames and not self._is_over:
                frame, size = self._frames.popleft()
                if frame.kind not in wire.MESSAGES:
                    self._queued_bytes -= len(frame.body)
                self._is_busy = True
                outcome = await self._handle(frame, size)
                self._is_busy = False
                if outcome is not None:
                    return outcome
            if self._gone is not None and not (self.again and self.is_accepted):
                await self._frame(FrameKind.CLOSE, wire.pack_close(*self._gone))
                return Outcome.DONE
            if self._is_over:
                return Outcome.LOST
            self._changed.clear()
            try:
                async with asyncio.timeout_at(None if self.is_accepted else deadline):
                    await self._changed.wait()
            except TimeoutError:
                return Outcome.LOST

    async def send(self, message: Kept) -> None:
        """Send the endpoint a message of the client."""
        self._client.about_to_speak()
        await super().send(message)

    async def _answered(self) -> None:
        """Return when it is known whom all that was sent has reached, if that is soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWERED):
                while self._unanswered:
                    self._changed.clear()
                    await self._changed.wait()

    def client_gone(self, code: int, reason: str) -> None:
        """The client is gone: the endpoint is to hear that, behind what it has said."""
        self._gone = code, reason
        self._changed.set()

    def _is_unheard(self) -> None:
        """An endpoint speaks to a client that is gone, and may not have read all of it.

        If it does not, it is to know all the same.
        """
        if self._leaving is None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(CLOSE_TIMEOUT, self._leave_if_at, self._sent_frames)

    def _leave_if_at(self, sent_frames: int) -> None:
        self._leaving = None
        if self._sent_frames != sent_frames:
            self._is_unheard()
            return
        self.again.clear()
        if self._gone is None:
            self._client.leave()
        self._changed.set()

    def _all_sent(self) -> None:
        super()._all_sent()
        self._changed.set()

    def lose(self) -> None:
        """The backend is gone, or something was missed: unless it has said how this ends."""
        if not self._is_closed:
            self._end()

    def died(self) -> None:
        """The backend is dead: unless it has said how this ends."""
        if not (self._is_closed or self._is_over):
            self.has_died = True
            self._end()

    def _end(self) -> None:
        super()._end()
        self._changed.set()

    # From the backend.

    def received(self, frame: Frame) -> None:
        """Take a frame of the backend."""
        if self._is_over or self._is_closed:
            return
        kind = frame.kind
        follows = kind is not FrameKind.RESET and self._link.follows(frame.sequence)
        if not follows or len(self._frames) >= MAX_QUEUED:
            self.lose()
            return
        self._check_state(kind)
        self._is_closed = kind in (FrameKind.CLOSE, FrameKind.DENY, FrameKind.RELEASE)
        size = len(frame.body)
        if kind is FrameKind.PART and not size:
            self._assembly.drop()
            return
        if kind in wire.MESSAGES:
            if not self._link.came(size):
                self.lose()
                return
            frame = self._put_together(frame)
            if not self._frames and self._take_at_once(frame, size):
                return
        elif kind is FrameKind.CALL:
            if not self._calls and self._client.call_at_once(wire.read_json(frame.body)):
                return
            self._calls += 1
            self._tell_later()
        elif kind is FrameKind.CLOSE:
            self._closing = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._client.abort)
        elif kind is FrameKind.CREDIT:
            self._credited(frame.body)
            return
        if kind not in wire.MESSAGES:
            self._queued_bytes += size
            if self._queued_bytes > MAX_QUEUED_BYTES:
                self.lose()
                return
        self._frames.append((frame, size))
        self._changed.set()

    def _check_state(self, kind: FrameKind) -> None:
        """Raise `MalformedEnvelope` for what cannot come now."""
        if kind in (FrameKind.CREDIT, FrameKind.RELEASE):
            return
        answers = kind in (FrameKind.ACCEPT, FrameKind.DENY)
        if kind is FrameKind.CLOSE and not self._is_answered:
            answers = self._client.is_accepted  # for an earlier endpoint: this one refuses
        if answers is self._is_answered:
            raise MalformedEnvelope(f"a backend says {kind.name} where that cannot be")
        self._is_answered = True

    def _put_together(self, frame: Frame) -> Frame:
        """A message that has come whole, or a part without its body. Raises `MalformedEnvelope`."""
        if frame.kind is not FrameKind.PART:
            self._assembly.drop()
            return frame
        kind, part = wire.unpack_part(frame.body)
        message = wire.put_together(self._assembly, part)
        return (
            frame._replace(body=b"") if message is None else frame._replace(kind=kind, body=message)
        )

    def _take_at_once(self, frame: Frame, size: int) -> bool:
        """Take a message or a part now; false if it has to wait.

        A part is not taken, and so no more come, before the message that precedes it was written.
        """
        if frame.kind is FrameKind.PART:
            taken = not self._is_busy
        else:
            taken = self._client.write_at_once(frame)
        if taken:
            self._took(frame, size)
        return taken

    def _took(self, frame: Frame, size: int) -> None:
        if frame.kind is FrameKind.PART:
            credit = self._link.took_part(size)
        else:
            credit = self._link.took(size)
            if len(frame.body) > WINDOW:  # who has sent it waits for that
                credit = credit or self._link.credit()
        if credit is not None:
            self.post(FrameKind.CREDIT, wire.pack_credit(*credit))

    def _tell_later(self) -> None:
        """The backend asks for something that has to wait, or takes its time: it is to know that.

        It waits for an answer as long as it hears of it, as it would for a client that is slow.
        """
        if self._still is None and not self._is_over:
            self._still = asyncio.get_running_loop().call_later(STILL, self._tell_still)

    def _tell_still(self) -> None:
        self._still = None
        if self._calls:
            self._reply({"id": 0, "pending": True})
            self._tell_later()

    async def _handle(self, frame: Frame, size: int) -> Outcome | None:
        kind, body = frame.kind, frame.body
        if kind is FrameKind.ACCEPT:
            await self._accept(wire.read_json(body))
        elif kind is FrameKind.DENY:
            await self._client.deny(*wire.unpack_deny(body))
            return Outcome.DONE
        elif kind in wire.MESSAGES:
            if kind is not FrameKind.PART and not await self._client.write(frame):
                self._is_unheard()
            self._took(frame, size)
        elif kind is FrameKind.CLOSE:
            await self._client.close(*wire.unpack_close(body))
            return Outcome.DONE
        elif kind is FrameKind.CALL:
            await self._client.call(wire.read_json(body), self._reply)
            self._calls -= 1
        elif kind is FrameKind.RELEASE:
            return self._release(wire.unpack_release(body))
        else:
            return Outcome.LOST
        return None

    def _reply(self, reply: dict[str, Any]) -> None:
        self.post(FrameKind.REPLY, wire.to_json(reply))

    async def _accept(self, about: dict[str, Any]) -> None:
        await self._client.accept(about)
        self.is_accepted = True
        self._go_on()
        if not self._is_over:
            self._client.attached(self)

    def _release(self, taken: int) -> Outcome:
        not_taken = self._link.not_taken(taken)
        if not_taken is None:
            return Outcome.LOST
        self.again.extendleft(reversed(not_taken))
        return Outcome.RELEASED
