"""The subscribing connection: asks Redis for what is wanted, and delivers what arrives.

Strategy: [fastapi_rooms.adapters.subscriptions][] decides, this file writes and listens. What is
wanted and unwanted in one turn of the event loop becomes one command of many channels. Every link
starts by asking for everything that is wanted, a bounded part of it in each turn, and the
subscriber counts as connected only when all of it is confirmed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any

import hiredis

from fastapi_rooms.adapters.base import Receiver
from fastapi_rooms.adapters.forbidden import Forbidden
from fastapi_rooms.adapters.reception import Reception
from fastapi_rooms.adapters.redis.links.link import FORBIDDEN, Link, pack
from fastapi_rooms.adapters.redis.links.owner import LinkOwner
from fastapi_rooms.adapters.redis.links.source import Source
from fastapi_rooms.adapters.redis.pubsub.dialect import PLAIN, Dialect, Redirection
from fastapi_rooms.adapters.redis.pubsub.pending_commands import (
    PendingCommands,
    SubscriptionCommand,
    commands_for,
)
from fastapi_rooms.adapters.retries import Retries
from fastapi_rooms.adapters.subscriptions import Losses, Subscriptions
from fastapi_rooms.adapters.waiters import Waiters
from fastapi_rooms.types import Channel

FLUSH = 2048
"""Channels that are asked for in one turn of the event loop: some 3 ms of work."""


class Subscriber(LinkOwner):
    """Keeps the wanted channels subscribed over one supervised link.

    A channel that Redis forbids is logged and asked for again now and then; the subscriber counts
    as connected without it.

    Args:
        source: opens the links.
        receiver: gets the messages, and the gaps between them.
        changed: called when it becomes connected or disconnected, or the reason changes.
        connect_timeout: seconds that opening a link may take.
        dialect: the kind of pub/sub.
        waiters: the calls that wait for channels; those of several subscribers can be shared.
        losses: the channels on which messages may have been missed; can be shared, too.
        required: channels without which it does not count as connected, forbidden or not. The
            owner may change the set.
    """

    def __init__(
        self,
        source: Source,
        receiver: Receiver,
        changed: Callable[[], None],
        *,
        connect_timeout: float,
        dialect: Dialect = PLAIN,
        waiters: Waiters | None = None,
        losses: Losses | None = None,
        required: AbstractSet[Channel] = frozenset(),
    ) -> None:
        super().__init__(source, changed, connect_timeout)
        self._receiver = receiver
        self._dialect = dialect
        self._words = dialect.words
        self._waiters = Waiters() if waiters is None else waiters
        self._losses = Losses() if losses is None else losses
        self._reception = Reception(self._losses)
        self._required = required
        self._subscriptions = Subscriptions()
        self._pending = PendingCommands()
        self._last_progress = 0.0
        self._is_flush_scheduled = False
        self._retries = Retries(self._subscriptions, self._schedule_flush)
        self._forbidden = Forbidden("Redis")
        self._why_forbidden = ""

    # Its state.

    @property
    def connected(self) -> bool:
        """Whether there is a link on which everything wanted and allowed has been confirmed."""
        return self._reception.is_complete

    @property
    def complete_since(self) -> float:
        """When everything wanted was confirmed on this link, in seconds since the epoch."""
        return self._reception.complete_since

    @property
    def reconnects(self) -> int:
        """How often every subscription was confirmed again after a loss."""
        return self._reception.reconnects

    @property
    def wanted(self) -> frozenset[Channel]:
        """The channels that are wanted now."""
        return frozenset(self._subscriptions.wanted)

    @property
    def forbidden(self) -> frozenset[Channel]:
        """Channels that were live once, are still wanted, and are forbidden now."""
        return self._forbidden.channels

    def is_live(self, channel: Channel) -> bool:
        """Whether the channel is wanted here, and confirmed."""
        return self._subscriptions.is_live(channel)

    @property
    def last_received(self) -> float | None:
        """When Redis last sent anything, in seconds since the epoch."""
        return self._link.last_received if self._link is not None else self._reception.last_received

    @property
    def complete_until(self) -> float | None:
        """Until when everything published has been received, in seconds since the epoch."""
        proven_until = self._reception.proven_until
        return self.last_received if proven_until is None else proven_until

    def prove(self, until: float) -> None:
        """Note that everything that Redis took before that time has been received."""
        self._reception.prove(until)

    def why_stuck(self, seconds: float) -> str:
        """What Redis has owed or withheld for longer than that; empty if there is nothing."""
        if self._link is None or (self._reception.is_complete and not self._pending):
            return ""
        if self._loop.time() - self._last_progress <= seconds:
            return ""
        return f"{self._words.subscribe.decode()} is not confirmed for {seconds} s"

    # What is wanted.

    def want(self, channels: Iterable[Channel]) -> None:
        """Want channels, without waiting."""
        self._subscriptions.want(channels)
        self._schedule_flush()

    def want_meanwhile(self, channels: Iterable[Channel]) -> None:
        """Want channels, without waiting; what they miss until they are live is a loss."""
        channels = list(channels)
        self.want(channels)
        self._losses.lose((c for c in channels if not self.is_live(c)), time.time())

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Want channels, and return when all of them are live."""
        missing = {c for c in channels if not self._subscriptions.is_live(c)}
        if missing:
            self.want(missing)
            # A channel that was to be unsubscribed in this very turn is live again at once.
            missing = {c for c in missing if not self._subscriptions.is_live(c)}
        if missing:
            await self._waiters.wait(missing)

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Stop wanting channels."""
        self._subscriptions.unwant(channels)
        self._losses.forget(channels)
        self._forbidden.forget(channels)
        self._schedule_flush()

    def release(self, channels: Iterable[Channel]) -> list[Channel]:
        """Stop wanting channels here, as another node is to serve them.

        Returns the channels that are not subscribed any more; `Dialect.unsubscribed` gets the rest.
        """
        channels = list(channels)
        self._subscriptions.unwant(channels)
        self._forbidden.forget(channels)
        self._schedule_flush()
        if self._link is None:
            return channels
        return [c for c in channels if not self._subscriptions.is_in_flight(c)]

    def _schedule_flush(self) -> None:
        if self._link is not None and not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        if self._link is None:
            return
        subscribe, unsubscribe = self._subscriptions.take_due(FLUSH)
        split, words = self._dialect.split, self._words
        commands = [
            *commands_for(words.subscribe, split(subscribe)),
            *commands_for(words.unsubscribe, split(unsubscribe)),
        ]
        if commands:
            self._send(self._link, *commands)
        if self._subscriptions.is_due:
            self._schedule_flush()

    def _send(self, link: Link, *commands: SubscriptionCommand) -> None:
        if not self._pending:
            self._last_progress = self._loop.time()
        for command in commands:
            self._pending.add(command)
        link.write(b"".join([pack(command.verb, *command.channels) for command in commands]))

    # What the link and its supervisor call.

    def link_up(self, link: Link) -> None:
        """Ask the new link for everything."""
        self._link = link
        self._subscriptions.reset()
        self._pending.clear()
        self._last_progress = self._loop.time()
        self._flush()
        self._check_complete()

    def link_down(self, reason: str) -> None:
        """Note what may be missed from now on; nothing is confirmed any more."""
        self.why_down, self.refused = reason, False
        if self._link is not None:
            self._reception.link_lost(self._link.last_received, self._subscriptions)
            self._link = None
            self._subscriptions.lost()
            self._dialect.link_lost()
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
            self._pending.answered(words.subscribe, channel)
            if self._subscriptions.confirm_subscribed(channel):
                self._waiters.wake(channel)
            self._after_confirmation()
        elif kind == words.unsubscribed and channel is not None:
            self._last_progress = self._loop.time()
            asked_for = self._pending.answered(words.unsubscribe, channel)
            if asked_for or not self._dialect.moves_channels:
                self._unsubscribed([channel])
            else:
                self._withdrawn([channel])
            self._after_confirmation()

    # What the replies mean.

    def _unsubscribed(self, channels: list[Channel]) -> None:
        for channel in channels:
            self._subscriptions.confirm_unsubscribed(channel)
        self._dialect.unsubscribed(channels)

    def _withdrawn(self, channels: list[Channel]) -> None:
        """This node does not serve these channels (any more)."""
        live = self._subscriptions.drop(channels)
        self._forbidden.forget(channels)
        self._dialect.withdrawn(channels, live)

    def _after_confirmation(self) -> None:
        self._schedule_flush()
        self._check_complete()

    def _check_complete(self) -> None:
        """Report what was missed, once everything that may be had is confirmed."""
        if self._link is None:
            return
        became_complete, outage = self._reception.confirmed(self._subscriptions, time.time())
        if outage is not None:
            self._receiver.gap(outage)
        if became_complete:
            self._changed()
        if not self._subscriptions.settled:
            return
        wanted, forbidden = self._subscriptions.wanted, self._subscriptions.forbidden
        if forbidden or self._forbidden.channels:
            lost = frozenset(c for c in forbidden if c in wanted and c in self._losses)
            self._forbidden.update(lost, self._why_forbidden)

    def _refused(self, error: Exception) -> None:
        """Fail the joins that are forbidden; ask again for what Redis could not do just now."""
        self._last_progress = self._loop.time()
        reason = str(error)
        redirection = self._dialect.redirection(reason)
        if redirection is not None:
            self._redirected(redirection)
            return
        command = self._pending.refused()
        is_forbidden = reason.startswith(FORBIDDEN)
        if (
            is_forbidden
            and command.verb == self._words.subscribe
            and len(command.channels) > 1
            and self._link is not None
        ):
            # One forbidden channel is enough to refuse all of a command: find out which it is.
            self._send(self._link, *command.halves())
            return
        is_optional = is_forbidden and not (command.channels & self._required)
        for channel in self._subscriptions.refused(command.channels, forbidden=is_optional):
            self._waiters.wake(channel)
        if is_optional:
            self._note_forbidden(command.verb, reason)
        else:
            self._note_refusal(reason, is_forbidden=is_forbidden)
        if is_forbidden:
            self._waiters.fail(command.channels, f"Redis refused to subscribe: {reason}")
        self._check_complete()

    def _note_forbidden(self, verb: bytes, reason: str) -> None:
        """Rooms are forbidden: their members miss something, and everything else goes on."""
        if verb == self._words.unsubscribe:
            self._forbidden.unsubscribe_refused(reason)
        self._why_forbidden = reason
        self._retries.forbidden()

    def _note_refusal(self, reason: str, *, is_forbidden: bool) -> None:
        """Something required is forbidden, or Redis cannot subscribe just now."""
        if not self._reception.is_complete:
            self.why_down = f"it refused to subscribe: {reason}"
            self.refused = is_forbidden
            self._changed()
        self._retries.refused()

    def _redirected(self, redirection: Redirection) -> None:
        """The oldest command of that slot went to the wrong node."""
        command = self._pending.redirected(redirection.shard)
        if command is None:
            return  # the unsubscription by the node itself was taken for the answer
        if command.verb == self._words.unsubscribe:
            self._unsubscribed(sorted(command.channels))
        else:
            self._withdrawn(sorted(command.channels))
        self._after_confirmation()

    # Its end.

    def stop_retries(self) -> None:
        """Ask for nothing any more. Callers that wait keep waiting, for another node."""
        self._retries.stop()

    def close(self) -> None:
        """Fail the callers that still wait."""
        self.stop_retries()
        self._waiters.close()
