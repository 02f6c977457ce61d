"""Channels wanted against channels confirmed, as a state machine without I/O.

Strategy: a channel has at most one command under way. While one is, wishes only change what is
wanted; when its confirmation comes, the machine looks again. So joins and leaves of one channel
may cross each other and the network in any order, and the last wish wins. A lost connection
confirms nothing any more, and everything wanted is due again.

    absent ──subscribe sent──▶ SUBSCRIBING ──confirmed──▶ LIVE
       ▲                                                    │
       └──confirmed── UNSUBSCRIBING ◀──unsubscribe sent─────┘
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from enum import Enum

from fastapi_rooms.types import Channel


class _State(Enum):
    SUBSCRIBING = 1
    LIVE = 2
    UNSUBSCRIBING = 3


class Subscriptions:
    """What one subscriber connection has been asked for, and has confirmed."""

    def __init__(self) -> None:
        self.wanted: set[Channel] = set()
        self._states: dict[Channel, _State] = {}
        self._due: dict[Channel, None] = {}
        self._refused: set[Channel] = set()
        self._forbidden: set[Channel] = set()
        self._unconfirmed = 0

    def want(self, channels: Iterable[Channel]) -> None:
        """Wish to be subscribed."""
        for channel in channels:
            self.wanted.add(channel)
            self._consider(channel)

    def unwant(self, channels: Iterable[Channel]) -> None:
        """Wish not to be."""
        for channel in channels:
            self.wanted.discard(channel)
            self._consider(channel)

    def is_live(self, channel: Channel) -> bool:
        """Whether the channel is wanted and confirmed, with nothing under way."""
        return channel in self.wanted and self._states.get(channel) is _State.LIVE

    @property
    def settled(self) -> bool:
        """Whether every wish is confirmed, but for those that are forbidden."""
        return not (self._due or self._unconfirmed or self._refused)

    @property
    def forbidden(self) -> AbstractSet[Channel]:
        """What the carrier will not do, as far as that is known on this connection."""
        return self._forbidden

    def is_under_way(self, channel: Channel) -> bool:
        """Whether the carrier has the channel, or was asked for or about it."""
        return channel in self._states

    def take_due(self) -> tuple[list[Channel], list[Channel]]:
        """The channels to subscribe to and to unsubscribe from now; they count as asked for."""
        subscribe = [channel for channel in self._due if channel in self.wanted]
        unsubscribe = [channel for channel in self._due if channel not in self.wanted]
        self._due.clear()
        for channel in subscribe:
            self._states[channel] = _State.SUBSCRIBING
        for channel in unsubscribe:
            self._states[channel] = _State.UNSUBSCRIBING
        self._unconfirmed += len(subscribe) + len(unsubscribe)
        return subscribe, unsubscribe

    def confirm_subscribed(self, channel: Channel) -> bool:
        """The carrier says we are subscribed; returns whether the channel is live by that."""
        if self._states.get(channel) is not _State.SUBSCRIBING:
            return False
        self._unconfirmed -= 1
        self._states[channel] = _State.LIVE
        self._consider(channel)
        return channel in self.wanted

    def confirm_unsubscribed(self, channel: Channel) -> None:
        """The carrier says we are not subscribed."""
        state = self._states.pop(channel, None)
        if state in (_State.SUBSCRIBING, _State.UNSUBSCRIBING):
            self._unconfirmed -= 1
        self._consider(channel)

    def refused(self, channels: Iterable[Channel], *, forbidden: bool = False) -> list[Channel]:
        """The carrier will not: no channel is asked for again unless wished anew, or retried.

        What is `forbidden` is not expected to be had: the rest settles without it. Returns those
        that are live by that: they were to be left, and are wanted again.
        """
        live = []
        refused = self._forbidden if forbidden else self._refused
        for channel in channels:
            state = self._states.pop(channel, None)
            if state is not None:
                self._unconfirmed -= 1
            if state is _State.UNSUBSCRIBING:
                self._states[channel] = _State.LIVE
            wanted = channel in self.wanted
            if wanted and state is _State.UNSUBSCRIBING:
                live.append(channel)
            elif wanted or state is _State.UNSUBSCRIBING:
                refused.add(channel)
        return live

    def retry_refused(self) -> None:
        """What was refused is due again."""
        self._due.update(dict.fromkeys(self._refused))
        self._refused.clear()

    def retry_forbidden(self) -> None:
        """What is forbidden is due again: it may be so no more."""
        self._due.update(dict.fromkeys(self._forbidden))
        self._forbidden.clear()

    def drop(self, channels: Collection[Channel]) -> list[Channel]:
        """The carrier has these no more, and they are to be had elsewhere if they are wanted.

        Nothing of them is known here any more. Returns those that were live.
        """
        live = [channel for channel in channels if self.is_live(channel)]
        for channel in channels:
            self.wanted.discard(channel)
            state = self._states.pop(channel, None)
            if state in (_State.SUBSCRIBING, _State.UNSUBSCRIBING):
                self._unconfirmed -= 1
            self._consider(channel)
        return live

    def reset(self) -> None:
        """The connection is gone: nothing is confirmed, and all that is wanted is due."""
        self._states.clear()
        self._refused.clear()
        self._forbidden.clear()
        self._unconfirmed = 0
        self._due = dict.fromkeys(self.wanted)

    def _consider(self, channel: Channel) -> None:
        self._refused.discard(channel)
        self._forbidden.discard(channel)
        state = self._states.get(channel)
        due_from = None if channel in self.wanted else _State.LIVE
        if state is due_from:
            self._due[channel] = None
        else:
            self._due.pop(channel, None)


class Losses:
    """Channels on which messages may have been missed, and since when, until they are live again.

    Times are seconds since the epoch.
    """

    def __init__(self) -> None:
        self._since: dict[Channel, float] = {}

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._since

    def lose(self, channels: Iterable[Channel], since: float) -> None:
        """Messages may be missed from then on; what was lost before stays so."""
        for channel in channels:
            self._since.setdefault(channel, since)

    def forget(self, channels: Iterable[Channel]) -> None:
        """Nobody wants these any more."""
        for channel in channels:
            self._since.pop(channel, None)

    def regain(
        self, live: AbstractSet[Channel], but: AbstractSet[Channel] = frozenset()
    ) -> tuple[float, frozenset[Channel]] | None:
        """These are live, `but` those. Returns which were lost, and the earliest loss, if any."""
        if not self._since:
            return None
        regained = frozenset(self._since.keys() & live).difference(but)
        if not regained:
            return None
        return min(self._since.pop(channel) for channel in regained), regained
