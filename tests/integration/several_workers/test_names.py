"""The names of rooms across real workers: any text of up to 255 bytes, and nothing else."""

from __future__ import annotations

import pytest

from fastapi_rooms.testing import RedisServer
from tests.integration.clients import Refused, heard
from tests.integration.several_workers.people import People

ODD_NAMES = [
    "*",
    "#",
    "##",
    "rooms#/#",
    "?",
    "[a-z]",
    "a*",
    "a b",
    " ",
    "\0",
    "a\0b",
    "\r\n",
    "👩‍👩‍👧",
    "e\u0301",
    "é",
    "/",
    "Tea",
    "tea",
    "TEA",
    "None",
    "x" * 255,
    "é" * 127,
]


async def test_odd_room_names_are_opaque(people: People, room: str) -> None:
    ann, *others = await people(1 + len(ODD_NAMES))
    for person, name in zip(others, ODD_NAMES, strict=True):
        await person.socket.join(name)
    for name in ODD_NAMES:
        await ann.rooms.to(name).send_text(f"to {name!r}")
    assert await heard(ann, ann, *others) == [[], *([f"to {name!r}"] for name in ODD_NAMES)]


@pytest.mark.parametrize(
    "name",
    ["", "x" * 256, "é" * 128, "\ud800", None, 7, ["tea"], b"tea"],
    ids=["empty", "256 bytes", "256 bytes of é", "lone surrogate", "None", "int", "list", "bytes"],
)
async def test_a_name_no_room_can_have_is_refused_before_anything_happens(
    people: People, room: str, redis: RedisServer, name: object
) -> None:
    ann, bob = await people(2)
    await bob.socket.join(room)
    attempts = [
        ann.socket.join(f"{room}-new", name),
        ann.socket.leave(f"{room}-new", name),
        ann.rooms.to(room, name).send_text("refused"),
        ann.rooms.to(room).except_(name).send_text("refused"),
        ann.socket.to(name).send_text("refused"),
    ]
    for attempt in attempts:
        with pytest.raises(Refused) as refusal:
            await attempt
        assert refusal.value.error == "InvalidRoomName"
    assert await ann.socket.rooms == [ann.sid]
    assert redis.numsub(f"rooms#/#{room}-new#") == 0
    assert await heard(ann, ann, bob) == [[], []]
