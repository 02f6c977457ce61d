"""Desired against confirmed: the channels of one connection, as a state machine without I/O.

Strategy: a channel has at most one command in flight. While it has, calls only change what is
wanted; its confirmation makes the next command due, if one is needed. So joins and leaves of one
channel may cross each other and the network in any order, and the last call wins. A lost
connection invalidates every confirmation, and makes everything that is wanted due again.

There may be hundreds of thousands of channels, and the event loop does not wait for all of them:
what is due is taken in parts, and what is done to all of them at once takes no step of Python's
for each.

    absent ──subscribe sent──▶ SUBSCRIBING ──confirmed──▶ LIVE
       ▲                                                    │
       └──confirmed── UNSUBSCRIBING ◀──unsubscribe sent─────┘
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from enum import Enum
from itertools import islice

from fastapi_rooms.types import Channel


class _State(Enum):
    SUBSCRIBING = 1
    LIVE = 2
    UNSUBSCRIBING = 3


class Subscriptions:
    """The channels that are wanted on one connection, and those that it has confirmed."""

    def __init__(self) -> None:
        self.wanted: set[Channel] = set()
        self.live: set[Channel] = set()
        """Those that are confirmed, with no command in flight."""
        self._states: dict[Channel, _State] = {}
        self._due: dict[Channel, None] = {}
        self._refused: set[Channel] = set()
        self._forbidden: set[Channel] = set()
        self._restoring: list[Channel] = []  # what this connection has not been asked for again
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
            self.live.discard(channel)
            self._unrestored.discard(channel)
            self._consider(channel)

    def is_live(self, channel: Channel) -> bool:
        """Whether the channel is wanted and confirmed, with no command in flight."""
        return channel in self.live

    @property
    def settled(self) -> bool:
        """Whether everything is confirmed as wanted, except for what is forbidden."""
        return not (self._due or self._restoring or self._unconfirmed or self._refused)

    @property
    def restored(self) -> bool:
        """Whether all is confirmed that was wanted when the connection was made, and still is.

        Forbidden channels do not count. Nor do those that are wanted once all of that has been
        asked for: where many come and go, something is in flight at all times.
        """
        return not (self._restoring or self._unrestored)

    @property
    def forbidden(self) -> AbstractSet[Channel]:
        """The channels that the carrier forbids, as far as this connection knows."""
        return self._forbidden

    def is_in_flight(self, channel: Channel) -> bool:
        """Whether the carrier has the channel, or a command about it is in flight."""
        return channel in self._states

    @property
    def is_due(self) -> bool:
        """Whether there are channels to subscribe to or to unsubscribe from."""
        return bool(self._due or self._restoring)

    def take_due(self, limit: int = sys.maxsize) -> tuple[list[Channel], list[Channel]]:
        """So many of the channels to subscribe to and to unsubscribe from; they are in flight."""
        due = list(islice(self._due, limit))
        if len(due) == len(self._due):
            self._due.clear()
        for channel in due if self._due else ():
            del self._due[channel]
        subscribe = [channel for channel in due if channel in self.wanted]
        unsubscribe = [channel for channel in due if channel not in self.wanted]
        for channel in unsubscribe:
            self._states[channel] = _State.UNSUBSCRIBING
        for channel in subscribe:
            self._states[channel] = _State.SUBSCRIBING
        if self._restoring:
            for channel in self._take_restoring(limit - len(due)):
                self._states[channel] = _State.SUBSCRIBING
                subscribe.append(channel)
            self._unrestored.update(subscribe)
        self._unconfirmed += len(subscribe) + len(unsubscribe)
        return subscribe, unsubscribe

    def _take_restoring(self, limit: int) -> list[Channel]:
        """So many of what is to be asked for again, without what has been, or is unwanted now."""
        start = max(len(self._restoring) - limit, 0)
        some = self._restoring[start:]
        del self._restoring[start:]
        return [
            channel for channel in some if channel in self.wanted and not self._is_asked(channel)
        ]

    def _is_asked(self, channel: Channel) -> bool:
        """Whether the carrier has been asked for it on this connection, whatever it said."""
        return channel in self._states or channel in self._refused or channel in self._forbidden

    def confirm_subscribed(self, channel: Channel) -> bool:
        """The carrier confirms a subscription; returns whether that makes the channel live."""
        if self._states.get(channel) is not _State.SUBSCRIBING:
            return False
        self._unconfirmed -= 1
        self._states[channel] = _State.LIVE
        self._unrestored.discard(channel)
        self._consider(channel)
        return channel in self.live

    def confirm_unsubscribed(self, channel: Channel) -> None:
        """The carrier confirms that there is no subscription."""
        state = self._states.pop(channel, None)
        self.live.discard(channel)
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
                self.live.add(channel)
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
        live = [channel for channel in channels if channel in self.live]
        for channel in channels:
            self.wanted.discard(channel)
            self.live.discard(channel)
            self._unrestored.discard(channel)
            state = self._states.pop(channel, None)
            if state in (_State.SUBSCRIBING, _State.UNSUBSCRIBING):
                self._unconfirmed -= 1
            self._consider(channel)
        return live

    def reset(self) -> None:
        """There is another connection: nothing is confirmed, and everything wanted is due."""
        self.lost()
        self._restoring = list(self.wanted)
        self._unrestored = set()
        self._due = {}

    def lost(self) -> None:
        """The connection is gone: nothing is confirmed, and `reset` follows with the next one."""
        self.live = set()
        self._states = {}
        self._refused = set()
        self._forbidden = set()
        self._unconfirmed = 0

    def _consider(self, channel: Channel) -> None:
        self._refused.discard(channel)
        self._forbidden.discard(channel)
        state = self._states.get(channel)
        wanted = channel in self.wanted
        if state is (None if wanted else _State.LIVE):
            self._due[channel] = None
        else:
            self._due.pop(channel, None)
            if wanted and state is _State.LIVE:
                self.live.add(channel)


class Losses:
    """Channels on which messages may have been missed, and since when, until they are live.

    Those of a whole connection are one set, with one time. Times are seconds since the epoch.

    Args:
        unreported: channels that do not matter to anyone.
        shared: whether they are of several connections.
    """

    def __init__(
        self, unreported: AbstractSet[Channel] = frozenset(), *, shared: bool = False
    ) -> None:
        self._unreported = unreported
        self._shared = shared
        self._whole: set[Channel] | None = None
        self._whole_since = 0.0
        self._since: dict[Channel, float] = {}

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._since or (self._whole is not None and channel in self._whole)

    def lose(self, channels: Iterable[Channel], since: float) -> None:
        """Messages may be missed from `since` on; an earlier loss is kept."""
        if isinstance(channels, set):
            if self._whole is None and not self._since:
                if channels:
                    self._whole, self._whole_since = channels.copy(), since
                    self._whole -= self._unreported
                return
            if self._whole:
                channels = channels - self._whole
        for channel in channels:
            if channel not in self and channel not in self._unreported:
                self._since[channel] = since

    def forget(self, channels: Iterable[Channel]) -> None:
        """Drop channels that are not wanted any more."""
        for channel in channels:
            self._since.pop(channel, None)
            if self._whole is not None:
                self._whole.discard(channel)
        if not (self._whole or self._unreported):
            self._whole = None

    def regain(
        self, live: AbstractSet[Channel], *, restored: bool = False
    ) -> tuple[float, frozenset[Channel]] | None:
        """End the losses of channels that are live: returns the earliest, and the channels.

        With `restored` all is live that was wanted when the connection was made, and still is: then
        nobody has to look at each.
        """
        whole, since = self._whole, self._since
        if whole is None and not since:
            return None
        times = list(since.values())
        if whole is not None:
            times.append(self._whole_since)
        is_restored = whole is None or (restored and not self._shared) or whole <= live
        if is_restored and since.keys() <= live:  # nearly always
            self._whole, self._since = None, {}
            regained = frozenset(whole or ())
            return min(times), (regained | since.keys() if since else regained)
        regained = frozenset(whole & live) if whole else frozenset()
        times = [self._whole_since] if regained else []
        if whole and regained:
            whole -= regained
            self._whole = whole or None
        others = since.keys() & live
        times += map(since.pop, others)
        return (min(times), regained | others) if times else None
