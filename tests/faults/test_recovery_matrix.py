"""The faults of the matrix in a room that remembers: what is missed is had again, or told."""

from __future__ import annotations

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.testing import Member, RedisServer
from tests.faults.scene import ROOM, Worker, scene
from tests.faults.support import manager
from tests.faults.test_matrix import FAULTS

SIZE = 100_000
"""More than is said."""

FORGETS = {"redis is restarted empty", "redis is stopped and started later", "redis is emptied"}
"""After these Redis has nothing to read."""

MAY_FORGET = {*FORGETS, "redis is restarted and loads its data"}
"""After that one it has read what was said until it was saved, a moment before it was killed."""

OTHERWISE = {
    "a publishing connection goes dead",  # there are two connections that are not for subscribing
    "redis is out of memory",  # such a room is refused for as long as it lasts: below
}


def _heard(worker: Worker) -> list[str]:
    return [text for text in worker.member.unread if isinstance(text, str)]


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in OTHERWISE])
async def test_a_room_that_remembers_comes_back_whole_after(name: str) -> None:
    fault = FAULTS[name]
    async with (
        RedisServer(arguments=("--key-load-delay", "20000")) as server,
        scene(server, dict.fromkeys(fault.noticed.split(), fault.settings), size=SIZE) as s,
    ):
        await fault.happens(s)
        await s.flows()
    near, far = (_heard(worker) for worker in s.workers)
    accepted = {text for worker in s.workers for text in worker.talk.accepted}
    both = set(near).intersection(far)
    assert [t for t in near if t in both] == [t for t in far if t in both], "in one order"
    for worker, heard in zip(s.workers, (near, far), strict=True):
        told = any(ROOM in gap.rooms for gap in worker.gaps)
        assert len(set(heard)) == len(heard), "nothing twice"
        if accepted.difference(heard):
            assert name in MAY_FORGET
            assert told, "lost, and told to be"
        if name not in MAY_FORGET:
            assert not told, "nothing is lost, and nobody is alarmed"


async def test_a_redis_that_is_out_of_memory_takes_no_message_that_it_could_not_keep(
    own_redis: RedisServer,
) -> None:
    rooms = manager(own_redis)
    rooms.history("chat-*")
    async with rooms, Member(rooms, "chat-tea", "plain") as ann:
        own_redis.admin.config_set("maxmemory-policy", "noeviction")
        own_redis.admin.config_set("maxmemory", 1)
        with pytest.raises(AdapterUnavailable, match="maxmemory") as refusal:
            await rooms.to("chat-tea").send_text("refused")
        assert not refusal.value.uncertain
        await rooms.to("plain").send_text("plain")
        own_redis.admin.config_set("maxmemory", 0)
        await rooms.to("chat-tea").send_text("kept")
        assert [await ann.receive() for _ in "12"] == ["plain", "kept"]
        assert [message.text for message in await rooms.recent("chat-tea")] == ["kept"]
