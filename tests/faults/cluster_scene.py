"""Two workers on a Redis Cluster, a member of a room of each node, and no pause in their talk."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from fastapi_rooms import Gap, RedisClusterAdapter, RoomManager
from fastapi_rooms.testing import Member, RedisCluster, RedisClusterNode, eventually
from tests.faults.support import Talk, talking


def manager(cluster: RedisCluster, **options: Any) -> RoomManager:
    return RoomManager(RedisClusterAdapter(cluster.url, **options), linger=0.05)


def channel(room: str) -> str:
    return f"rooms#{{/#{room}}}#"


def rooms_by_node(cluster: RedisCluster) -> list[tuple[RedisClusterNode, str]]:
    """For each master a room that lives there; last, where the namespace's own channel lives."""
    found: dict[int, tuple[RedisClusterNode, str]] = {}
    number = 0
    while len(found) < 3:
        room = f"room {number}"
        node = cluster.master_of(channel(room))
        found.setdefault(node.port, (node, room))
        number += 1
    last = cluster.master_of("rooms#/#")
    return sorted(found.values(), key=lambda pair: pair[0] is last)


def gaps_of(rooms: RoomManager) -> list[Gap]:
    """Every gap from now on."""
    gaps: list[Gap] = []
    rooms.on("gap")(gaps.append)
    return gaps


def assert_none_twice_and_in_order(received: list[Any]) -> None:
    numbers = [int(text) for text in received]
    assert numbers == sorted(set(numbers))


async def flows_again(talk: Talk, there: Member) -> None:
    """Wait until what is said from now on arrives, all of it. What is on its way may be lost."""
    now = time.time()
    await talk.goes_on()
    await talk.goes_on()
    after = [text for text in talk.accepted if talk.answers[text].begun >= now]
    await eventually(lambda: after[-1] in there.unread)
    assert there.unread[there.unread.index(after[0]) :][: len(after)] == after


def assert_no_loss_is_silent(talk: Talk, there: Member, gaps: list[Gap]) -> None:
    """What was accepted and not heard is in a gap of the room."""
    for text in {*talk.accepted} - {*there.unread}:
        said = talk.answers[text]
        assert any(gap.since <= said.answered and said.begun <= gap.until for gap in gaps), (
            f"{text}, of {said}, is in none of {gaps}"
        )


class Scene(NamedTuple):
    """Two workers, one of which talks without a pause to two rooms of the other, on two nodes.

    A fault is done to the one node; what the room on the other hears is undisturbed by it.
    """

    near: RoomManager
    far: RoomManager
    node: RedisClusterNode
    room: str
    there: Member
    talk: Talk
    target: RedisClusterNode
    other: str
    elsewhere: Member
    undisturbed: Talk
    gaps: list[Gap]


@asynccontextmanager
async def scene(cluster: RedisCluster) -> AsyncIterator[Scene]:
    """Raise the curtain; at the end both rooms hear again, and what each has heard is looked at."""
    near, far = manager(cluster), manager(cluster)
    (node, room), (target, other), _ = rooms_by_node(cluster)
    async with near, far, Member(far, room) as there, Member(far, other) as elsewhere:
        gaps = gaps_of(far)
        async with talking(near, room) as talk, talking(near, other) as undisturbed:
            yield Scene(
                *(near, far, node, room, there, talk, target, other, elsewhere, undisturbed, gaps)
            )
            await flows_again(talk, there)
            await flows_again(undisturbed, elsewhere)
        await eventually(lambda: talk.accepted[-1] in there.unread)
        await eventually(lambda: undisturbed.accepted[-1] in elsewhere.unread)
        assert talk.refused == undisturbed.refused == []
        assert elsewhere.unread == undisturbed.accepted
        assert_no_loss_is_silent(talk, there, [gap for gap in gaps if room in gap.rooms])
        assert_none_twice_and_in_order(there.unread)
