"""The subscribing connection: asks Redis for what is wanted, and delivers what arrives.

What is wanted, and what was missed, is kept by [fastapi_rooms.adapters.receiving][]; this file
writes commands and reads replies. What is due in one turn becomes one command of many channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import hiredis

from fastapi_rooms.adapters.base import Receiver
from fastapi_rooms.adapters.forbidden import Forbidden
from fastapi_rooms.adapters.receiving import ReceivingEnd
from fastapi_rooms.adapters.redis.links.link import FORBIDDEN, Link, pack
from fastapi_rooms.adapters.redis.links.owner import Opening
from fastapi_rooms.adapters.redis.links.source import Source
from fastapi_rooms.adapters.redis.pubsub.dialect import PLAIN, Dialect, Redirection
from fastapi_rooms.adapters.redis.pubsub.pending_commands import (
    PendingCommands,
    SubscriptionCommand,
    commands_for,
)
from fastapi_rooms.adapters.retries import Retries
from fastapi_rooms.adapters.subscriptions import Losses
from fastapi_rooms.adapters.waiters import Waiters
from fastapi_rooms.types import Channel

PSUBSCRIBE = b"PSUBSCRIBE"

FLUSH = 2048
"""Channels that are asked for in one turn of the event loop: some 3 ms of work."""


class Subscriber(Opening, ReceivingEnd[Link]):
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
        patterns: what else to hear: channels of these patterns, as long as there is a link. They
            come first on each, so that all of them are confirmed when any channel is.
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
        patterns: Sequence[Channel] = (),
    ) -> None:
        super().__init__(
            receiver, changed, connect_timeout=connect_timeout, waiters=waiters, losses=losses
        )
        self._source = source
        self._patterns = patterns
        self._dialect = dialect
        self._words = dialect.words
        self._required = required
        self._pending = PendingCommands()
        self._unheard: set[Channel] = set()  # patterns that are not confirmed
        self._are_patterns_due = False
        self._retries = Retries(self._subscriptions, self._try_again)
        self._forbidden = Forbidden("Redis")
        self._why_forbidden = ""

    # Its links.

    def link_up(self, link: Link) -> None:
        """Ask the new link for everything."""
        self._pending.clear()
        self._unheard = set(self._patterns)
        self._are_patterns_due = True
        super().link_up(link)

    def _link_lost(self) -> None:
        self._dialect.link_lost()

    # What is wanted.

    @property
    def forbidden(self) -> frozenset[Channel]:
        """Channels that were live once, are still wanted, and are forbidden now."""
        return self._forbidden.channels

    def is_in_flight(self, channel: Channel) -> bool:
        """Whether Redis has the channel, or a command about it is in flight."""
        return self._subscriptions.is_in_flight(channel)

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Stop wanting channels."""
        channels = list(channels)
        super().unsubscribe(channels)
        self._forbidden.forget(channels)

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

    def _ask(self, link: Link) -> None:
        subscribe, unsubscribe = self._subscriptions.take_due(FLUSH)
        split, words = self._dialect.split, self._words
        patterns = set(self._unheard) if self._are_patterns_due else None
        self._are_patterns_due = False
        commands = [
            *([SubscriptionCommand(PSUBSCRIBE, patterns)] if patterns else ()),
            *commands_for(words.subscribe, split(subscribe)),
            *commands_for(words.unsubscribe, split(unsubscribe)),
        ]
        if commands:
            self._send(link, *commands)

    def _is_owed(self) -> bool:
        return bool(self._pending)

    def _verb(self) -> str:
        return self._words.subscribe.decode()

    def _send(self, link: Link, *commands: SubscriptionCommand) -> None:
        if not self._pending:
            self._last_progress = self._loop.time()
        for command in commands:
            self._pending.add(command)
        link.write(b"".join([pack(command.verb, *command.channels) for command in commands]))

    # What the link calls.

    def reply(self, reply: Any) -> None:
        """A message, a confirmation, or a refusal."""
        if isinstance(reply, hiredis.ReplyError):
            self._refused(reply)
            return
        try:
            kind, channel, data = reply
        except (TypeError, ValueError):
            if not (self._patterns and isinstance(reply, list) and reply[:1] == [b"pmessage"]):
                return  # a maintenance notice of a hosted Redis, or a pong
            kind, (channel, data) = self._words.message, reply[2:]
        words = self._words
        if kind == words.message:
            if type(channel) is not bytes or type(data) is not bytes:
                raise hiredis.ProtocolError("a message that is not bytes on a channel of bytes")
            self._receiver.received(channel, data)
        elif kind == words.subscribed:
            self._last_progress = self._loop.time()
            self._pending.answered(words.subscribe, channel)
            self._confirmed(channel)
            self._after_confirmation()
        elif kind == words.unsubscribed and channel is not None:
            self._last_progress = self._loop.time()
            asked_for = self._pending.answered(words.unsubscribe, channel)
            if asked_for or not self._dialect.moves_channels:
                self._unsubscribed([channel])
            else:
                self._withdrawn([channel])
            self._after_confirmation()
        elif kind == b"psubscribe":
            self._last_progress = self._loop.time()
            self._pending.answered(PSUBSCRIBE, channel)
            self._unheard.discard(channel)
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

    def _check_complete(self) -> None:
        """A connection that does not hear its patterns is not complete."""
        if not self._unheard:
            super()._check_complete()

    def _try_again(self) -> None:
        """Ask once more for what was refused."""
        self._are_patterns_due = True
        self._schedule_flush()

    def _settled(self) -> None:
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
        if command.verb == PSUBSCRIBE:
            self._note_refusal(reason, is_forbidden=is_forbidden)
            return
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
        super().close()
