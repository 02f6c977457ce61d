"""Whatever is answered to what history writes and asks: nobody waits for ever."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.history.history import History
from fastapi_rooms.adapters.redis.history.lane import Lane
from fastapi_rooms.adapters.redis.history.rights import HISTORY
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Stretch
from tests.fuzz.strategies import array, bulk, streams
from tests.fuzz.test_replies import SOURCE, Wire, cut_points

ROOM = RoomKey(b"/#tea", b"rooms#/#tea#")
EPOCH = b"00000000000000ab"


class Redis:
    """Answers as Redis does, to what has been written on a wire since it last did."""

    def __init__(self) -> None:
        self._offsets = itertools.count(1)

    def answer(self, wire: Wire) -> None:
        reader = hiredis.Reader()
        reader.feed(wire.written)
        wire.written = b""
        while (command := reader.gets()) is not False:
            wire.say(self._reply_to(command), [])

    def _reply_to(self, command: Any) -> bytes:
        if command[0] in (b"EVAL", b"EVALSHA"):
            keys = int(command[2])
            messages = (len(command) - 3 - keys - 3 - keys // 2) // 5
            places = (EPOCH + b" %d" % next(self._offsets) for _ in range(messages))
            return array([bulk(place) for place in places])
        if command[0] == b"HMGET":
            return array([bulk(EPOCH), bulk(b"1"), bulk(b"7")])
        if command[0] == b"XRANGE":
            return array([array([bulk(b"1-7"), array([bulk(b"d"), bulk(b"hello")])])])
        return b":1\r\n"


@given(st.booleans(), streams, cut_points, st.integers(0, 5))
def test_everyone_who_waits_is_answered(
    is_tried: bool,
    stream: bytes,
    cuts: list[int],
    waiting: int,
) -> None:
    asyncio.run(lane_hears(stream, cuts, waiting, is_tried=is_tried))


async def lane_hears(stream: bytes, cuts: list[int], waiting: int, *, is_tried: bool) -> None:
    budget, redis = ByteBudget(10_000), Redis()
    lane = Lane(SOURCE, "rooms", connect_timeout=1, timeout=60, patience=60, budget=budget)
    lane._supervision = asyncio.create_task(asyncio.sleep(3600))  # what opens links here is below
    history = History(lane, "rooms")
    lane._use(HISTORY)
    wire = Wire(lane.reply)
    lane.link_up(wire.link)
    if is_tried:
        redis.answer(wire)
    tasks: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(history.append(ROOM, b"hello", tag, Retention(5, 60.0)))
        for tag in range(1, waiting + 1)
    ]
    questions = (history.read(ROOM), history.tops([ROOM]), history.forget(ROOM))
    tasks += [asyncio.create_task(question) for question in questions]
    for _ in range(3):
        await asyncio.sleep(0)  # now it is written
    wire.say(stream, cuts)
    assert budget.used >= 0
    # Whatever came: the next connections answer the rest.
    for _ in range(3):
        lane.link_down("given up")
        wire = Wire(lane.reply)
        lane.link_up(wire.link)
        for _ in range(10):
            redis.answer(wire)
            await asyncio.sleep(0)
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    for result in results:
        assert isinstance(result, Position | Stretch | list | AdapterUnavailable | None), result
    assert budget.used == 0
    assert lane.dropped == sum(isinstance(r, AdapterUnavailable) for r in results[:waiting])
    position = asyncio.ensure_future(history.append(ROOM, b"last", 99, Retention(5, 60.0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    redis.answer(wire)
    assert (await position).tag == 99
    await lane.close()
