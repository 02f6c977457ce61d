"""The receiving end of an adapter, whatever the carrier: keeps what is wanted subscribed.

Strategy: [fastapi_rooms.adapters.subscriptions][] decides what to ask for, and
[fastapi_rooms.adapters.reception][] what was missed. What is wanted and unwanted in one turn of the
event loop is asked for together. Every link starts by asking for everything that is wanted, a
bounded part of it in each turn, and the end counts as connected only when all of it is confirmed.
How a carrier is asked, and what it answers, is a subclass's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from fastapi_rooms.adapters.base import Receiver
from fastapi_rooms.adapters.link_owner import LinkOwner, OwnedLink
from fastapi_rooms.adapters.reception import Reception
from fastapi_rooms.adapters.subscriptions import Losses, Subscriptions
from fastapi_rooms.adapters.waiters import Waiters
from fastapi_rooms.types import Channel

L = TypeVar("L", bound=OwnedLink)


class ReceivingEnd(LinkOwner[L]):
    """Keeps the wanted channels subscribed over one supervised link.

    Args:
        receiver: gets the messages, and the gaps between them.
        changed: called when it becomes connected or disconnected, or the reason changes.
        connect_timeout: seconds that opening a link may take.
        waiters: the calls that wait for channels; those of several ends can be shared.
        losses: the channels on which messages may have been missed; can be shared, too.
    """

    def __init__(
        self,
        receiver: Receiver,
        changed: Callable[[], None],
        *,
        connect_timeout: float,
        waiters: Waiters | None = None,
        losses: Losses | None = None,
    ) -> None:
        super().__init__(changed, connect_timeout)
        self._receiver = receiver
        self._waiters = Waiters() if waiters is None else waiters
        self._losses = Losses() if losses is None else losses
        self._reception = Reception(self._losses)
        self._subscriptions = Subscriptions()
        self._last_progress = 0.0

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

    def is_live(self, channel: Channel) -> bool:
        """Whether the channel is wanted here, and confirmed."""
        return self._subscriptions.is_live(channel)

    @property
    def last_received(self) -> float | None:
        """When the carrier last sent anything, in seconds since the epoch."""
        return self._link.last_received if self._link is not None else self._reception.last_received

    @property
    def complete_until(self) -> float | None:
        """Until when everything published has been received, in seconds since the epoch."""
        proven_until = self._reception.proven_until
        return self.last_received if proven_until is None else proven_until

    def prove(self, until: float) -> None:
        """Note that everything that the carrier took before that time has been received."""
        self._reception.prove(until)

    def why_stuck(self, seconds: float) -> str:
        """What the carrier has owed or withheld for longer than that; empty if there is nothing."""
        if self._link is None or (self._reception.is_complete and not self._is_owed()):
            return ""
        if self._loop.time() - self._last_progress <= seconds:
            return ""
        return f"{self._verb()} is not confirmed for {seconds} s"

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
        channels = list(channels)
        self._subscriptions.unwant(channels)
        self._losses.forget(channels)
        self._schedule_flush()

    def _flush(self) -> None:
        if self._link is None:
            return
        self._ask(self._link)
        if self._subscriptions.is_due:
            self._schedule_flush()

    # What a carrier's own end does.

    def _ask(self, link: L) -> None:
        """Ask for a bounded part of what is due."""
        raise NotImplementedError

    def _is_owed(self) -> bool:
        """Whether the carrier has yet to answer something."""
        raise NotImplementedError

    def _verb(self) -> str:
        """What subscribing is called there."""
        raise NotImplementedError

    def _link_lost(self) -> None:
        """Nothing will be answered on the last link."""

    def _settled(self) -> None:
        """Everything that may be had is confirmed."""

    # What the link and its supervisor call.

    def link_up(self, link: L) -> None:
        """Ask the new link for everything."""
        self._link = link
        self._subscriptions.reset()
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
            self._link_lost()
        self._changed()

    def _confirmed(self, channel: Channel) -> None:
        """The carrier has subscribed a channel."""
        if self._subscriptions.confirm_subscribed(channel):
            self._waiters.wake(channel)

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
        if self._subscriptions.settled:
            self._settled()

    # Its end.

    def close(self) -> None:
        """Fail the callers that still wait."""
        self._waiters.close()
