"""Who is in a room, on whichever worker, and which workers live.

To the library a user is one connection, with its worker and name: all that the page shows of it.
So names may be equal, and each event tells everything.
"""

import asyncio
from contextlib import suppress
from typing import Any

from example_app.hub import PREFIX, SAID, room_of, rooms, worker
from fastapi_rooms import AdapterUnavailable, Gap, PresenceEvent, RequestError, Socket

CHECK_EVERY = 5.0  # seconds, for workers that have come or gone
REPAIRED = 15.0  # seconds in which the workers put in again what Redis has lost


def user_of(socket: Socket) -> str:
    """Who a socket is; `fastapi-rooms who room:tea` lists it so."""
    return f"{socket.sid} {worker()} {socket.data['name']}"


presence = rooms.presence(PREFIX + "*", user=user_of, grace=0)


def person(user: str) -> dict[str, Any]:
    """What everybody may know of somebody."""
    return dict(zip(("sid", "worker", "name"), user.split(" ", 2), strict=True))


async def people(name: str) -> dict[str, Any]:
    """The message that tells who is in a room; what happens later has a higher version."""
    present = await presence.users(name)
    everybody = [person(each.user) for each in present.users]
    return {
        "type": "people",
        "room": room_of(name),
        "version": present.version,
        "people": everybody,
    }


@presence.on("join")
@presence.on("leave")
async def changed(event: PresenceEvent) -> None:
    """Somebody came or went, for whatever reason: every worker tells its own pages."""
    about = {"room": room_of(event.room), "version": event.version, **person(event.user)}
    kind = "here" if event.kind == "join" else "gone"
    await event.namespace.local.to(event.room).send_json({"type": kind, **about})


@rooms.on("gap")
async def after_gap(gap: Gap) -> None:
    """This worker may have missed who came and went.

    What was said meanwhile it reads by itself. Where it cannot, it is lost: a gap with that room.
    """
    lost = any(name.startswith(SAID) for name in gap.rooms)
    for name in gap.rooms:
        told = {"type": "gap", "room": room_of(name), "lost": lost}
        await rooms.local.to(name).send_json(told)
    for delay in (0, REPAIRED):
        await asyncio.sleep(delay)
        for name in gap.rooms:
            if name.startswith(PREFIX) and name in rooms.rooms:
                with suppress(AdapterUnavailable):
                    await rooms.local.to(name).send_json(await people(name))


async def watch_workers() -> None:
    """Tell this worker's pages which workers live."""
    known: frozenset[str] = frozenset()
    workers = [worker()]
    while True:
        if rooms.nodes() != known:
            with suppress(AdapterUnavailable, RequestError):
                known = rooms.nodes()
                workers = sorted(f"{each.host}:{each.pid}" for each in await rooms.workers())
        await rooms.local.volatile.send_json({"type": "workers", "workers": workers})
        await asyncio.sleep(CHECK_EVERY)
