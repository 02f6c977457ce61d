"""Redis refuses to keep messages: it is said at once, and nothing is half done."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client, Refused
from tests.integration.servers import Start
from tests.recovery.conftest import NewPerson
from tests.recovery.scene import start_worker

OWN_CHANNELS = (
    "&rooms#probe*",
    "&rooms#moved#",
    "&rooms#workers#",
    "&rooms#[0-9a-f]*",
    "&rooms#/*",
)
"""What a worker subscribes to at the start, and the rooms: of history's own there is one more."""


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ("allkeys allchannels +@all -xadd", "+xadd"),
        ("%R~* allchannels +@all", "~rooms:*"),
        (f"allkeys {' '.join(OWN_CHANNELS)} +@all", "&rooms#*"),
    ],
    ids=["command", "keys", "channels"],
)
async def test_a_missing_acl_right_is_named_at_start(
    redis: RedisServer, start: Start, rules: str, named: str
) -> None:
    """Before anybody sends something, in one line that says how to allow it."""
    redis.command("ACL", "SETUSER", "ann", "reset", "on", ">secret", *rules.split())
    server = start_worker(start, f"redis://ann:secret@{redis.host}:{redis.port}")
    try:
        await asyncio.to_thread(server.wait_for_workers)
        await eventually(
            lambda: any("ACL SETUSER" in line for line in server.complaints), what="it is named"
        )
        (line,) = [line for line in server.complaints if "ACL SETUSER" in line]
        assert line.endswith(f"ACL SETUSER <user> {named}")
        client = await Client.connect(server)
        with pytest.raises(Refused, match="AdapterUnavailable"):
            await client.rooms.to("refused").send_text("refused")
        await client.close()
    finally:
        redis.command("ACL", "DELUSER", "ann")


async def test_out_of_memory_is_raised_to_the_sender_and_nothing_is_half_published(
    redis: RedisServer, person: NewPerson, voices: list[Client]
) -> None:
    room = "memory"
    people = [person(room) for _ in range(3)]
    for number, somebody in enumerate(people):
        await somebody.comes(number)
    await voices[0].rooms.to(room).send_text("before")
    before = await voices[0].rooms.position(room)
    redis.admin.config_set("maxmemory", 1)
    try:
        for number, voice in enumerate(voices):
            with pytest.raises(Refused, match=r"AdapterUnavailable.*maxmemory"):
                await voice.rooms.to(room).send_text(f"refused {number}")
            with pytest.raises(Refused, match="AdapterUnavailable"):
                await people[number].client.rooms.to(room).send_text("refused as well")
            assert await voice.rooms.position(room) == before
    finally:
        redis.admin.config_set("maxmemory", 0)
    await voices[1].rooms.to(room).send_text("after")
    for number, somebody in enumerate(people):
        assert await somebody.hears("after") == ["before", "after"]
        assert await voices[number].rooms.recent(room) == ["before", "after"]
        assert somebody.framing.joins == [(room, None)]
    after = await voices[2].rooms.position(room)
    assert int(after.split(".")[1]) == int(before.split(".")[1]) + 1
