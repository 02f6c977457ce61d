"""Clients that were away get what they missed, on whichever of three workers they come to."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client, Refused
from tests.integration.workers import Workers
from tests.recovery.conftest import NewPerson
from tests.recovery.scene import SHORT, Person


def numbered(count: int, first: int = 0) -> list[str]:
    return [f"{number}" for number in range(first, first + count)]


async def say(voice: Client, room: str, *texts: str) -> None:
    for text in texts:
        await voice.rooms.to(room).send_text(text)


async def test_a_client_that_moves_to_another_worker_gets_exactly_what_it_missed(
    person: NewPerson, voices: list[Client]
) -> None:
    ann, bob = person("moves"), person("moves")
    await bob.comes(0)
    await ann.comes(0)
    await say(voices[1], "moves", "seen")
    await ann.hears("seen")
    for visit, worker in enumerate((1, 2, 0, 1)):
        await ann.is_cut_off()
        missed = [f"missed {number} before {visit}" for number in range(3)]
        await say(voices[2], "moves", *missed)
        await ann.comes(worker)
        assert (ann.recovered, ann.replayed) == (True, 3)
        await say(voices[0], "moves", f"new at {visit}")
        assert (await ann.hears(f"new at {visit}"))[-4:] == [*missed, f"new at {visit}"]
    assert ann.heard == await bob.hears("new at 3")


async def test_a_client_that_missed_nothing_is_recovered_with_nothing(
    person: NewPerson, voices: list[Client]
) -> None:
    ann = person("nothing missed")
    await ann.comes(0)
    await say(voices[1], "nothing missed", "seen")
    await ann.hears("seen")
    for worker in (0, 1):
        await ann.is_cut_off()
        await ann.comes(worker)
        assert (ann.recovered, ann.replayed) == (True, 0)
    assert ann.heard == ["seen"]


async def test_a_client_that_has_seen_nothing_yet_can_resume(
    person: NewPerson, voices: list[Client]
) -> None:
    ann, bob = person("unseen"), person("unseen")
    await ann.comes(0)  # where nothing was said ever
    await ann.is_cut_off()
    await say(voices[1], "unseen", "first")
    await bob.comes(2)  # where nothing was said since
    assert (bob.recovered, bob.replayed) == (None, 0)
    await bob.is_cut_off()
    await say(voices[1], "unseen", "second")
    for somebody, missed in ((ann, ["first", "second"]), (bob, ["second"])):
        await somebody.comes(1)
        assert somebody.recovered is True
        assert await somebody.hears("second") == missed


async def test_exactly_size_missed_is_recovered_one_more_is_refused_whole(
    person: NewPerson, voices: list[Client]
) -> None:
    room = "short-size"
    early, late, other = person(room), person(room), person(room)
    await other.comes(0)  # so that one worker has heard it all, and another has to read
    await early.comes(1)
    await early.is_cut_off()
    await say(voices[2], room, "one more")
    await other.hears("one more")
    await late.comes(1)
    await late.is_cut_off()
    await say(voices[2], room, *numbered(SHORT))
    for worker in (0, 2):
        for somebody, recovered in ((early, False), (late, True)):
            positions = dict(somebody.framing.positions)
            somebody.heard.clear()
            await somebody.comes(worker)
            assert (somebody.recovered, somebody.replayed) == (recovered, SHORT * recovered)
            await somebody.client.socket.send_text("end")
            assert await somebody.hears("end") == [*numbered(SHORT * recovered), "end"]
            await somebody.is_cut_off()
            somebody.framing.positions = positions  # as if it had not come


async def test_after_the_history_s_ttl_who_missed_nothing_is_recovered_who_missed_something_refused(
    redis: RedisServer, person: NewPerson, voices: list[Client]
) -> None:
    room = "brief-ttl"
    behind, abreast, bystander = person(room), person(room), person(room)
    await bystander.comes(0)  # so that one worker has heard it all
    for somebody in (behind, abreast):
        await somebody.comes(0)
        await say(voices[1], room, f"{somebody is abreast}")
        await somebody.hears(f"{somebody is abreast}")
        if somebody is behind:
            await behind.is_cut_off()
    await abreast.is_cut_off()
    await eventually(lambda: not redis.admin.exists(f"rooms:stream:{{/#{room}}}"))

    async def comes_again(somebody: Person, worker: int) -> tuple[bool | None, int]:
        positions = dict(somebody.framing.positions)
        await somebody.comes(worker)
        await somebody.is_cut_off()
        somebody.framing.positions = positions
        return somebody.recovered, somebody.replayed

    async def is_forgotten() -> bool:
        return await comes_again(behind, 0) == (False, 0)

    await eventually(is_forgotten, what="by the worker as well, which heard it a moment later")
    for worker in (0, 2):
        for somebody in (behind, abreast):
            assert await comes_again(somebody, worker) == (somebody is abreast, 0)


async def test_two_drops_in_a_row_double_nothing(person: NewPerson, voices: list[Client]) -> None:
    ann = person("two drops")
    await ann.comes(0)
    await ann.is_cut_off()
    await say(voices[0], "two drops", *numbered(200))
    for worker in (1, 2, 0):
        await ann.comes(worker)  # and is gone before it has seen that all have come
        await ann.is_cut_off()
        assert ann.recovered is True
    await say(voices[0], "two drops", "end")
    await ann.comes(1)
    assert await ann.hears("end") == [*numbered(200), "end"]


async def test_messages_published_during_replay_come_after_it_once(
    person: NewPerson, voices: list[Client]
) -> None:
    ann = person("during")
    await ann.comes(0)
    sent = 0
    for worker in (1, 2, 0, 1):
        await ann.is_cut_off()
        await say(voices[0], "during", *numbered(20, sent))
        sent += 20
        talking = asyncio.create_task(say(voices[2], "during", *numbered(60, sent)))
        await ann.comes(worker)
        await talking
        sent += 60
        assert ann.recovered is True
        assert await ann.hears(f"{sent - 1}") == numbered(sent)


async def test_a_sender_is_not_replayed_what_it_sent_before_it_reconnected(
    person: NewPerson, voices: list[Client]
) -> None:
    ann, bob = person("sender"), person("sender")
    await ann.comes(0)
    await bob.comes(1)
    positions = dict(ann.framing.positions)
    await ann.client.socket.to("sender").send_text("from ann")
    await say(voices[2], "sender", "to all")
    await ann.hears("to all")
    for worker in (2, 0):
        await ann.is_cut_off()
        ann.framing.positions = dict(positions)  # as if none of it had come
        ann.heard.clear()
        await ann.comes(worker)
        await ann.client.socket.to("sender").send_text(f"from ann on {worker}")
        await say(voices[2], "sender", f"end of {worker}")
        await ann.hears(f"end of {worker}")
    assert ann.heard == ["to all", "end of 2", "end of 0"]
    said = ["from ann", "to all", "from ann on 2", "end of 2", "from ann on 0", "end of 0"]
    assert await bob.hears("end of 0") == said


async def test_a_client_that_may_no_longer_join_is_replayed_nothing(
    person: NewPerson, voices: list[Client], workers: Workers
) -> None:
    room = "guarded-room"
    ann, bob = person(room), person(room)
    await bob.comes(1)  # so that what was missed is at hand there
    await ann.comes(0)
    await ann.is_cut_off()
    await say(voices[0], room, "a secret")
    await bob.hears("a secret")
    for worker in range(3):
        with pytest.raises(Refused, match="JoinRefused"):
            await ann.comes(worker, query="&guest=1")
        await ann.client.socket.send_text("end")
        assert await ann.hears("end") == ["end"]
        await ann.is_cut_off()
        ann.heard.clear()
    await ann.comes(2)
    assert ann.recovered is True
    assert await ann.hears("a secret") == ["a secret"]
    assert [len((await workers.state(n))["rooms"].get(room, [])) for n in range(3)] == [0, 1, 1]
