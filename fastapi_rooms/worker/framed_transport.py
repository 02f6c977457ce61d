"""The transport to a client that speaks the framing: another one, with the framing in front.

A message is framed once for all of these clients, and what has no place in a room is not framed at
all: they get the frame that all others get.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Message

from fastapi_rooms.core.compression import Deflate
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Outgoing, Payload
from fastapi_rooms.transports import Transport
from fastapi_rooms.transports.write_loop import write
from fastapi_rooms.types import Room
from fastapi_rooms.wire import client_framing
from fastapi_rooms.wire.client_framing import ClientResume, framed, framed_payload

_NULS = ("\0", b"\0")

SKIPPED_IN_A_TURN = 64
"""Messages of a client that are not for its endpoint, and are read in one turn of the loop."""


class FramedTransport:
    """Writes to one client by another transport."""

    fd: int | None = None  # so that every write comes here

    __slots__ = (
        "_has_answered",
        "_inner",
        "_skipped",
        "_unread",
        "alias",
        "is_silent",
        "joining",
        "positions",
        "replaying",
    )

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._unread: Message | None = None
        self._has_answered = False  # in this turn of the event loop
        self._skipped = 0  # heartbeats
        self.is_silent = True
        """Whether nothing has been written since this was last set."""
        self.alias: Room = ""
        """The name by which messages leave this client out, also when it comes again."""
        self.positions: dict[Room, str] = {}
        """The positions that it has brought, in the rooms that it has not joined again yet."""
        self.joining = asyncio.Lock()
        """Held by a join of rooms with a history: a second one of the same would double them."""
        self.replaying: set[Room] = set()
        """The rooms that are being replayed, and joined in the end."""

    # The beginning.

    def begin(self, token: str, first: Message | None) -> None:
        """The client was given a token, and this is its first message, unless that is late."""
        resume = None
        if first is not None:
            resume = client_framing.parse_resume(first.get("text"))
            self._unread = self._meant(first)
        resume = resume or ClientResume()
        self.alias = client_framing.alias_of(resume.token or token)
        self.positions = dict(resume.positions)

    def go_on_for(self, other: FramedTransport) -> None:
        """The client is one that had another transport before, and is in no room now."""
        self.alias, self.positions, self._unread = other.alias, other.positions, other._unread
        self.answers_by_itself()

    async def receive(self) -> Message:
        """The client's next ASGI event, without frames that are not for the endpoint."""
        message, self._unread = self._unread, None
        skipped = 0
        while message is None:
            if skipped >= SKIPPED_IN_A_TURN:
                await asyncio.sleep(0)  # a client that sends nothing else would let nobody else in
                skipped = 0
            message = self._meant(await self._inner.receive())
            skipped += 1
        return message

    def _meant(self, message: Message) -> Message | None:
        """An event as the endpoint is to have it; `None` if it is not for that."""
        for kind in ("text", "bytes"):
            data = message.get(kind)
            if data is None or data[:1] not in _NULS:
                continue
            if client_framing.is_resume(data):  # the first frame, or one that comes too late
                return None
            if data == client_framing.ASKS_FOR_HEARTBEAT:
                self._answer_once()
                return None
            message[kind] = client_framing.unescape(data)
        return message

    async def receive_first(self) -> Message:
        """The client's first ASGI event, whatever it is."""
        return await self._inner.receive()

    # Heartbeats.

    def answers_by_itself(self) -> bool:
        """From now on, answer a client that asks, even if its endpoint does not read.

        Returns false if the endpoint has to read for that.
        """
        return self._inner.intercept(client_framing.ASKS_FOR_HEARTBEAT, self._answer_once)

    def answer(self) -> None:
        """Send something; a client that has not read what is there needs no more."""
        before = self._inner.dropped
        write((self._inner,), client_framing.heartbeat(), volatile=True)
        self._skipped += self._inner.dropped - before

    def _answer_once(self) -> None:
        """One answer is for all who ask in the same turn: one read may bring tens of thousands."""
        if not self._has_answered:
            self._has_answered = True
            asyncio.get_running_loop().call_soon(self._answer_again)
            self.answer()

    def _answer_again(self) -> None:
        self._has_answered = False

    def intercept(self, text: str, answer: Callable[[], None]) -> bool:
        return self._inner.intercept(text, answer)

    # Writing.

    def write(self, message: Outgoing, sent: int = 0) -> None:  # noqa: ARG002 -- there is no `fd`
        self.is_silent = False
        write((self._inner,), framed(message), volatile=False)

    def write_volatile(self, message: Outgoing) -> None:
        self.is_silent = False
        write((self._inner,), framed(message), volatile=True)

    async def send(self, payload: Payload) -> None:
        self.is_silent = False
        await self._inner.send(framed_payload(payload))

    # All else is the other's.

    @property
    def deflate(self) -> Deflate | None:
        return self._inner.deflate

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def policy(self) -> OutboxPolicy:
        return self._inner.policy

    def never_drop(self) -> None:
        self._inner.never_drop()

    @property
    def pending(self) -> int:
        return self._inner.pending

    @property
    def dropped(self) -> int:
        return self._inner.dropped - self._skipped

    @property
    def is_flushed(self) -> bool:
        return self._inner.is_flushed

    async def flush(self) -> bool:
        return await self._inner.flush()

    async def drain(self, timeout: float) -> None:
        await self._inner.drain(timeout)

    def stop(self) -> None:
        self._inner.stop()

    def abort(self) -> bool:
        return self._inner.abort()
