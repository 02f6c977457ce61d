"""Who is in a room, on whichever worker: events say who comes and goes, the roll who was there.

Between the question and the last answer of a roll people come and go, and their events may be
faster. So a page is told when a roll begins, and what it hears from then on outranks the answer.
"""

import asyncio
import itertools
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from example_app.hub import PREFIX, SAID, room_of, rooms, worker
from fastapi_rooms import (
    AdapterUnavailable,
    Gap,
    RemoteSocket,
    RequestError,
    RequestTimeout,
    Socket,
)

CHECK_EVERY = 5.0  # seconds, for workers that have come or gone
CALL_ROLL = "call-roll"
NAME = "name"

numbers = itertools.count(1)


def person(socket: Socket | RemoteSocket) -> dict[str, Any]:
    """What everybody may know of somebody."""
    return {"sid": socket.sid, "name": socket.data["name"], "worker": socket.data["worker"]}


def here(socket: Socket | RemoteSocket, name: str) -> dict[str, Any]:
    """The message that somebody is in a room, by this name now."""
    return {"type": "here", "room": room_of(name), **person(socket)}


@rooms.on("join-room")
async def came(name: str, socket: Socket) -> None:
    """The others are told of the newcomer, and the newcomer of the others."""
    if name.startswith(PREFIX) and name in socket.rooms:  # else it has gone meanwhile
        with suppress(AdapterUnavailable):  # see `after_gap`
            await socket.to(name).send_json(here(socket, name))
        await call_roll([name], socket.sid)


@rooms.on("leave-room")
async def left(name: str, socket: Socket) -> None:
    """However it came about: the button, a closed tab, a lost network, an admin."""
    if not name.startswith(PREFIX):
        return
    with suppress(AdapterUnavailable):
        await rooms.to(name).send_json({"type": "gone", "room": room_of(name), "sid": socket.sid})


async def call_roll(names: Collection[str], sid: str | None = None) -> None:
    """Ask every worker who is in these rooms; tell one socket, or all that are in them here."""
    complete = False
    while names and not complete:
        roll = next(numbers)
        for name in names:
            begins = {"type": "roll", "room": room_of(name), "roll": roll}
            await rooms.local.to(sid or name).send_json(begins)
        try:
            sockets, complete = await rooms.to(*names).fetch_sockets(), True
        except AdapterUnavailable:
            return  # there will be a gap
        except RequestError as error:
            # A silent worker soon counts as dead, or answers after all: ask again. One that
            # refuses would do so again.
            sockets, complete = error.partial, not isinstance(error, RequestTimeout)
        for name in names:
            people = [person(socket) for socket in sockets if name in socket.rooms]
            answer = {"type": "people", "room": room_of(name), "roll": roll, "people": people}
            await rooms.local.to(sid or name).send_json(answer)


async def call_roll_here() -> None:
    """The rooms of this worker's people, all in one question."""
    await call_roll([name for name in rooms.rooms if name.startswith(PREFIX)])


@rooms.on("gap")
async def after_gap(gap: Gap) -> None:
    """This worker may have missed who came and went elsewhere, and the others who did here.

    What was said meanwhile it reads by itself. Where it cannot, it is lost: a gap with that room.
    """
    lost = any(name.startswith(SAID) for name in gap.rooms)
    for name in gap.rooms:
        told = {"type": "gap", "room": room_of(name), "lost": lost}
        await rooms.local.to(name).send_json(told)
    if not lost:
        with suppress(AdapterUnavailable):
            await rooms.server_side_emit(CALL_ROLL)
        await call_roll_here()


@rooms.on_server_side(CALL_ROLL)
async def asked_to_call_roll() -> None:
    await call_roll_here()


@rooms.on_server_side(NAME)
def asked_for_name() -> str:
    return worker()


async def names_of_workers() -> list[str]:
    """What the workers that live call themselves."""
    try:
        replies = await rooms.server_side_emit_with_ack(NAME)
    except RequestTimeout as error:
        replies = error.partial
    except AdapterUnavailable:
        replies = []
    return sorted({worker(), *(reply.value for reply in replies if reply.error is None)})


async def watch_workers() -> None:
    """Tell this worker's pages which workers live. One that was killed says no goodbye for its
    people, so whenever there is one more or less, the roll is called."""
    known: frozenset[str] = frozenset()
    workers: list[str] = []
    while True:
        if rooms.nodes() != known:
            known = rooms.nodes()
            workers = await names_of_workers()
            await call_roll_here()
        await rooms.local.volatile.send_json({"type": "workers", "workers": workers})
        await asyncio.sleep(CHECK_EVERY)
