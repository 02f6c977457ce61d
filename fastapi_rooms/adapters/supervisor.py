"""Keeps one link open: connects, waits until it is lost, and connects again, until cancelled."""

from __future__ import annotations

import asyncio
import logging
import random
from asyncio import CancelledError, current_task
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

logger = logging.getLogger("fastapi_rooms")

FIRST_DELAY = 0.05
MAX_DELAY = 1.0


class Link(Protocol):
    """An open connection, as far as its supervisor has to know it."""

    @property
    def lost(self) -> asyncio.Future[str]:
        """Done when the connection is gone; the result says why."""

    async def close(self) -> None:
        """Close it, and return when it is closed."""


L = TypeVar("L", bound=Link)


class LinkUser(Protocol[L]):
    """Talks over the link that the supervisor keeps open."""

    async def open(self) -> L:
        """Open a new link, or raise."""

    def open_failed(self, error: Exception) -> None:
        """`open` raised; it is called again after a delay."""

    def link_up(self, link: L) -> None:
        """A new link is open; nothing has been sent over it yet."""

    def link_down(self, reason: str) -> None:
        """The link is lost."""


async def supervise(user: LinkUser[L]) -> None:
    """Give `user` a link whenever there is none. Ends only by cancellation.

    The first retry is immediate; then delays double from 50 ms to a second, each drawn between
    half and the whole of it, so that many workers do not reconnect in step. A link that is lost
    soon after it was opened counts as a failure: whatever broke it may break the next one as fast.
    """
    clock = asyncio.get_running_loop().time
    delay = 0.0
    while True:
        _raise_if_cancelled()
        await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 -- no secret
        try:
            link = await user.open()
        except Exception as error:  # noqa: BLE001 -- any failure may be temporary
            _tell(user.open_failed, error)
            delay = min(max(delay * 2, FIRST_DELAY), MAX_DELAY)
            continue
        opened = clock()
        try:
            _raise_if_cancelled()
            try:
                user.link_up(link)
                reason = await link.lost
            except Exception as error:  # noqa: BLE001
                complain("A connection failed unexpectedly, and is made again", error)
                reason = repr(error)
            has_lasted = clock() - opened > MAX_DELAY
            _tell(user.link_down, reason)
        finally:
            await link.close()
        delay = 0.0 if has_lasted else min(max(delay * 2, FIRST_DELAY), MAX_DELAY)


T = TypeVar("T")


def _tell(event: Callable[[T], None], what: T) -> None:
    """Report an event; whatever that raises, a logging handler's error included, ends no loop."""
    try:
        event(what)
    except Exception as error:  # noqa: BLE001
        complain("The loss of a connection could not be reported", error)


def complain(what: str, error: Exception) -> None:
    """Log an error; a logging handler that raises in its turn ends no loop."""
    with suppress(Exception):
        logger.error(what, exc_info=error)


def _raise_if_cancelled() -> None:
    """Opening may swallow a cancellation: before Python 3.12 `asyncio.wait_for` does, at times."""
    task = current_task()
    if task is not None and task.cancelling():
        raise CancelledError
