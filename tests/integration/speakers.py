"""Clients that talk without a pause while something happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from fastapi_rooms.testing import eventually
from tests.integration.clients import Call, Refused


class Speaker:
    """Somebody who says numbers, one after the other.

    Args:
        to: the client's operator, as `client.socket.to("tea")`.
        name: what is said before each number.
    """

    def __init__(self, to: Call, name: str) -> None:
        self._to = to
        self._name = name
        self._task = asyncio.create_task(self._talk())
        self._is_over = False
        self.said: dict[str, tuple[float, float]] = {}
        """What was accepted, and when it was said and answered."""
        self.refused: list[str] = []

    async def _talk(self) -> None:
        for number in count():
            text, begun = f"{self._name} {number}", time.time()
            try:
                await self._to.send_text(text)
            except Refused:
                self.refused.append(text)
            else:
                self.said[text] = begun, time.time()
            if self._is_over:
                return

    async def goes_on(self) -> None:
        """Wait until twenty more have been accepted."""
        enough = len(self.said) + 20
        await eventually(lambda: len(self.said) >= enough)

    async def stop(self) -> None:
        """Say one more, and no more."""
        self._is_over = True
        await self._task

    def cancel(self) -> None:
        """Say no more, whatever is on its way."""
        self._task.cancel()


@asynccontextmanager
async def speaking(*operators: Call) -> AsyncIterator[list[Speaker]]:
    """Have all of them talk, each with a name of its number."""
    speakers = [Speaker(to, f"speaker-{number}") for number, to in enumerate(operators)]
    try:
        for speaker in speakers:
            await speaker.goes_on()
        yield speakers
        for speaker in speakers:
            await speaker.goes_on()
            await speaker.stop()
    finally:
        for speaker in speakers:
            speaker.cancel()
