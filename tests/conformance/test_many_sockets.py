"""The verbs over three workers of a thousand sockets each."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi_rooms import RedisAdapter
from fastapi_rooms.testing import Cluster, RedisServer

EACH = 1000


async def test_three_workers_of_a_thousand_sockets_answer_as_one(
    redis_server: RedisServer,
) -> None:
    adapter = partial(RedisAdapter, redis_server.url)
    async with Cluster(3, adapter=adapter, join_timeout=60, request_timeout=60) as cluster:
        members = await asyncio.gather(
            *(
                cluster.member(worker, "all", f"part {n % 10}", data={"number": n})
                for worker in cluster
                for n in range(EACH)
            )
        )
        one, two, three = cluster
        assert await one.count() == 3 * EACH
        assert await two.to("part 3").count() == 3 * EACH // 10
        found = await three.to("all").fetch_sockets()
        assert {s.sid: s.data["number"] for s in found} == {
            m.sid: m.socket.data["number"] for m in members
        }
        await one.to("part 7").sockets_join("chosen")
        assert await two.to("chosen").count() == 3 * EACH // 10
        await three.to("chosen").send_text("hello")
        chosen = [member for member in members if "chosen" in member.socket.rooms]
        assert {await member.receive_text() for member in chosen} == {"hello"}
        await one.except_("chosen").disconnect_sockets()
        assert await two.count() == len(chosen) == 3 * EACH // 10
