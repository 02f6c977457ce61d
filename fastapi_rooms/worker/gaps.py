"""What a namespace may have missed while its adapter did not receive."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.worker.events import Gap
from fastapi_rooms.worker.runtime import Runtime


def gap_of(
    outage: Outage,
    namespace: str,
    names: AbstractSet[Room],
    sids: AbstractSet[Sid],
    runtime: Runtime,
) -> Gap | None:
    """The gap that an outage is in a namespace, whose members and listeners are in these rooms.

    On shards, the channel of the namespace may be on the one that was lost: any room may then have
    missed what was sent to several.
    """
    lost, of_room = outage.channels, runtime.channels.of_room
    everyone = runtime.channels.of_namespace(namespace) in lost
    all_rooms = runtime.sharded and everyone
    rooms = sorted(n for n in names - sids if all_rooms or of_room(namespace, n) in lost)
    if rooms or everyone or any(of_room(namespace, sid) in lost for sid in sids):
        return Gap(outage.since, outage.until, tuple(rooms))
    return None
