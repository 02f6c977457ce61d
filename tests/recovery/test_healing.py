"""Workers that missed something heal themselves: their clients notice nothing."""

from __future__ import annotations

import asyncio

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import RedisServer, eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast
from tests.faults import kept
from tests.integration.clients import Client, http
from tests.integration.servers import Start
from tests.integration.speakers import speaking
from tests.integration.workers import Workers
from tests.recovery.conftest import NewPerson
from tests.recovery.scene import (
    Person,
    Wire,
    all_ready,
    assert_all_heard_all,
    frozen,
    gaps_in,
    start_worker,
)


async def healed(workers: Workers) -> int:
    return sum([(await workers.state(number))["healed"] for number in range(3)])


async def test_a_killed_subscriber_connection_is_healed_and_no_client_notices(
    redis: RedisServer, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    """Killed again and again in full flow, on all workers at once."""
    people = [person("killed") for _ in range(6)]
    for number, somebody in enumerate(people):
        await somebody.comes(number)
    before = await healed(workers)
    async with speaking(*[voice.rooms.to("killed") for voice in voices * 2]) as speakers:
        for _ in range(8):
            redis.command("CLIENT", "KILL", "TYPE", "pubsub")
            for speaker in speakers[:3]:
                await speaker.goes_on()
    end = await voices[0].rooms.position("killed")
    for somebody in people:
        await somebody.is_at(end)
    assert_all_heard_all(people, speakers)
    assert await healed(workers) > before, "something was missed"
    for number in range(3):
        assert await gaps_in(workers, number, "killed") == 0
    for somebody in people:
        assert somebody.framing.joins == [("killed", None)], "they were told nothing else"


async def test_a_worker_frozen_for_30_s_heals_all_its_rooms(
    redis: RedisServer, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    """As it is frozen, Redis holds its messages until they are too many, and hangs up.

    That is what a long time does; a limit that is soon reached does the same.
    """
    rooms = [f"frozen {number}" for number in range(10)]
    people = [person(room) for room in rooms]
    for somebody in people:
        await somebody.comes(2)
    pid = workers.pids[2]
    limit = redis.command("CONFIG", "GET", "client-output-buffer-limit")[1]
    redis.admin.config_set("client-output-buffer-limit", "pubsub 65536 0 0")
    filler = "x" * 16 * 1024
    sent: dict[str, list[str]] = {room: [] for room in rooms}
    try:
        with frozen(pid):

            async def is_hung_up() -> bool:
                number = len(sent[rooms[0]])
                for room in rooms:
                    sent[room].append(f"{number} {filler}")
                    await voices[number % 2].rooms.to(room).send_text(sent[room][-1])
                return len(redis.connections("pubsub")) == 2

            await eventually(is_hung_up, 30, what="Redis has hung up on the frozen worker")
    finally:
        redis.admin.config_set("client-output-buffer-limit", limit)
    await voices[0].rooms.to(rooms[0]).send_text("end")
    for room, somebody in zip(rooms, people, strict=True):
        await somebody.hears(sent[room][-1])
        assert somebody.heard[: len(sent[room])] == sent[room]
        assert somebody.framing.joins == [(room, None)]
        assert await gaps_in(workers, 2, room) == 0
    await people[0].hears("end")
    assert people[0].heard == [*sent[rooms[0]], "end"]


async def test_the_last_message_before_silence_lost_is_found_by_the_top_check(
    redis: RedisServer, wire: Wire, workers: Workers, start: Start, voices: list[Client]
) -> None:
    """It is numbered and kept, and nobody is told: it went to a channel where nobody is."""
    room, text = "silence", Payload.of_text("the last")
    server = start_worker(start, wire.url, COMPARE="0.2")
    await asyncio.to_thread(server.wait_for_workers)
    ann = Person(Workers({0: server}), room)
    await ann.comes(0)
    await voices[0].rooms.to(room).send_text("before")
    await ann.hears("before")
    async with kept.worker(redis.url) as other:
        message = Broadcast("0123456789abcdef", 7, "/", Target((room,)), text)
        elsewhere = RoomKey(f"/#{room}".encode(), b"rooms#elsewhere#")
        await other.append(codec.encode(message), elsewhere)
    assert await ann.hears("the last") == ["before", "the last"]
    state = await http(server, "/state")
    assert (state["healed"], state["gaps"]) == (1, [])
    await voices[0].rooms.to(room).send_text("after")
    assert await ann.hears("after") == ["before", "the last", "after"]
    await ann.client.close()


async def test_1_000_joiners_of_one_room_cost_one_read(
    redis: RedisServer, wire: Wire, start: Start, voices: list[Client]
) -> None:
    """All at once, on a worker that has just been started: they cost what a single one costs.

    What has been read is trusted for some time. Here that is longer than they take to join.
    """
    positions = {}
    for room in ("single", "thousand"):
        for number in range(50):
            await voices[0].rooms.to(room).send_text(f"{number}")
        positions[room] = await voices[1].rooms.position(room)
        await voices[0].rooms.to(room).send_text("missed")
    server = start_worker(start, wire.url, TRUSTED="60")
    await asyncio.to_thread(server.wait_for_workers)
    clients: list[Client] = []
    try:
        for _ in range(20):
            clients += await asyncio.gather(*(Client.connect(server) for _ in range(50)))
        costs = []
        for room, joining in (("single", clients[:1]), ("thousand", clients)):
            before = reads(redis)
            joined = await asyncio.gather(
                *(client.socket.join(room, since=positions[room]) for client in joining)
            )
            costs.append(reads(redis) - before)
            assert len(joined) == len(joining)
            assert {(each["recovered"], each["replayed"]) for each in joined} == {(True, 1)}
            for client in joining:
                assert await client.next() == "missed"
        assert costs[0] == costs[1] > 0
    finally:
        for client in clients:
            client.vanish()
        for client in clients:
            await client.closed()


def reads(redis: RedisServer) -> int:
    """How many commands have read messages, of which a read may take more than one."""
    return redis.calls("xrange") + redis.calls("xrevrange")


async def test_all_workers_come_back_from_a_cut_wire_with_everything(
    wire: Wire, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    people = [person("cut") for _ in range(3)]
    for number, somebody in enumerate(people):
        await somebody.comes(number)
    async with speaking(*[voice.rooms.to("cut") for voice in voices]) as speakers:
        for _ in range(4):
            wire.do(lambda proxy: proxy.cut())
            for speaker in speakers:
                await speaker.goes_on()
    await all_ready(workers)
    end = await voices[0].rooms.position("cut")
    for somebody in people:
        await somebody.is_at(end)
    assert_all_heard_all(people, speakers)
