"""What Node servers see of a worker that is frozen, killed, started or cut off, and we of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from fastapi_rooms import Gap, RequestTimeout, RoomManager, SocketIO
from fastapi_rooms.testing import Member, RedisServer, eventually
from fastapi_rooms.wire.socketio import msgpack
from tests.integration.socketio.conftest import KEY
from tests.integration.socketio.scene import NodeServers, Scene, as_native

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUESTS = f"{KEY}-request#/#"


@asynccontextmanager
async def worker_process(
    redis: RedisServer,
) -> AsyncIterator[tuple[Process, str]]:
    """Another worker, and the sid of its member."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "tests.integration.socketio.worker", redis.url, KEY)
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def fetched(node: NodeServers) -> set[str] | str:
    """The sids that a Node server fetches, or why it does not."""
    code = "a.io.of('/').adapter.requestsTimeout = 400; return a.io.fetchSockets()"
    found = await node.run(f"{code}.then((all) => all.map((s) => s.id), (error) => error.message)")
    return found if isinstance(found, str) else set(found)


async def test_a_worker_is_to_node_what_a_node_server_would_be(
    scene: Scene, redis_server: RedisServer
) -> None:
    node, everyone = scene.node, set(scene.sids.values())
    async with worker_process(redis_server) as (process, sid):
        assert await fetched(node) == everyone | {sid}
        process.send_signal(signal.SIGSTOP)
        # Frozen: it is counted, and says nothing.
        found = await fetched(node)
        assert isinstance(found, str)
        assert "timeout reached" in found
        process.send_signal(signal.SIGCONT)
        assert await fetched(node) == everyone | {sid}
        process.kill()
        await process.wait()

    # Killed: it is counted no more, as soon as Redis knows.
    async def without_it() -> bool:
        return await fetched(node) == everyone

    await eventually(without_it)
    # Another one in its place is counted from its start to its end.
    async with (
        RoomManager(redis_server.url, socketio=SocketIO(key=KEY)) as rooms,
        Member(rooms) as member,
    ):
        assert await fetched(node) == everyone | {member.sid}
    assert await fetched(node) == everyone


async def test_node_servers_that_do_not_answer_are_counted(scene: Scene) -> None:
    os.kill(scene.node.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RequestTimeout) as silent:
            await scene.one.fetch_sockets(timeout=0.2)
    finally:
        os.kill(scene.node.pid, signal.SIGCONT)
    assert silent.value.unidentified == 2
    found = {socket.sid for socket in silent.value.partial}
    assert found == {scene.sids["ann"], scene.sids["bob"]}
    assert await scene.one.count() == 4


async def test_who_cannot_publish_is_not_counted(own_redis: RedisServer) -> None:
    async with Redis.from_url(own_redis.url, decode_responses=True) as redis:

        async def counted() -> int:
            ((_, count),) = await redis.pubsub_numsub(REQUESTS)
            return int(count)

        async def uncounted() -> bool:
            return await counted() == 0

        async with RoomManager(own_redis.url, socketio=SocketIO(key=KEY)) as rooms:
            assert await counted() == 1
            # Redis takes no new connections: that to publish by is lost, and not made again.
            await redis.config_set("maxclients", 2)
            await redis.client_kill_filter(_type="normal", skipme=True)
            await eventually(uncounted)
            assert len(await redis.pubsub_channels("rooms#*")) > 0
            await redis.config_set("maxclients", 100)
            await eventually(counted, timeout=15)
            assert rooms.health.ready
        assert await uncounted()


async def test_a_lost_subscription_is_a_gap_and_everything_is_heard_again(
    own_redis: RedisServer,
) -> None:
    gaps: list[Gap] = []
    rooms = RoomManager(own_redis.url, socketio=SocketIO(key=KEY))
    rooms.on("gap")(gaps.append)
    async with (
        Redis.from_url(own_redis.url) as redis,
        rooms,
        Member(rooms, "tea", sid="chosen") as ann,
        Member(rooms) as bob,
    ):
        await redis.client_kill_filter(_type="pubsub")
        await eventually(lambda: gaps)
        assert gaps[0].rooms == ("tea",)
        await eventually(lambda: rooms.health.ready)
        for room in ("tea", ann.sid, bob.sid):
            data = msgpack.pack(["n", {"type": 2, "data": [room]}, {"rooms": [room]}])
            assert await redis.publish(f"{KEY}#/#{room}#", data) == 1
        assert await ann.receive_json() == {"event": "tea", "args": []}
        assert await ann.receive_json() == {"event": "chosen", "args": []}
        assert await bob.receive_json() == {"event": bob.sid, "args": []}


@pytest.mark.parametrize("mode", ["receive", "send"])
async def test_who_only_hears_or_only_says_is_not_asked(
    scene: Scene, redis_server: RedisServer, mode: str
) -> None:
    settings = SocketIO(key=KEY, mode=mode)  # type: ignore[arg-type]  # one of two
    everyone = set(scene.sids.values())
    async with (
        RoomManager(redis_server.url, socketio=settings) as rooms,
        Member(rooms, "blue") as member,
    ):
        assert await fetched(scene.node) == everyone
        assert await rooms.local.count() == 1
        end = scene.end()
        await rooms.to("blue").emit("said")
        await scene.node.run(f"a.io.to('blue').emit('heard'); a.io.emit('{end}')")
        if mode == "receive":
            assert await member.receive_json() == {"event": "said", "args": []}
            assert await member.receive_json() == {"event": "heard", "args": []}
            heard = await scene.heard(end)
            assert heard["xia"] == [["heard"]]
        else:
            heard = await scene.heard(end)
            assert heard["xia"] == [["said"], ["heard"]]
            assert await member.receive_json() == {"event": "said", "args": []}
            assert member.unread == []
            await rooms.to("red").sockets_join("sent")
            assert [s.node for s in await scene.one.to("sent").fetch_sockets()].count(
                "socket.io"
            ) == 1
            await rooms.to("sent").sockets_leave("sent")


async def test_a_room_that_remembers_keeps_what_we_send_and_node_hears_it(
    scene: Scene, redis_server: RedisServer
) -> None:
    rooms = RoomManager(redis_server.url, prefix="keeping", socketio=SocketIO(key=KEY))
    rooms.history("kept")
    async with rooms, Member(rooms, "kept") as member:
        await scene.node.run("await b.client('kim', {rooms: ['kept']})")
        await rooms.to("kept").emit("news", 1)
        await rooms.to("kept").send_text("hi")
        # What Node says has no place in the history: it is delivered, and counted.
        await scene.node.run("a.io.to('kept').emit('theirs')")
        end = scene.end()
        await scene.node.run(f"a.io.emit('{end}')")
        assert await member.receive_until(as_native([end])) == [
            as_native(["news", 1]),
            "hi",
            as_native(["theirs"]),
        ]
        assert [m.text for m in await rooms.recent("kept")] == [as_native(["news", 1]), "hi"]
        assert rooms.health.unkept == 1
        await scene.heard(end)
    got = await scene.node.run(f"return b.gotUntil('kim', '{end}')")
    assert got == [["news", 1], ["message", "hi"], ["theirs"]]
