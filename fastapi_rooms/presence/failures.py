"""What those are told who wait for what could not be done."""

from __future__ import annotations

import asyncio
import logging

from fastapi_rooms.errors import AdapterUnavailable

logger = logging.getLogger("fastapi_rooms")


def unavailable(error: Exception) -> AdapterUnavailable:
    """What those who wait are told."""
    if isinstance(error, AdapterUnavailable):
        return error
    log(error, "Who is present could not be told")
    return AdapterUnavailable(f"It could not be told who is present: {error!r}")


def log(error: Exception, what: str) -> None:
    """An outage is no news here; anything else is a bug, and must not end what it happened in."""
    is_outage = isinstance(error, AdapterUnavailable)
    logger.log(
        logging.DEBUG if is_outage else logging.ERROR,
        "%s: %s",
        what,
        error,
        exc_info=None if is_outage else error,
    )


def end_as(waiting: asyncio.Future[None], done: asyncio.Future[None]) -> None:
    """Have one future end as another has."""
    if done.cancelled():
        waiting.cancel()
    elif (error := done.exception()) is not None:
        waiting.set_exception(error)
        waiting.exception()  # nobody may wait any more
    else:
        waiting.set_result(None)
