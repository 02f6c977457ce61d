"""What is made of what could not be done."""

from __future__ import annotations

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
