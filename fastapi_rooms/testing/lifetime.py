"""What the servers for tests have in common: they live for the time of a `with` block."""

from __future__ import annotations

import asyncio
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
