"""Redis has lost what it knew: it is told, refused, and never guessed."""

from __future__ import annotations

import os

import pytest

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client
from tests.integration.speakers import speaking
from tests.integration.workers import Workers
from tests.recovery.conftest import NewPerson
from tests.recovery.scene import (
    Person,
    Wire,
    all_ready,
    append_only_file,
    gaps_in,
    replicated,
    restart_empty,
    start,
)


async def say(voice: Client, room: str, *texts: str) -> None:
    for text in texts:
        await voice.rooms.to(room).send_text(text)


async def told(workers: Workers, room: str) -> None:
    """Wait until every worker was told that something in a room is lost."""
    for number in range(3):

        async def is_told(number: int = number) -> bool:
            return await gaps_in(workers, number, room) > 0

        await eventually(is_told, what=f"a gap on worker {number}")


async def assert_nothing_later_is_missed(
    people: list[Person], voices: list[Client], room: str
) -> None:
    """What is said once the loss was told is heard by everyone, whatever number it has."""
    later = [f"later {number}" for number in range(5)]
    for number, text in enumerate(later):
        await say(voices[number % 3], room, text)
    for somebody in people:
        assert (await somebody.hears(later[-1]))[-5:] == later


async def test_a_redis_restarted_empty_refuses_every_old_position(
    redis: RedisServer, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    room = "emptied"
    people = [person(room) for _ in range(3)]
    for number, somebody in enumerate(people):
        await somebody.comes(number)
        await say(voices[0], room, f"{number}")
        await somebody.hears(f"{number}")
        await somebody.is_cut_off()  # so that each has another position
    await restart_empty(redis)
    await all_ready(workers)
    for turn in range(2):
        for number, somebody in enumerate(people):
            positions = dict(somebody.framing.positions)
            await somebody.comes(number + 1)
            assert (somebody.recovered, somebody.replayed) == (False, 0)
            await somebody.is_cut_off()
            somebody.framing.positions = positions
        await say(voices[0], room, *(f"{turn} {number}" for number in range(3)))
    new = await voices[0].rooms.position(room)
    assert int(new.split(".")[1]) == 6, "the old offsets exist again"
    assert [await gaps_in(workers, number, room) for number in range(3)] == [0, 0, 0]


async def test_a_failover_that_lost_two_writes_tells_every_member_who_had_seen_them(
    redis: RedisServer, wire: Wire, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    room = "lost two"
    people = [person(room) for _ in range(6)]
    for number, somebody in enumerate(people):
        await somebody.comes(number)
    async with replicated(redis, wire) as failover:
        await say(voices[0], room, *(f"kept {number}" for number in range(8)))
        await failover.is_in_step()
        failover.stop_replication()
        await say(voices[1], room, "lost 1", "lost 2")
        seen = [*(f"kept {number}" for number in range(8)), "lost 1", "lost 2"]
        for somebody in people:
            assert await somebody.hears("lost 2") == seen
        failover.happen()
        await say(voices[2], room, "new 1", "new 2", "new 3")  # two of which have the lost offsets
        await told(workers, room)
        await assert_nothing_later_is_missed(people, voices, room)
        for somebody in people:
            between = [text for text in somebody.heard[10:] if "new" in text]
            assert between == ["new 1", "new 2", "new 3"][3 - len(between) :]
        for number in range(3):
            assert await gaps_in(workers, number, room) == 1, "once"
        for somebody in people:
            assert somebody.framing.joins == [(room, None), (room, False)], "and so were they"
    await all_ready(workers)


async def test_a_position_from_a_lost_write_is_refused_although_its_offset_exists_again(
    redis: RedisServer, wire: Wire, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    room = "exists again"
    safe, first, second = (person(room) for _ in range(3))
    async with replicated(redis, wire) as failover:
        for somebody in (safe, first, second):
            await somebody.comes(0)
        await say(voices[0], room, "kept")
        await safe.hears("kept")
        await safe.is_cut_off()
        await failover.is_in_step()
        failover.stop_replication()
        await say(voices[0], room, "lost 1")
        await first.hears("lost 1")
        await first.is_cut_off()
        await say(voices[0], room, "lost 2")
        await second.hears("lost 2")
        await second.is_cut_off()
        failover.happen()
        new = ["new 1", "new 2", "new 3"]
        await say(voices[1], room, *new)
        await all_ready(workers)
        position = await voices[2].rooms.position(room)
        assert second.position is not None
        assert position.split(".")[0] == second.position.split(".")[0], "the same numbering"
        assert int(position.split(".")[1]) == int(second.position.split(".")[1]) + 1
        for worker in range(3):
            for somebody, recovered in ((first, False), (second, False), (safe, True)):
                positions, before = dict(somebody.framing.positions), len(somebody.heard)
                await somebody.comes(worker)
                assert (somebody.recovered, somebody.replayed) == (recovered, 3 * recovered)
                await somebody.client.socket.send_text("end")
                heard = (await somebody.hears("end"))[before:]
                assert heard == [*new * recovered, "end"]
                await somebody.is_cut_off()
                somebody.framing.positions = positions
                del somebody.heard[before:]
    await all_ready(workers)


async def test_a_failover_that_lost_nothing_is_recovered_across(
    redis: RedisServer, wire: Wire, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    room = "lost nothing"
    present, away = [person(room) for _ in range(3)], person(room)
    for number, somebody in enumerate(present):
        await somebody.comes(number)
    async with replicated(redis, wire) as failover:
        await away.comes(0)
        await say(voices[0], room, "seen")
        await away.hears("seen")
        await away.is_cut_off()
        await say(voices[1], room, "before")
        await failover.is_in_step()
        failover.happen()
        await say(voices[2], room, "after")
        everything = ["seen", "before", "after"]
        for somebody in present:
            assert await somebody.hears("after") == everything
            assert somebody.framing.joins == [(room, None)]
        await away.comes(1)
        assert (away.recovered, away.replayed) == (True, 2)
        assert await away.hears("after") == everything
        for number in range(3):
            assert await gaps_in(workers, number, room) == 0
    await all_ready(workers)


async def test_flushall_in_full_flow_is_told_once_per_room(
    redis: RedisServer, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    rooms = ["flush 1", "flush 2"]
    people = {room: [person(room) for _ in range(3)] for room in rooms}
    for them in people.values():
        for number, somebody in enumerate(them):
            await somebody.comes(number)
    operators = [voice.rooms.to(room) for voice in voices for room in rooms]
    async with speaking(*operators) as speakers:
        for speaker in speakers:
            await speaker.goes_on()
        redis.command("FLUSHALL")
        for speaker in speakers:
            await speaker.goes_on()
        for room in rooms:
            await told(workers, room)
        for speaker in speakers:
            await speaker.goes_on()
    for index, room in enumerate(rooms):
        end = await voices[0].rooms.position(room)
        those = speakers[index::2]
        for number, somebody in enumerate(people[room]):
            await somebody.is_at(end)
            assert await gaps_in(workers, number, room) == 1
            assert somebody.framing.joins == [(room, None), (room, False)]
            said = {text for speaker in those for text in speaker.said}
            assert len(set(somebody.heard)) == len(somebody.heard), "nothing twice"
            assert set(somebody.heard) <= said
            for speaker in those:
                heard = [text for text in speaker.said if text in {*somebody.heard}]
                assert [text for text in somebody.heard if text in speaker.said] == heard
                assert somebody.heard[-1] in said
        assert all(speaker.refused == [] for speaker in those)


@pytest.mark.parametrize(("key", "recovered"), [("meta", False), ("stream", True)])
async def test_an_evicted_meta_or_stream_is_refused_never_guessed(
    redis: RedisServer, person: NewPerson, voices: list[Client], key: str, recovered: bool
) -> None:
    """As long as it is known where the room ends, who has missed nothing can be told so.

    And a worker that was there may have what is not kept any more.
    """
    room = f"evicted {key}"
    behind, abreast = person(room), person(room)
    for somebody in (behind, abreast):
        await somebody.comes(0)
        await say(voices[1], room, f"{somebody is abreast}")
        await somebody.hears(f"{somebody is abreast}")
        await somebody.is_cut_off()
    assert redis.admin.delete(f"rooms:{key}:{{/#{room}}}") == 1
    for worker in range(3):
        for somebody, expected in ((behind, recovered and worker == 0), (abreast, recovered)):
            positions, before = dict(somebody.framing.positions), len(somebody.heard)
            await somebody.comes(worker)
            assert somebody.recovered is expected
            await somebody.client.socket.send_text("end")
            missed = ["True"] if somebody is behind and expected else []
            assert (await somebody.hears("end"))[before:] == [*missed, "end"]
            await somebody.is_cut_off()
            somebody.framing.positions = positions
            del somebody.heard[before:]
    await say(voices[2], room, "new")
    await behind.comes(2)
    assert (behind.recovered, behind.replayed) == (False, 0)


async def test_an_append_only_file_that_lost_its_last_second_tells_every_member_who_had_seen_it(
    redis: RedisServer, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    """What `appendfsync everysec` may lose when the power fails: the end of the file."""
    room = "last second"
    people, safe = [person(room) for _ in range(3)], person(room)
    for number, somebody in enumerate(people):
        await somebody.comes(number)
    await safe.comes(0)
    await say(voices[0], room, "kept 1", "kept 2")
    await safe.hears("kept 2")
    await safe.is_cut_off()
    file = append_only_file(redis)
    synced = file.stat().st_size
    await say(voices[1], room, "lost 1", "lost 2")
    for somebody in people:
        await somebody.hears("lost 2")
    lost = people[0].position
    redis.kill()
    assert file.stat().st_size > synced
    os.truncate(file, synced)
    await start(redis)
    await say(voices[2], room, "new 1", "new 2", "new 3")
    await told(workers, room)
    await assert_nothing_later_is_missed(people, voices, room)
    await all_ready(workers)
    for number, somebody in enumerate(people):
        assert await gaps_in(workers, number, room) == 1, "once"
        assert somebody.framing.joins == [(room, None), (room, False)]
    late = person(room)
    assert lost is not None
    late.framing.positions = {room: lost}
    await late.comes(1)
    assert (late.recovered, late.replayed) == (False, 0)
    await safe.comes(2)
    assert safe.recovered is True
    assert [text for text in await safe.hears("later 4") if "lost" in text] == []
    assert safe.heard[:5] == ["kept 1", "kept 2", "new 1", "new 2", "new 3"]
