"""What one Redis is asked in one go, when it has forgotten a script that is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.redis.presence.node import NodePresence


class ForgetfulLane:
    """A Redis that has no script until it was given one."""

    def __init__(self) -> None:
        self.has_script = False
        self.done: list[str] = []

    async def ask(self, data: Callable[[], bytes], count: int, needs: object) -> list[Any]:
        reader = hiredis.Reader()
        reader.feed(data())
        return [self._answer(reader.gets()[0].decode()) for _ in range(count)]

    def _answer(self, verb: str) -> Any:
        self.has_script |= verb == "EVAL"
        if verb == "EVALSHA" and not self.has_script:
            return hiredis.ReplyError("NOSCRIPT No matching script.")
        self.done.append(verb)
        return 0


async def test_a_room_is_looked_at_after_its_sets_were_written_whatever_redis_forgets() -> None:
    lane = ForgetfulLane()
    presence = NodePresence(lane, "rooms")  # type: ignore[arg-type]  # as much of one as is used
    room = RoomKey(b"/#tea", b"channel")
    await presence._unindex(room, presence._users(room, ["ann", "bob"]))
    assert lane.done[lane.done.index("EVAL") :] == ["EVAL", "HEXISTS", "HEXISTS"]
