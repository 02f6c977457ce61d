"""When a client comes back: which close codes end it for good, and after how long it tries again.

`docs/reference/close-codes.md` has the codes; the browser client goes by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

EXPIRED: Final = 4401
"""The token is refused: a new one may not be."""

_RESTART: Final = 1012
_FINAL = frozenset({1000, 1003, 1007, 1008, 1009, 1010})
_LATER = frozenset({4408, 4425, 4429})

MAX_DELAY = 20.0
"""Seconds."""

SPREAD = 5.0
"""Seconds over which clients come back after 1012, where the server did not say over how many."""

_STEEPEST = 20
"""Attempts after which the delay grows no more."""


def is_final(code: int) -> bool:
    """Whether another connection would end in the same way, or is not wanted."""
    if code < 3000:
        return code in _FINAL
    return code not in _LATER and not 4500 <= code < 4600


def longest_delay(attempts: int) -> float:
    """Seconds that the next attempt is put off at most, after so many in vain.

    One for the first five, then half as much again each time.
    """
    return min(MAX_DELAY, 1.5 ** max(0, min(attempts, _STEEPEST) - 4))


class Reconnection:
    """What one client knows of its attempts to connect.

    Args:
        can_refresh: whether there is somebody to be asked for a new token.
        random: a number from 0 to 1, another one each time: clients that were disconnected together
            do not come back together.
    """

    def __init__(self, *, can_refresh: bool, random: Callable[[], float]) -> None:
        self._can_refresh = can_refresh
        self._random = random
        self._attempts = 0
        self.refresh = False
        """Whether the token was refused, and a new one has to be asked for."""

    def lasted(self) -> None:
        """The connection has lived for so long that it was a success."""
        self._attempts = 0
        self.refresh = False

    def lost(
        self, code: int, window: float | None = None, *, at_once: bool = False
    ) -> float | None:
        """A connection is over, or an attempt has failed.

        Args:
            code: its close code; 1006 if there is none.
            window: seconds over which the server wants its clients to come back after 1012; `None`
                if it has not said.
            at_once: it had lived, and nobody was found at the other end.

        Returns:
            The seconds to wait for; `None` if it is over for good.
        """
        if code == EXPIRED and self._can_refresh and not self.refresh:
            self.refresh = True
        elif is_final(code):
            return None
        if at_once:
            return 0.0
        longest = longest_delay(self._attempts)
        self._attempts += 1
        if code == _RESTART:
            longest = max(longest, SPREAD if window is None else window)
        return self._random() * longest
