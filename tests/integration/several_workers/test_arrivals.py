"""What arrives on another real worker, in which order, and from when on."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.integration.clients import Client, heard
from tests.integration.several_workers.people import People


async def test_text_json_and_every_byte_arrive_as_they_were_sent(people: People, room: str) -> None:
    ann, bob, cid = await people(3)
    await bob.socket.join(room)
    await cid.socket.join(room)
    sending = ann.socket.to(room)
    await sending.send_text("Grüße 👋\n\0\u2028")
    await sending.send_text("")
    await sending.send_json({"a": [1, 2.5, None, True, "ü"]})
    await sending.send_bytes(bytes(range(256)))
    await sending.send_bytes(b"")
    expected = [
        "Grüße 👋\n\0\u2028",
        "",
        '{"a":[1,2.5,null,true,"ü"]}',
        bytes(range(256)),
        b"",
    ]
    assert await heard(ann, bob, cid) == [expected, expected]


async def test_a_mebibyte_arrives_whole(people: People, room: str) -> None:
    ann, bob, cid = await people(3)
    await bob.socket.join(room)
    await cid.socket.join(room)
    text = "".join(map(chr, range(0x20, 0x2020))) * 48
    text += "." * (1024 * 1024 - len(text.encode()))
    data = random.Random(1).randbytes(1024 * 1024)
    await ann.socket.to(room).send_text(text)
    await ann.socket.to(room).send_bytes(data)
    assert await heard(ann, bob, cid) == [[text, data], [text, data]]


async def test_two_thousand_messages_of_one_sender_arrive_in_order(
    people: People, room: str
) -> None:
    ann, bob, cid, dan = await people(4)
    for member in (bob, cid, dan):
        await member.socket.join(room)
    await asyncio.gather(*(ann.rooms.to(room).send_text(str(number)) for number in range(2000)))
    expected = [str(number) for number in range(2000)]
    assert await heard(ann, bob, cid, dan) == [expected] * 3


@pytest.mark.parametrize("way", ["burst", "burst_at_once"])
async def test_a_burst_of_one_endpoint_arrives_in_order(
    people: People, room: str, way: str
) -> None:
    ann, bob, cid, dan = await people(4)
    for member in (ann, bob, cid, dan):
        await member.socket.join(room)
    await getattr(ann.app, way)(room, 2000)
    expected = [str(number) for number in range(2000)]
    assert await heard(ann, ann, bob, cid, dan) == [[], *[expected] * 3]


# From when a room is heard.


async def test_150_fresh_rooms_are_heard_the_moment_join_returns(people: People, room: str) -> None:
    ann, bob = await people(2)
    for number in range(150):
        await bob.socket.join(f"{room}-{number}")
        await ann.rooms.to(f"{room}-{number}").send_text(str(number))
    assert await heard(ann, bob) == [[str(number) for number in range(150)]]


async def test_150_fresh_rooms_joined_by_many_at_once_are_heard_the_moment_join_returns(
    people: People, room: str
) -> None:
    ann, *members = await people(16)

    async def join_and_be_hailed(number: int) -> str:
        member = members[number % len(members)]
        await member.socket.join(f"{room}-{number}")
        await ann.rooms.to(f"{room}-{number}").send_text(str(number))
        return str(number)

    await asyncio.gather(*map(join_and_be_hailed, range(150)))
    messages = [message for hearing in await heard(ann, *members) for message in hearing]
    assert sorted(map(int, messages)) == list(range(150))


async def test_a_room_left_and_joined_again_at_once_misses_nothing(
    people: People, room: str
) -> None:
    ann, bob = await people(2)
    for number in range(50):
        await bob.socket.join(room)
        await ann.rooms.to(room).send_text(str(number))
        await heard_number(bob, str(number))
        await bob.socket.leave(room)


async def heard_number(client: Client, number: str) -> None:
    assert await client.next() == number
