"""The publishing connection: what is published in one turn of the event loop travels together.

Strategy: `publish` queues a command and waits for its reply's future. The queue is written once
per loop turn, in one write, without waiting for earlier replies. Redis answers in order, so the
replies are matched by position. What is unanswered when the connection breaks may or may not have
reached Redis; it goes out again on the next one, in the old order and before everything newer.
Receivers know each envelope by its origin and rising sequence and drop what they have seen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import ConnectionPool

from fastapi_rooms.adapters.redis.link import Link, pack
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel


class _Command:
    __slots__ = ("accepted", "data", "deadline")

    def __init__(self, data: bytes, accepted: asyncio.Future[None] | None, deadline: float) -> None:
        self.data = data
        self.accepted = accepted  # nobody waits for a volatile one
        self.deadline = deadline

    @property
    def given_up(self) -> bool:
        return self.accepted is None or self.accepted.done()


class Publisher:
    """Publishes in order over one supervised link, through short outages."""

    def __init__(
        self,
        pool: ConnectionPool,
        changed: Callable[[], None],
        *,
        connect_timeout: float,
        timeout: float,
        max_buffered: int,
    ) -> None:
        self._pool = pool
        self._changed = changed
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._max_buffered = max_buffered
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._queue: deque[_Command] = deque()
        self._unanswered: deque[_Command] = deque()
        self._flush_scheduled = False
        self._expiry: asyncio.TimerHandle | None = None
        self.why_down = ""
        self.refused = False
        self.buffered = 0
        """Bytes of the commands that are not answered yet."""
        self.dropped = 0
        """How many messages were not accepted."""

    @property
    def connected(self) -> bool:
        """Whether there is a link."""
        return self._link is not None

    async def publish(self, channel: Channel, data: bytes) -> None:
        """Return when Redis has accepted it. Raises `AdapterUnavailable` after the timeout."""
        if self.buffered + len(data) > self._max_buffered and self.buffered:
            self.dropped += 1
            raise AdapterUnavailable(
                f"{self.buffered} bytes wait to be published already, of {self._max_buffered} "
                f"allowed ({self._state()})."
            )
        accepted: asyncio.Future[None] = self._loop.create_future()
        self._enqueue(channel, data, accepted)
        await accepted

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send it in this turn, or drop it when there is no link or the link is behind."""
        if self._link is None or not self._link.writable or self.buffered > self._max_buffered:
            self.dropped += 1
        else:
            self._enqueue(channel, data, None)

    def _enqueue(
        self, channel: Channel, data: bytes, accepted: asyncio.Future[None] | None
    ) -> None:
        packed = pack(b"PUBLISH", channel, data)
        deadline = self._loop.time() + self._timeout
        self._queue.append(_Command(packed, accepted, deadline))
        self.buffered += len(packed)
        if self._link is not None and not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
        if self._expiry is None:
            self._expiry = self._loop.call_at(deadline, self._expire)

    def _flush(self) -> None:
        self._flush_scheduled = False
        link = self._link
        if link is None or not link.writable or not self._queue:
            return
        commands = list(self._queue)
        self._queue.clear()
        self._unanswered.extend(commands)
        link.write(b"".join([command.data for command in commands]))

    # What the link and its supervisor call.

    async def open(self) -> Link:
        """A link whose replies come here."""
        return await Link.open(self._pool, self.reply, self._connect_timeout)

    def link_up(self, link: Link) -> None:
        """Write what waits, what was unanswered first."""
        self._link = link
        link.on_writable = self._flush
        self._flush()
        self._changed()

    def link_down(self, reason: str, *, refused: bool = False) -> None:
        """Keep what is unanswered for the next link."""
        self._link = None
        self.why_down, self.refused = reason, refused
        again = [command for command in self._unanswered if not command.given_up]
        self.buffered -= sum(len(c.data) for c in self._unanswered if c.given_up)
        self._unanswered.clear()
        self._queue.extendleft(reversed(again))
        self._changed()

    def reply(self, reply: Any) -> None:
        """Redis' answer to the oldest unanswered command."""
        if isinstance(reply, hiredis.PushNotification) or not self._unanswered:
            return  # nothing we asked for: a maintenance notice of a hosted Redis, say
        command = self._unanswered.popleft()
        self.buffered -= len(command.data)
        failed = isinstance(reply, hiredis.ReplyError)
        self.dropped += failed
        if command.accepted is None or command.accepted.done():
            return
        if failed:
            command.accepted.set_exception(AdapterUnavailable(f"Redis refused to publish: {reply}"))
        else:
            command.accepted.set_result(None)

    def _expire(self) -> None:
        """Fail what has waited too long; a link that answers nothing for so long is given up."""
        self._expiry = None
        now = self._loop.time()
        for command in self._unanswered:
            if command.deadline > now:
                break
            self._fail(command)
            if self._link is not None:
                self._link.abort(f"no answer to PUBLISH for {self._timeout} s")
        while self._queue and self._queue[0].deadline <= now:
            command = self._queue.popleft()
            self.buffered -= len(command.data)
            self._fail(command)
        oldest = next((c for c in (*self._unanswered, *self._queue) if c.deadline > now), None)
        if oldest is not None:
            self._expiry = self._loop.call_at(oldest.deadline, self._expire)

    def _fail(self, command: _Command) -> None:
        if not command.given_up and command.accepted is not None:
            self.dropped += 1
            command.accepted.set_exception(
                AdapterUnavailable(
                    f"Redis did not accept it in {self._timeout} s ({self._state()})."
                )
            )

    def close(self) -> None:
        """Fail whoever still waits."""
        if self._expiry is not None:
            self._expiry.cancel()
        for command in (*self._unanswered, *self._queue):
            if not command.given_up and command.accepted is not None:
                command.accepted.set_exception(AdapterUnavailable("The manager was closed."))
        self._unanswered.clear()
        self._queue.clear()

    def _state(self) -> str:
        return "connected, but no answer comes" if self.connected else self.why_down
