"""All messages of a room in one order, on three workers that publish at once."""

from __future__ import annotations

import asyncio

from fastapi_rooms.testing import Direction, RedisServer, eventually
from tests.integration.clients import Client
from tests.integration.speakers import speaking
from tests.recovery.conftest import NewPerson
from tests.recovery.scene import Person, Wire, assert_all_heard_all


async def one_on_each(person: NewPerson, room: str) -> list[Person]:
    """Somebody on each worker, in the room."""
    people = [person(room) for _ in range(3)]
    for worker, somebody in enumerate(people):
        await somebody.comes(worker)
    return people


def offset_of(position: str | None) -> int:
    assert position is not None
    return int(position.split(".")[1])


async def test_two_workers_publishing_at_once_give_contiguous_offsets_and_one_order_everywhere(
    redis: RedisServer, person: NewPerson, voices: list[Client]
) -> None:
    people = await one_on_each(person, "two publish")
    before = offset_of(people[2].position)
    async with speaking(*[voice.rooms.to("two publish") for voice in voices[:2] * 2]) as speakers:
        for speaker in speakers:
            await speaker.goes_on()
    end = await voices[0].rooms.position("two publish")
    for somebody in people:
        await somebody.is_at(end)
    assert_all_heard_all(people, speakers)
    said = sum(len(speaker.said) for speaker in speakers)
    assert offset_of(end) == before + said
    entries = redis.command("XRANGE", "rooms:stream:{/#two publish}", "-", "+")
    offsets = [int(entry.split(b"-")[0]) for entry, _ in entries]
    assert offsets == [*range(before + 1, before + said + 1)][-len(offsets) :]


async def test_the_publisher_s_own_worker_has_the_same_order_as_the_others(
    person: NewPerson, voices: list[Client]
) -> None:
    """Nobody is served first: whoever publishes hears themselves where everyone else does."""
    people = await one_on_each(person, "own order")
    talking = [somebody.client.rooms.to("own order") for somebody in people]
    async with speaking(*talking * 2) as speakers:
        for speaker in speakers:
            await speaker.goes_on()
    await voices[0].rooms.to("own order").send_text("end")
    for somebody in people:
        await somebody.hears("end")
    assert_all_heard_all(people, speakers)
    kept = await voices[2].rooms.recent("own order", 1_000)
    assert kept == people[0].heard[-1_000:]


async def test_script_flush_in_full_flow_changes_neither_order_nor_count(
    redis: RedisServer, person: NewPerson, voices: list[Client]
) -> None:
    people = await one_on_each(person, "scripts")
    evaluated = redis.calls("eval")
    async with speaking(*[voice.rooms.to("scripts") for voice in voices * 2]) as speakers:
        for _ in range(8):
            redis.command("SCRIPT", "FLUSH")
            for speaker in speakers[:3]:
                await speaker.goes_on()
    assert redis.calls("eval") - evaluated >= 8, "it was missing, and was brought again"
    end = await voices[0].rooms.position("scripts")
    for somebody in people:
        await somebody.is_at(end)
    assert_all_heard_all(people, speakers)
    kept = await voices[1].rooms.recent("scripts", 1_000)
    assert kept == people[0].heard[-1_000:]


async def test_a_message_sent_again_after_a_reset_is_in_the_history_once(
    redis: RedisServer, wire: Wire, person: NewPerson, voices: list[Client]
) -> None:
    people = await one_on_each(person, "again")
    sent = []
    for number in range(3):
        scripts = redis.calls("evalsha")
        wire.do(lambda proxy: proxy.stall(Direction.TO_CLIENT))
        sending = [
            voice.rooms.to("again").send_text(f"{number} of {name}").begin()
            for name, voice in zip("abc", voices, strict=True)
        ]
        sent += [f"{number} of {name}" for name in "abc"]
        await eventually(lambda scripts=scripts: redis.calls("evalsha") >= scripts + 3)  # type: ignore[misc]
        wire.do(lambda proxy: proxy.cut())  # Redis has them, and nobody was told
        wire.do(lambda proxy: proxy.resume())
        await asyncio.gather(*sending)
    kept = await voices[0].rooms.recent("again", 100)
    assert sorted(kept) == sorted(sent)
    end = await voices[0].rooms.position("again")
    for somebody in people:
        await somebody.is_at(end)
        assert somebody.heard == kept
