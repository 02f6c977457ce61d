"""Whether a connection receives everything that is wanted, and what was missed while it did not.

A loss begins at the last moment up to which a probe has proven that nothing was missing. It ends
when what was wanted then is confirmed on a later link. Where a link is lost before that, only the
channels that were live on it have a loss that begins anew; for the others the first one goes on.
Channels that come to be wanted meanwhile, by those who do not wait for them, are lost since then.
"""

from __future__ import annotations

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.adapters.subscriptions import Losses, Subscriptions


class Reception:
    """The state of one subscriber, over all of its links. Times are seconds since the epoch."""

    def __init__(self, losses: Losses | None = None) -> None:
        self._losses = Losses() if losses is None else losses
        self._is_recovering = False
        self._proven_until: float | None = None
        self.is_complete = False
        """Whether there is a link on which everything that is wanted and allowed is confirmed."""
        self.complete_since = 0.0
        """When everything was confirmed on this link."""
        self.last_received: float | None = None
        """When anything last arrived on the last link that was lost."""
        self.reconnects = 0
        """How often everything was confirmed again after a loss."""

    @property
    def proven_until(self) -> float | None:
        """Until when everything published has certainly been received, if that was ever proven."""
        return self._proven_until

    def prove(self, until: float) -> None:
        """Everything that the carrier took before that time has been received."""
        self._proven_until = until

    def link_lost(self, last_received: float, subscriptions: Subscriptions) -> None:
        """The link is lost; `subscriptions` are those that it had."""
        self.last_received = last_received
        since = last_received if self._proven_until is None else self._proven_until
        if self._is_recovering:  # what was not live since the last loss is still lost since then
            self._losses.lose(subscriptions.live, since)
        else:
            self._losses.lose(subscriptions.wanted, since)
        self.is_complete, self._is_recovering = False, True

    def confirmed(self, subscriptions: Subscriptions, now: float) -> tuple[bool, Outage | None]:
        """Some channels have been confirmed, or refused.

        Returns whether that makes the connection complete, and the outage that is over by it, if
        one is.
        """
        became_complete = not self.is_complete and subscriptions.restored
        if became_complete:
            self.is_complete, self.complete_since = True, now
            self.reconnects += self._is_recovering
            self._is_recovering = False
        elif not (self.is_complete and subscriptions.settled):
            return False, None
        restored = became_complete and not subscriptions.forbidden
        regained = self._losses.regain(subscriptions.live, restored=restored)
        return became_complete, regained and Outage(regained[0], now, regained[1])
