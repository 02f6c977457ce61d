"""Keeps one link open: connects, waits until it is lost, and connects again, until cancelled."""

from __future__ import annotations

import asyncio
import logging
import random
from asyncio import CancelledError, current_task
from contextlib import suppress
from typing import Protocol

from redis.exceptions import AuthenticationError, AuthorizationError

from fastapi_rooms.adapters.redis.links.link import Link

logger = logging.getLogger("fastapi_rooms")

FIRST_DELAY = 0.05
MAX_DELAY = 1.0


class LinkUser(Protocol):
    """Whoever talks over the link."""

    async def open(self) -> Link:
        """Open a new link, or raise."""

    def link_up(self, link: Link) -> None:
        """A new connection is open; nothing has been asked of it yet."""

    def link_down(self, reason: str, *, refused: bool = False) -> None:
        """The connection is lost or could not be opened; `refused` if Redis rejects who we are."""


async def supervise(user: LinkUser) -> None:
    """Give `user` a link whenever there is none. Ends only by cancellation.

    The first retry is immediate; then delays double from 50 ms to a second, each drawn between
    half and the whole of it, so that many workers do not return in step. A link that is lost soon
    after it was opened was no success: what broke it may break the next one just as fast.
    """
    clock = asyncio.get_running_loop().time
    delay = 0.0
    while True:
        _raise_if_cancelled()
        await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 -- no secret
        try:
            link = await user.open()
        except Exception as error:  # noqa: BLE001 -- whatever it is, it may be mended
            refused = isinstance(error, AuthenticationError | AuthorizationError)
            _tell(user, str(error) or type(error).__name__, refused=refused)
            delay = min(max(delay * 2, FIRST_DELAY), MAX_DELAY)
            continue
        opened = clock()
        try:
            _raise_if_cancelled()
            try:
                user.link_up(link)
                reason = await link.lost
            except Exception as error:  # noqa: BLE001
                complain("A connection to Redis is given up", error)
                reason = repr(error)
            _tell(user, reason)
        finally:
            await link.close()
        lasted = clock() - opened > MAX_DELAY
        delay = 0.0 if lasted else min(max(delay * 2, FIRST_DELAY), MAX_DELAY)


def _tell(user: LinkUser, reason: str, *, refused: bool = False) -> None:
    """Whatever comes of it, the log's own handlers included, ends no loop."""
    try:
        user.link_down(reason, refused=refused)
    except Exception as error:  # noqa: BLE001
        complain("That a connection to Redis is lost could not be told", error)


def complain(what: str, error: Exception) -> None:
    """Log what was raised; a handler of the log that raises in its turn ends no loop."""
    with suppress(Exception):
        logger.error(what, exc_info=error)


def _raise_if_cancelled() -> None:
    """Opening may swallow a cancellation: before Python 3.12 `asyncio.wait_for` does, at times."""
    task = current_task()
    if task is not None and task.cancelling():
        raise CancelledError
