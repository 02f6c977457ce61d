"""Hearing rooms without a socket, for the time of a block."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.errors import ListenerOverflow
from fastapi_rooms.types import Room
from fastapi_rooms.worker.causes import causes_of
from fastapi_rooms.worker.listener import Listener
from fastapi_rooms.worker.local_namespace import LocalNamespace
from fastapi_rooms.worker.resume import Resume

logger = logging.getLogger("fastapi_rooms")


@asynccontextmanager
async def listening(
    here: LocalNamespace,
    rooms: tuple[Room, ...],
    outbox: OutboxPolicy | None,
    resume: Resume,
    *,
    everyone: bool = False,
) -> AsyncIterator[Listener]:
    """Have a listener among the members of some rooms.

    Its overflow ends the block quietly, as the end of its client ends a socket's; also out of an
    `asyncio.TaskGroup` in the block, if its tasks fail of nothing else.
    """
    of = here.runtime.channels
    channels = [of.of_namespace(here.name), *(of.of_room(here.name, room) for room in rooms)]
    opened = await here.joins.acquire(channels, rooms, resume)
    release = partial(here.runtime.release, channels)
    listener = here.listeners.add(
        rooms, outbox or here.outbox, here.json, release, everyone=everyone
    )
    here.recovery.replay_to(listener, opened, resume)
    here.recovery.close(opened)
    here.settle()
    try:
        yield listener
    except Exception as error:
        causes = list(causes_of(error))
        if not all(isinstance(e, ListenerOverflow) and e.listener is listener for e in causes):
            raise
        # The client of an event stream can bring it about as often as it likes.
        logger.warning("A listener has ended. %s", causes[0])
    finally:
        here.listeners.remove(listener)
        here.settle()
