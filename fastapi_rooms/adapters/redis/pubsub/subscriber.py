"""The subscribing connection: asks for what is wanted, and hands over what arrives.

Strategy: [fastapi_rooms.adapters.subscriptions][] decides, this file writes and listens. Wishes of
one loop turn become one command of many channels; every (re)connection starts by asking for all
that is wanted, in bounded batches, and is only called connected when all of it is confirmed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import hiredis

from fastapi_rooms.adapters.base import Outage, Receiver
from fastapi_rooms.adapters.forbidden import Forbidden
from fastapi_rooms.adapters.redis.links.link import Link, pack
from fastapi_rooms.adapters.redis.links.source import Source
from fastapi_rooms.adapters.redis.pubsub.pending_commands import (
    PLAIN,
    SHARDED,
    Command,
    PendingCommands,
    commands_for,
)
from fastapi_rooms.adapters.redis.slots import is_redirection, slot_in
from fastapi_rooms.adapters.subscriptions import Losses, Subscriptions
from fastapi_rooms.adapters.waiters import Waiters
from fastapi_rooms.types import Channel

RETRY_DELAY = 0.5
"""Seconds until channels that Redis would not take are asked for again."""

FORBIDDEN_DELAY = 5.0
"""Seconds until channels that we have no right to are asked for again: rights can be given back."""


class SlotMoves(Protocol):
    """Whoever has a subscriber for each node, and is told what a node does not serve."""

    def let_go(self, subscriber: Subscriber, channels: list[Channel]) -> None:
        """The node has unsubscribed us from these, as we asked."""

    def taken(self, subscriber: Subscriber, channels: list[Channel], live: list[Channel]) -> None:
        """The node does not serve these; `live` are those that it did."""

    def lost(self, subscriber: Subscriber) -> None:
        """The link is lost, and with it every subscription here."""


class Subscriber:
    """Keeps the wanted channels subscribed over one supervised link.

    A channel that Redis forbids is reported and asked for now and then, but counts as down only if
    it is one of those `needed`. With `elsewhere` it speaks to one node of a cluster.
    """

    def __init__(
        self,
        source: Source,
        receiver: Receiver,
        changed: Callable[[], None],
        *,
        connect_timeout: float,
        waiters: Waiters | None = None,
        losses: Losses | None = None,
        elsewhere: SlotMoves | None = None,
        needed: AbstractSet[Channel] = frozenset(),
    ) -> None:
        self._source = source
        self._receiver = receiver
        self._changed = changed
        self._connect_timeout = connect_timeout
        self._waiters = Waiters() if waiters is None else waiters
        self._losses = Losses() if losses is None else losses
        self._elsewhere = elsewhere
        self._needed = needed
        self._words = PLAIN if elsewhere is None else SHARDED
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._subscriptions = Subscriptions()
        self._asked = PendingCommands()
        self._last_progress = 0.0
        self._flush_scheduled = False
        self._lost = False
        self._complete = False
        self.complete_since = 0.0
        """When all that is wanted was confirmed on this link, in seconds since the epoch."""
        self._proven: float | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_forbidden: asyncio.TimerHandle | None = None
        self._forbidden = Forbidden("Redis")
        self._why_forbidden = ""
        self._last_received: float | None = None
        self.why_down = ""
        self.refused = False
        self.reconnects = 0
        """How often every subscription was confirmed again after a loss."""

    @property
    def connected(self) -> bool:
        """Whether there is a link on which all that may be wanted has been confirmed."""
        return self._complete

    @property
    def forbidden(self) -> frozenset[Channel]:
        """What was live once, is wanted still, and is forbidden now."""
        return self._forbidden.channels

    @property
    def verb(self) -> str:
        """The command that subscribes."""
        return self._words.subscribe.decode()

    @property
    def link(self) -> Link | None:
        """The present link."""
        return self._link

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

    @property
    def sure_until(self) -> float | None:
        """Until when all that was published has been received, in seconds since the epoch."""
        return self.last_received if self._proven is None else self._proven

    def prove(self, until: float) -> None:
        """Note that all that Redis took before that time has been received."""
        self._proven = until

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
        if missing:
            await self._waiters.wait(missing)

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Want channels no more."""
        self._subscriptions.unwant(channels)
        self._losses.forget(channels)
        self._forbidden.forget(channels)
        self._schedule_flush()

    def release(self, channels: Iterable[Channel]) -> list[Channel]:
        """Want channels no more here, but at another node. Returns those that are let go by that.

        Of the others it will be said when they are: see `SlotMoves`.
        """
        channels = list(channels)
        self._subscriptions.unwant(channels)
        self._forbidden.forget(channels)
        self._schedule_flush()
        if self._link is None:
            return channels
        return [c for c in channels if not self._subscriptions.is_in_flight(c)]

    @property
    def wanted(self) -> frozenset[Channel]:
        """All that is wanted now."""
        return frozenset(self._subscriptions.wanted)

    def is_live(self, channel: Channel) -> bool:
        """Whether the channel is wanted here, and confirmed."""
        return self._subscriptions.is_live(channel)

    def _schedule_flush(self) -> None:
        if self._link is not None and not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._link is None:
            return
        subscribe, unsubscribe = self._subscriptions.take_due()
        sharded = self._elsewhere is not None
        commands = [
            *commands_for(self._words.subscribe, subscribe, sharded=sharded),
            *commands_for(self._words.unsubscribe, unsubscribe, sharded=sharded),
        ]
        if commands:
            self._ask(self._link, *commands)

    def _ask(self, link: Link, *commands: Command) -> None:
        if not self._asked:
            self._last_progress = self._loop.time()
        for command in commands:
            self._asked.add(command)
        link.write(b"".join([pack(command.verb, *command.channels) for command in commands]))

    # What the link and its supervisor call.

    async def open(self) -> Link:
        """A link whose replies come here."""
        return await self._source.open(self.reply, self._connect_timeout)

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
            since = self._last_received if self._proven is None else self._proven
            lost: Iterable[Channel] = self._subscriptions.wanted
            if self._lost:  # again, before all was confirmed: some had come to be live meanwhile
                lost = filter(self._subscriptions.is_live, lost)
            self._losses.lose(lost, since)
            self._lost = True
            self._subscriptions.reset()
            if self._elsewhere is not None:
                self._elsewhere.lost(self)
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
        words = self._words
        if kind == words.message:
            if type(channel) is not bytes or type(data) is not bytes:
                raise hiredis.ProtocolError("a message that is not bytes on a channel of bytes")
            self._receiver.received(channel, data)
        elif kind == words.subscribed:
            self._last_progress = self._loop.time()
            self._asked.answered(words.subscribe, channel)
            if self._subscriptions.confirm_subscribed(channel):
                self._waiters.wake(channel)
            self._after_confirmation()
        elif kind == words.unsubscribed and channel is not None:
            self._last_progress = self._loop.time()
            if self._asked.answered(words.unsubscribe, channel) or self._elsewhere is None:
                self._unsubscribed([channel])
            else:  # the node has ended it by itself: the slot moves away
                self._give_up([channel])
            self._after_confirmation()

    def _unsubscribed(self, channels: list[Channel]) -> None:
        """We are not subscribed any more, as we asked."""
        for channel in channels:
            self._subscriptions.confirm_unsubscribed(channel)
        if self._elsewhere is not None:
            self._elsewhere.let_go(self, channels)

    def _give_up(self, channels: list[Channel]) -> None:
        """This node does not serve these: forget them, and say so."""
        live = self._subscriptions.drop(channels)
        self._forbidden.forget(channels)
        if self._elsewhere is not None:
            self._elsewhere.taken(self, channels, live)

    def _after_confirmation(self) -> None:
        self._schedule_flush()
        self._check_settled()

    def _check_settled(self) -> None:
        if self._link is None or not self._subscriptions.settled:
            return
        came, self._complete = not self._complete, True
        if came:
            self.complete_since = time.time()
        wanted, forbidden = self._subscriptions.wanted, self._subscriptions.forbidden
        regained = self._losses.regain(wanted, except_=forbidden)
        if came and self._lost:
            self._lost = False
            self.reconnects += 1
        if regained is not None:
            since, channels = regained
            self._receiver.gap(Outage(since, time.time(), channels))
        if came:
            self._changed()
        if forbidden or self._forbidden.channels:
            lost = frozenset(c for c in forbidden if c in wanted and c in self._losses)
            self._forbidden.update(lost, self._why_forbidden)

    def _refused(self, error: Exception) -> None:
        """Fail the joins that may not be; ask again for what Redis only cannot do just now."""
        self._last_progress = self._loop.time()
        reason = str(error)
        if self._elsewhere is not None and is_redirection(reason):
            self._redirected(reason)
            return
        asked = self._asked.refused()
        forbidden = reason.startswith(("NOPERM", "NOAUTH"))
        if (
            forbidden
            and asked.verb == self._words.subscribe
            and len(asked.channels) > 1
            and self._link is not None
        ):
            # One channel that we have no right to is enough to refuse them all: find out which.
            self._ask(self._link, *asked.halves())
            return
        bearable = forbidden and not (asked.channels & self._needed)  # those rooms' own trouble
        for channel in self._subscriptions.refused(asked.channels, forbidden=bearable):
            self._waiters.wake(channel)
        if bearable:
            if asked.verb == self._words.unsubscribe:
                self._forbidden.unsubscribe_refused(reason)
            self._why_forbidden = reason
            if self._retry_forbidden is None:
                self._retry_forbidden = self._loop.call_later(
                    FORBIDDEN_DELAY, self._ask_for_forbidden
                )
        else:
            if not self._complete:
                self.why_down = f"it refused to subscribe: {reason}"
                self.refused = forbidden
                self._changed()
            if self._retry is None:
                self._retry = self._loop.call_later(RETRY_DELAY, self._ask_again)
        if forbidden:
            self._waiters.fail(asked.channels, f"Redis refused to subscribe: {reason}")
        self._check_settled()

    def _ask_again(self) -> None:
        self._retry = None
        self._subscriptions.retry_refused()
        self._schedule_flush()

    def _ask_for_forbidden(self) -> None:
        self._retry_forbidden = None
        self._subscriptions.retry_forbidden()
        self._schedule_flush()

    def _redirected(self, reason: str) -> None:
        """The oldest command of that slot was for another node."""
        asked = self._asked.redirected(slot_in(reason))
        if asked is None:
            return  # the node's own `sunsubscribe` was taken for the answer
        if asked.verb == self._words.unsubscribe:
            self._unsubscribed(sorted(asked.channels))
        else:
            self._give_up(sorted(asked.channels))
        self._after_confirmation()

    def stop(self) -> None:
        """Ask for nothing any more; whoever waits may be served elsewhere."""
        for retry in (self._retry, self._retry_forbidden):
            if retry is not None:
                retry.cancel()

    def close(self) -> None:
        """Fail whoever still waits."""
        self.stop()
        self._waiters.close()
