"""What the servers for tests have in common: they live for the time of a `with` block."""

from __future__ import annotations

import asyncio
import os
import signal
from types import TracebackType
from typing import Self


class Lifetime:
    """Started by `with` or `async with`, and over at the end of the block, however that ends."""

    def _set_up(self) -> None:
        """Start, and return when it is of use."""
        raise NotImplementedError

    def _tear_down(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tear_down()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._tear_down)


class BreakableServer(Lifetime):
    """A server in a process of its own, to be ended and held as an operator and the system do.

    Subclasses start it, say its process id, and end it.
    """

    _frozen = False

    @property
    def pid(self) -> int:
        """Its process id."""
        raise NotImplementedError

    @property
    def is_frozen(self) -> bool:
        """Whether it is held by `freeze`."""
        return self._frozen

    def start(self) -> None:
        """Start it, and return when it answers. On the old ports if it ran before."""
        raise NotImplementedError

    def _end(self, how: signal.Signals) -> None:
        """Send it a signal, and return when it has ended."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it as an operator does, with SIGTERM; it closes its connections."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with SIGKILL. Harmless when it does not run."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again, on the same ports, with no more than it has on disk."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Hold it with SIGSTOP: connections stay up, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._frozen = False
