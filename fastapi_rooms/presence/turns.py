"""Calls something once for all that comes in some turns of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TURNS = 3
"""How many. That is no time where nothing else is done. In a storm there are half as many questions
and answers for it, each of which is a system call here and another at the carrier."""


class CallInTurns:
    """Calls a function some turns after it was first asked to, and then anew.

    Args:
        call: what is called.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._is_scheduled = False

    def schedule(self) -> None:
        """Call it, unless it is going to be called."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._pass, TURNS)

    def _pass(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._pass, turns - 1)
        else:
            self._is_scheduled = False
            self._call()
