"""Desired against confirmed: the channels of one connection, as a state machine without I/O.

Strategy: a channel has at most one command in flight. While it has, calls only change what is
wanted; its confirmation makes the next command due, if one is needed. So joins and leaves of one
channel may cross each other and the network in any order, and the last call wins. A lost
connection invalidates every confirmation, and makes everything that is wanted due again.

    absent ──subscribe sent──▶ SUBSCRIBING ──confirmed──▶ LIVE
       ▲                                                    │
       └──confirmed── UNSUBSCRIBING ◀──unsubscribe sent─────┘
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from enum import Enum

from fastapi_rooms.types import Channel


class _State(Enum):
    SUBSCRIBING = 1
    LIVE = 2
    UNSUBSCRIBING = 3


class Subscriptions:
    """The channels that are wanted on one connection, and those that it has confirmed."""

    def __init__(self) -> None:
        self.wanted: set[Channel] = set()
        self._states: dict[Channel, _State] = {}
        self._due: dict[Channel, None] = {}
        self._refused: set[Channel] = set()
        self._forbidden: set[Channel] = set()
        self._unrestored: set[Channel] = set()
        self._unconfirmed = 0

    def want(self, channels: Iterable[Channel]) -> None:
        """Want channels; they become due unless they are confirmed or in flight."""
        for channel in channels:
            self.wanted.add(channel)
            self._consider(channel)

    def unwant(self, channels: Iterable[Channel]) -> None:
        """Stop wanting channels; those that are confirmed become due to be unsubscribed."""
        for channel in channels:
            self.wanted.discard(channel)
            self._unrestored.discard(channel)
            self._consider(channel)

    def is_live(self, channel: Channel) -> bool:
        """Whether the channel is wanted and confirmed, with no command in flight."""
        return channel in self.wanted and self._states.get(channel) is _State.LIVE

    @property
    def settled(self) -> bool:
        """Whether everything is confirmed as wanted, except for what is forbidden."""
        return not (self._due or self._unconfirmed or self._refused)

    @property
    def restored(self) -> bool:
        """Whether all is confirmed that was wanted when the connection was made, and still is.

        Forbidden channels do not count. Nor do those that are wanted since then: where many come
        and go, something is in flight at all times.
        """
        return not self._unrestored

    @property
    def forbidden(self) -> AbstractSet[Channel]:
        """The channels that the carrier forbids, as far as this connection knows."""
        return self._forbidden

    def is_in_flight(self, channel: Channel) -> bool:
        """Whether the carrier has the channel, or a command about it is in flight."""
        return channel in self._states

    def take_due(self) -> tuple[list[Channel], list[Channel]]:
        """The channels to subscribe to and to unsubscribe from now; they count as in flight."""
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
        """The carrier confirms a subscription; returns whether that makes the channel live."""
        if self._states.get(channel) is not _State.SUBSCRIBING:
            return False
        self._unconfirmed -= 1
        self._states[channel] = _State.LIVE
        self._unrestored.discard(channel)
        self._consider(channel)
        return channel in self.wanted

    def confirm_unsubscribed(self, channel: Channel) -> None:
        """The carrier confirms that there is no subscription."""
        state = self._states.pop(channel, None)
        if state in (_State.SUBSCRIBING, _State.UNSUBSCRIBING):
            self._unconfirmed -= 1
        self._consider(channel)

    def refused(self, channels: Iterable[Channel], *, forbidden: bool = False) -> list[Channel]:
        """The carrier refuses: no channel is due again before it is wanted anew, or retried.

        Forbidden channels do not keep the rest from settling. Returns the channels that the
        refusal makes live: they were being unsubscribed, and are wanted again.
        """
        live = []
        refused = self._forbidden if forbidden else self._refused
        for channel in channels:
            state = self._states.pop(channel, None)
            if state is not None:
                self._unconfirmed -= 1
            if state is _State.UNSUBSCRIBING:
                self._states[channel] = _State.LIVE
            if forbidden:
                self._unrestored.discard(channel)
            wanted = channel in self.wanted
            if wanted and state is _State.UNSUBSCRIBING:
                live.append(channel)
            elif wanted or state is _State.UNSUBSCRIBING:
                refused.add(channel)
        return live

    def retry_refused(self) -> None:
        """Make due again what was refused."""
        self._due.update(dict.fromkeys(self._refused))
        self._refused.clear()

    def retry_forbidden(self) -> None:
        """Make due again what is forbidden, as the carrier may allow it by now."""
        self._due.update(dict.fromkeys(self._forbidden))
        self._forbidden.clear()

    def drop(self, channels: Collection[Channel]) -> list[Channel]:
        """Forget channels that this carrier no longer serves. Returns those that were live."""
        live = [channel for channel in channels if self.is_live(channel)]
        for channel in channels:
            self.wanted.discard(channel)
            self._unrestored.discard(channel)
            state = self._states.pop(channel, None)
            if state in (_State.SUBSCRIBING, _State.UNSUBSCRIBING):
                self._unconfirmed -= 1
            self._consider(channel)
        return live

    def reset(self) -> None:
        """The connection is gone: nothing is confirmed, and everything wanted is due."""
        self._states.clear()
        self._refused.clear()
        self._forbidden.clear()
        self._unrestored = set(self.wanted)
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
    """Channels on which messages may have been missed, and since when, until they are live.

    Times are seconds since the epoch.
    """

    def __init__(self) -> None:
        self._since: dict[Channel, float] = {}

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._since

    def lose(self, channels: Iterable[Channel], since: float) -> None:
        """Messages may be missed from `since` on; an earlier loss is kept."""
        for channel in channels:
            self._since.setdefault(channel, since)

    def forget(self, channels: Iterable[Channel]) -> None:
        """Drop channels that are not wanted any more."""
        for channel in channels:
            self._since.pop(channel, None)

    def regain(self, is_live: Callable[[Channel], bool]) -> tuple[float, frozenset[Channel]] | None:
        """End the losses of channels that are live: returns the earliest, and the channels."""
        regained = frozenset(filter(is_live, self._since))
        if not regained:
            return None
        return min(self._since.pop(channel) for channel in regained), regained
