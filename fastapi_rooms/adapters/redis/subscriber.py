"""The subscribing connection: asks for what is wanted, and hands over what arrives.

Strategy: [fastapi_rooms.adapters.subscriptions][] decides, this file writes and listens. Wishes of
one loop turn become one command of many channels; every (re)connection starts by asking for all
that is wanted, in bounded batches, and is only called connected when all of it is confirmed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import hiredis
from redis.asyncio.connection import ConnectionPool

from fastapi_rooms.adapters.base import Outage, Receiver
from fastapi_rooms.adapters.redis.link import Link, pack
from fastapi_rooms.adapters.subscriptions import Subscriptions
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel

BATCH = 512
"""Channels per command, so that Redis never works on ours for long."""


class _Waiter:
    """One `subscribe` call: done when its last channel is live."""

    __slots__ = ("done", "missing")

    def __init__(self, missing: set[Channel]) -> None:
        self.missing = missing
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Subscriber:
    """Keeps the wanted channels subscribed over one supervised link."""

    def __init__(
        self,
        pool: ConnectionPool,
        receiver: Receiver,
        changed: Callable[[], None],
        *,
        connect_timeout: float,
    ) -> None:
        self._pool = pool
        self._receiver = receiver
        self._changed = changed
        self._connect_timeout = connect_timeout
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._subscriptions = Subscriptions()
        self._waiters: dict[Channel, list[_Waiter]] = {}
        self._asked: deque[list[Channel]] = deque()
        self._last_progress = 0.0
        self._flush_scheduled = False
        self._lost: tuple[float, frozenset[Channel]] | None = None
        self._complete = False
        self._last_received: float | None = None
        self.why_down = ""
        self.refused = False
        self.reconnects = 0
        """How often every subscription was confirmed again after a loss."""

    @property
    def connected(self) -> bool:
        """Whether there is a link on which all that was wanted has been confirmed."""
        return self._complete

    @property
    def last_received(self) -> float | None:
        """When Redis last sent anything, in seconds since the epoch."""
        return self._link.last_received if self._link is not None else self._last_received

    def is_stuck(self, seconds: float) -> bool:
        """Whether Redis has owed us a confirmation, or withheld one, for longer than that."""
        if self._link is None or (self._complete and not self._asked):
            return False
        return self._loop.time() - self._last_progress > seconds

    def abort(self, reason: str) -> None:
        """Give the present link up; the supervisor makes another."""
        if self._link is not None:
            self._link.abort(reason)

    def want(self, channels: Iterable[Channel]) -> None:
        """Want channels, without waiting."""
        self._subscriptions.want(channels)
        self._schedule_flush()

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Want channels and return when all of them are live."""
        missing = {c for c in channels if not self._subscriptions.is_live(c)}
        if missing:
            self.want(missing)
            # One that was to be left in this very turn is live again by the wish alone.
            missing = {c for c in missing if not self._subscriptions.is_live(c)}
        if not missing:
            return
        waiter = _Waiter(missing)
        for channel in missing:
            self._waiters.setdefault(channel, []).append(waiter)
        try:
            await waiter.done
        finally:
            for channel in waiter.missing:  # empty unless we stopped waiting
                self._waiters[channel].remove(waiter)
                if not self._waiters[channel]:
                    del self._waiters[channel]

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Want channels no more."""
        self._subscriptions.unwant(channels)
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if self._link is not None and not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._link is None:
            return
        subscribe, unsubscribe = self._subscriptions.take_due()
        commands = []
        for verb, channels in ((b"SUBSCRIBE", subscribe), (b"UNSUBSCRIBE", unsubscribe)):
            for start in range(0, len(channels), BATCH):
                batch = channels[start : start + BATCH]
                commands.append(pack(verb, *batch))
                self._asked.append(batch)
        if commands:
            if len(self._asked) == len(commands):
                self._last_progress = self._loop.time()
            self._link.write(b"".join(commands))

    # What the link and its supervisor call.

    async def open(self) -> Link:
        """A link whose replies come here."""
        return await Link.open(self._pool, self.reply, self._connect_timeout)

    def link_up(self, link: Link) -> None:
        """Ask the new connection for everything."""
        self._link = link
        self._subscriptions.reset()
        self._asked.clear()
        self._last_progress = self._loop.time()
        self._flush()
        self._check_settled()

    def link_down(self, reason: str, *, refused: bool = False) -> None:
        """Nothing is confirmed any more."""
        self.why_down, self.refused = reason, refused
        if self._link is not None:
            self._last_received = self._link.last_received
            self._link = None
            self._complete = False
            if self._lost is None:
                self._lost = (self._last_received, frozenset(self._subscriptions.wanted))
            self._subscriptions.reset()
        self._changed()

    def reply(self, reply: Any) -> None:
        """A message, a confirmation, or a refusal."""
        if isinstance(reply, hiredis.ReplyError):
            self._refused(reply)
            return
        try:
            kind, channel, data = reply
        except (TypeError, ValueError):
            return  # a maintenance notice of a hosted Redis, or a pong
        if kind == b"message":
            self._receiver.received(channel, data)
        elif kind == b"subscribe":
            self._answered()
            if self._subscriptions.confirm_subscribed(channel):
                self._wake(channel)
            self._after_confirmation()
        elif kind == b"unsubscribe" and channel is not None:
            self._answered()
            self._subscriptions.confirm_unsubscribed(channel)
            self._after_confirmation()

    def _answered(self) -> None:
        """Confirmations come in the order of the commands, one for each channel."""
        self._last_progress = self._loop.time()
        if self._asked:
            self._asked[0].pop()
            if not self._asked[0]:
                self._asked.popleft()

    def _after_confirmation(self) -> None:
        self._schedule_flush()
        self._check_settled()

    def _check_settled(self) -> None:
        if self._link is None or self._complete or not self._subscriptions.settled:
            return
        self._complete = True
        if self._lost is not None:
            since, channels = self._lost
            self._lost = None
            self.reconnects += 1
            self._receiver.gap(Outage(since, time.time(), channels & self._subscriptions.wanted))
        self._changed()

    def _wake(self, channel: Channel) -> None:
        for waiter in self._waiters.pop(channel, ()):
            waiter.missing.discard(channel)
            if not waiter.missing and not waiter.done.done():
                waiter.done.set_result(None)

    def _refused(self, error: Exception) -> None:
        self._last_progress = self._loop.time()
        batch = self._asked.popleft() if self._asked else []
        self._subscriptions.refused(batch)
        if not self._complete:  # else it is a join's own trouble
            self.why_down = f"it refused to subscribe: {error}"
            self.refused = str(error).startswith(("NOPERM", "NOAUTH"))
            self._changed()
        for channel in batch:
            for waiter in list(self._waiters.get(channel, ())):
                if not waiter.done.done():
                    waiter.done.set_exception(
                        AdapterUnavailable(f"Redis refused to subscribe: {error}")
                    )

    def close(self) -> None:
        """Fail whoever still waits."""
        for waiters in list(self._waiters.values()):
            for waiter in waiters:
                if not waiter.done.done():
                    waiter.done.set_exception(AdapterUnavailable("The manager was closed."))
